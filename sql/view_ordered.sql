--
-- Aggregates over an order: rank(), percent_rank() and cume_dist() of a row that is not there are
-- counts, and are kept as such.
--
\i sql/setup.inc
\i sql/aggregates.inc

-- the three of them, for a row and an order
CREATE FUNCTION tools.ranks(given text, columns text) RETURNS text LANGUAGE sql RETURN format(
  'rank(%1$s) WITHIN GROUP (ORDER BY %2$s) AS r, percent_rank(%1$s) WITHIN GROUP (ORDER BY %2$s) AS p, cume_dist(%1$s) WITHIN GROUP (ORDER BY %2$s) AS c',
  given, columns);
CREATE FUNCTION tools.ranked(name text, given text, columns text) RETURNS SETOF text LANGUAGE sql AS $$
  SELECT create_view(name, format('SELECT g, %s FROM events GROUP BY g', ranks(given, columns)))
  UNION ALL SELECT create_view(name || ' of all', format('SELECT %s FROM events', ranks(given, columns)))
$$;

BEGIN;
SELECT ranked('integer', '12', 'i4');
SELECT ranked('numeric', '0.05', 'n DESC');
SELECT ranked('text', $$'m'$$, 't COLLATE "C"');
SELECT ranked('enum', $$'ok'$$, 'e DESC');
SELECT ranked('cast', '''7''', 'i2::bigint % 20');
SELECT ranked('not a number', $$'NaN'$$, 'x8');
SELECT ranked('time', $$'2024-06-01'$$, 'tstz USING >');
SELECT ranked('padded', $$'3  '$$, 'c');
-- where nulls stand, in rows and in the one that is given
SELECT ranked('nulls first', '12', 'i4 NULLS FIRST');
SELECT ranked('descending', '12', 'i4 DESC');
SELECT ranked('nulls last', '12', 'i4 DESC NULLS LAST');
SELECT ranked('null', 'NULL', 'i4');
SELECT ranked('null first', 'NULL', 'i4 NULLS FIRST');
SELECT create_view('null of group', format('SELECT g, %s FROM events GROUP BY g', ranks('nullif(g, 2) * 10', 'i4 % 100')));
-- several columns, many peers
SELECT ranked('two', '3, 10', 'i4 % 7, i2 % 20');
SELECT ranked('three', $$2, NULL, 'happy'$$, 'i4 % 5 DESC, b NULLS FIRST, e');
SELECT ranked('nulls everywhere', 'NULL, 5, NULL', 'b, i2 % 10 DESC NULLS LAST, i8 % 10 NULLS FIRST');
SELECT ranked('record', '(3, 10)', '(i4 % 7, i2 % 20)');
COMMIT;

-- what is around them
BEGIN;
SELECT create_view('filters', $$
  SELECT g, rank(5) WITHIN GROUP (ORDER BY i4 % 10) FILTER (WHERE b), cume_dist(5) WITHIN GROUP (ORDER BY i4 % 10) FILTER (WHERE i2 > 0),
         percent_rank(5) WITHIN GROUP (ORDER BY i4 % 10) FILTER (WHERE false)
  FROM events GROUP BY g $$);
SELECT create_view('expressions', $$
  SELECT g, rank(5) WITHIN GROUP (ORDER BY i4 % 10) + rank(g) WITHIN GROUP (ORDER BY i2 % 10) AS sum, count(*) AS n, avg(n),
         CASE WHEN rank(5) WITHIN GROUP (ORDER BY i4 % 10) > 3 THEN 'high' ELSE 'low' END AS level, max(t)
  FROM events GROUP BY g HAVING cume_dist(5) WITHIN GROUP (ORDER BY i4 % 10) > 0.1 $$);
SELECT create_view('ordered', $$
  SELECT g, rank() OVER (ORDER BY rank(0) WITHIN GROUP (ORDER BY i4)) AS r, (SELECT max(k) FROM generate_series(1, rank(0) WITHIN GROUP (ORDER BY events.i4)) k) AS most
  FROM events GROUP BY g ORDER BY percent_rank(0) WITHIN GROUP (ORDER BY i4) DESC, g LIMIT 3 $$, true);
SELECT create_view('above', $$
  SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY s) AS median, rank(0) WITHIN GROUP (ORDER BY s), dense_rank(0) WITHIN GROUP (ORDER BY s)
  FROM (SELECT g, sum(i4) AS s FROM events GROUP BY g) q $$);
SELECT create_view('no rows', $$ SELECT rank(1) WITHIN GROUP (ORDER BY i4), percent_rank(1) WITHIN GROUP (ORDER BY i4), cume_dist(1) WITHIN GROUP (ORDER BY i4)
  FROM events WHERE id < 0 $$);
COMMIT;
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
SELECT feed('events', rows(1, 300));
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
SELECT feed('events', rows(301, 500));
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
SELECT count(*) AS views FROM made;

-- combined, and in a window
SELECT millrace.combine(r) = (SELECT r FROM plain."two of all") AS r, millrace.combine(p) = (SELECT p FROM plain."two of all") AS p,
       millrace.combine(c) = (SELECT c FROM plain."two of all") AS c
FROM live.two;
SET search_path = live, common, tools;
SELECT millrace.create_continuous_view('recent', 'SELECT g, ' || ranks('3, 10', 'i4 % 7, i2 % 20') || ' FROM events GROUP BY g', sliding_window => '1 hour', time_column => 'event_time');
SELECT 'SELECT g, ' || ranks('3, 10', 'i4 % 7, i2 % 20') ||
       $$ FROM events WHERE event_time > now() - interval '1 hour' AND event_time <= now() GROUP BY g $$ AS oracle \gset
SET search_path = plain, common, tools;
CREATE VIEW plain.recent AS :oracle;
SELECT check_view('recent');

-- what is written down is read again
SET search_path = tools;
SELECT pg_get_viewdef('live."null first of all"'::regclass);
\i sql/teardown.inc
