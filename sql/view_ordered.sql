--
-- Aggregates that cannot be combined themselves, but are had from others: ranks of a given row,
-- percentiles, distinct values, lists.
--
\i sql/setup.inc
\i sql/aggregates.inc
SET millrace.allow_growing_states = on;

-- ranks of all kinds, for a row and an order
CREATE FUNCTION tools.ranks(given text, columns text) RETURNS text LANGUAGE sql RETURN format(
  'rank(%1$s) WITHIN GROUP (ORDER BY %2$s) AS r, percent_rank(%1$s) WITHIN GROUP (ORDER BY %2$s) AS p, cume_dist(%1$s) WITHIN GROUP (ORDER BY %2$s) AS c, dense_rank(%1$s) WITHIN GROUP (ORDER BY %2$s) AS d',
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
SELECT create_view('record', 'SELECT rank((3, 10)) WITHIN GROUP (ORDER BY (i4 % 7, i2 % 20)), cume_dist((3, 10)) WITHIN GROUP (ORDER BY (i4 % 7, i2 % 20) DESC) FROM events');
COMMIT;

-- percentiles
BEGIN;
SELECT create_view('percentiles', $$
  SELECT g, percentile_cont(0.3) WITHIN GROUP (ORDER BY i4) AS i, percentile_cont(0.75) WITHIN GROUP (ORDER BY f8 DESC) AS f, percentile_cont(0.5) WITHIN GROUP (ORDER BY n) AS n,
         percentile_cont(0.1) WITHIN GROUP (ORDER BY iv) AS iv, percentile_cont(ARRAY[0, 0.5, NULL, 1]) WITHIN GROUP (ORDER BY i8 DESC) AS list,
         percentile_cont(ARRAY[0.2, 0.9]) WITHIN GROUP (ORDER BY iv DESC) AS ivs, percentile_cont(g / 10.0) WITHIN GROUP (ORDER BY i2) AS own,
         percentile_cont(NULL) WITHIN GROUP (ORDER BY i2) AS nothing, percentile_cont(0.5) WITHIN GROUP (ORDER BY x8) AS x8
  FROM events GROUP BY g $$);
SELECT create_view('discrete', $$
  SELECT g, percentile_disc(0.3) WITHIN GROUP (ORDER BY n) AS n, percentile_disc(0.5) WITHIN GROUP (ORDER BY t COLLATE "C" DESC) AS t, percentile_disc(0.9) WITHIN GROUP (ORDER BY e) AS e,
         percentile_disc(ARRAY[0.25, 0.75]) WITHIN GROUP (ORDER BY tstz DESC) AS times, percentile_disc(1) WITHIN GROUP (ORDER BY b) AS b, percentile_disc(0.5) WITHIN GROUP (ORDER BY u) AS u
  FROM events GROUP BY g $$);
SELECT create_view('modes', $$
  SELECT g, mode() WITHIN GROUP (ORDER BY i4 % 9) AS i, mode() WITHIN GROUP (ORDER BY i4 % 9 DESC) AS last, mode() WITHIN GROUP (ORDER BY left(t, 1) COLLATE "C") AS t, mode() WITHIN GROUP (ORDER BY e) AS e
  FROM events GROUP BY g $$);
SELECT create_view('quantiles of all', $$
  SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY i4) FILTER (WHERE b) - percentile_cont(0.25) WITHIN GROUP (ORDER BY i4) AS width, mode() WITHIN GROUP (ORDER BY g),
         percentile_disc(0.5) WITHIN GROUP (ORDER BY t) FILTER (WHERE false) AS none
  FROM events HAVING percentile_cont(0.5) WITHIN GROUP (ORDER BY i4) IS NOT NULL $$);
COMMIT;

-- distinct values, and lists
BEGIN;
SELECT create_view('distinct', $$
  SELECT g, count(DISTINCT i4 % 10) AS i4, count(DISTINCT n) AS n, count(DISTINCT x8) AS x8, count(DISTINCT left(t, 1)) AS t, count(DISTINCT c) AS c, count(DISTINCT b) AS b, count(DISTINCT e) AS e,
         count(DISTINCT tstz::date) AS d, count(DISTINCT iv) AS iv, count(DISTINCT a) AS a, count(DISTINCT r) AS r, count(DISTINCT y) AS y, count(DISTINCT id) FILTER (WHERE b) AS f, count(DISTINCT g) AS g1
  FROM events GROUP BY g $$);
SELECT create_view('distinct of all', $$ SELECT count(DISTINCT g), count(DISTINCT i2) * 100 / greatest(count(*), 1) AS share, count(id) AS n, count(DISTINCT n::text) AS texts FROM events $$);
SELECT create_view('lists', $$
  SELECT g, array_agg(DISTINCT i4 % 10) AS i, array_agg(DISTINCT left(t, 1) ORDER BY left(t, 1)) AS t, array_agg(t ORDER BY id) AS ts, string_agg(t, '|' ORDER BY id) AS s, string_agg(y, '\x00' ORDER BY id) AS y,
         json_agg(i4 ORDER BY id) AS j, jsonb_agg(t ORDER BY id) FILTER (WHERE b) AS jb, json_agg(DISTINCT e) AS je
  FROM events GROUP BY g $$);
SELECT create_view('objects', $$
  SELECT g, json_object_agg(id % 3, t ORDER BY id)::text AS j, jsonb_object_agg(id % 3, i4 ORDER BY id) AS jb, (json_object_agg(coalesce(left(t, 2), ''), a ORDER BY id) FILTER (WHERE b))::text AS ja,
         jsonb_object_agg(e, n ORDER BY id) FILTER (WHERE e IS NOT NULL) AS je, jsonb_object_agg(id, ROW(ts, x8)) AS rows, jsonb_object_agg(id, f8) FILTER (WHERE false) AS none
  FROM events GROUP BY g $$);
CREATE FUNCTION common.sorted(anyarray) RETURNS anyarray LANGUAGE sql IMMUTABLE AS $$ SELECT array_agg(x ORDER BY x) FROM unnest($1) x $$;
SELECT create_view('lists without order', $$
  SELECT g, sorted(array_agg(i4)) AS i, sorted(array_agg(t)) AS t, length(string_agg(t, '|')) AS s, length(string_agg(y, NULL)) AS y, jsonb_array_length(jsonb_agg(iv)) AS j, json_array_length(json_agg(t)) AS jt
  FROM events GROUP BY g $$);
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
SELECT create_view('totals', $$
  SELECT g, b, percentile_cont(0.5) WITHIN GROUP (ORDER BY i4), percentile_cont(g / 10.0) WITHIN GROUP (ORDER BY i4) AS own, count(DISTINCT i2 % 7), rank(50) WITHIN GROUP (ORDER BY i4),
         dense_rank(5, true) WITHIN GROUP (ORDER BY i2 % 9, b), array_agg(DISTINCT i2 % 5)
  FROM events GROUP BY ROLLUP (g, b) $$);
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
       millrace.combine(c) = (SELECT c FROM plain."two of all") AS c, millrace.combine(d) = (SELECT d FROM plain."two of all") AS d
FROM live.two;
SELECT millrace.combine(i) = (SELECT percentile_cont(0.3) WITHIN GROUP (ORDER BY i4) FROM plain.events) AS i FROM live.percentiles;
SELECT millrace.combine(t) = (SELECT count(DISTINCT left(t, 1)) FROM plain.events) AS t FROM live.distinct;
-- a rank of a row that the group gives: of one group it could be, of several there is none
\set VERBOSITY default
SELECT millrace.combine(r) FROM live."null of group";
\set VERBOSITY terse
SELECT millrace.combine(p) FROM live."null of group";
SELECT millrace.combine(c) OVER () FROM live."null of group";
SELECT g, millrace.combine(d) FROM live."null of group" GROUP BY g;
SELECT millrace.combine(sum) FROM live.expressions;
SET search_path = live, common, tools;
SELECT 'SELECT g, percentile_cont(0.4) WITHIN GROUP (ORDER BY i4), count(DISTINCT i2), array_agg(DISTINCT e), ' || ranks('3, 10', 'i4 % 7, i2 % 20') AS output \gset
SELECT millrace.create_continuous_view('recent', :'output' || ' FROM events GROUP BY g', sliding_window => '1 hour', time_column => 'event_time');
SELECT :'output' ||
       $$ FROM events WHERE event_time > now() - interval '1 hour' AND event_time <= now() GROUP BY g $$ AS oracle \gset
SET search_path = plain, common, tools;
CREATE VIEW plain.recent AS :oracle;
SELECT check_view('recent');

-- what is written down is read again
SET search_path = tools;
\set ECHO none
SELECT format('CREATE VIEW tools.%I AS %s', relname, pg_get_viewdef(oid)) FROM pg_class
WHERE oid IN ('live."null first"'::regclass, 'live.modes'::regclass, 'live.lists'::regclass, 'live.objects'::regclass) ORDER BY relname \gexec
\set ECHO all
SELECT d FROM unnest(ARRAY['"null first"', 'modes', 'lists', 'objects']) v, differences('tools.' || v, 'live.' || v) d;
-- What stands in another order than values do is refused.
SELECT create_view('descending list', $$ SELECT array_agg(i4 ORDER BY id DESC) FROM events $$);
SELECT create_view('dense rank', $$ SELECT dense_rank(1, 1) WITHIN GROUP (ORDER BY n, f8) FROM events $$);
SELECT create_view('total', $$ SELECT g, rank(g) WITHIN GROUP (ORDER BY i4) FROM events GROUP BY ROLLUP (g) $$);
SELECT create_view('sum', $$ SELECT sum(DISTINCT i4) FROM events $$);
\i sql/teardown.inc
