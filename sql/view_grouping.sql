--
-- GROUPING SETS, ROLLUP and CUBE.
--
\i sql/setup.inc

CREATE TABLE common.names (g int PRIMARY KEY, name text, kind text);
INSERT INTO common.names SELECT g, nullif('name ' || g, 'name 3'), 'kind ' || g % 2 FROM generate_series(0, 5) g;
CREATE TABLE plain.events (id int, g int, h text, b boolean, x bigint, n numeric, ts timestamptz);
CREATE TABLE plain.more (LIKE plain.events);
SELECT create_stream('events', partitions => 2), create_stream('more');
CREATE FUNCTION rows(first int, last int) RETURNS text LANGUAGE sql RETURN format($$
  SELECT id, nullif(id %% 5, 0), (ARRAY['a', 'b', NULL])[id %% 3 + 1], CASE id %% 3 WHEN 1 THEN true WHEN 2 THEN false END,
    (id * 7919) %% 1009 - 400, (id %% 7) / 2.0, timestamptz '2024-03-30 22:00+00' + id * interval '11 minutes'
  FROM generate_series(%s, %s) id$$, first, last);
CREATE FUNCTION refused(query text) RETURNS text LANGUAGE plpgsql SET search_path = live, common, tools AS $$
DECLARE
  hint text;
BEGIN
  PERFORM millrace.create_continuous_view('live.refused', query);
  RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
  RETURN concat_ws(' | ', sqlstate, sqlerrm, nullif(hint, ''));
END $$;

-- The empty set has its row from the start.
BEGIN;
SELECT create_view('rollup', $$ SELECT g, h, count(*), sum(x), avg(n), max(id), GROUPING(g, h), GROUPING(h) AS no_h FROM events GROUP BY ROLLUP (g, h) $$);
SELECT create_view('cube', $$ SELECT GROUPING(b), g, h, b, count(*) AS n, GROUPING(g, h, b) AS all_bits, GROUPING(b, g) AS some_bits, GROUPING(h) AS no_h, sum(n) FROM events GROUP BY CUBE (g, h, b) $$);
SELECT create_view('sets', $$ SELECT g, h, b, count(*), stddev(n) FROM events GROUP BY GROUPING SETS ((g, h), (h, b), (g)) $$);
SELECT create_view('sets_empty', $$ SELECT g, count(*), min(h) FROM events GROUP BY GROUPING SETS ((), (g)) $$);
SELECT create_view('sets_nested', $$ SELECT g, h, b, count(*) FROM events GROUP BY GROUPING SETS (ROLLUP (g, h), CUBE (b)) $$);
SELECT create_view('sets_composite', $$ SELECT g, h, b, count(*) FROM events GROUP BY ROLLUP ((g, h), b) $$);
SELECT create_view('duplicates', $$ SELECT g, count(*), sum(x) FROM events GROUP BY GROUPING SETS ((g), (g), ()) $$);
SELECT create_view('duplicates_of_all', $$ SELECT g, count(*), GROUPING(g) FROM events GROUP BY GROUPING SETS ((g), (g)) $$);
SELECT create_view('empty_twice', $$ SELECT count(*), max(h) FROM events GROUP BY GROUPING SETS ((), ()) $$);
SELECT create_view('empty_once', $$ SELECT count(*), max(h) FROM events GROUP BY () $$);
SELECT create_view('product', $$ SELECT g, h, b, count(*), GROUPING(g, h, b) FROM events GROUP BY ROLLUP (g, h), ROLLUP (g, b) $$);
SELECT create_view('product_distinct', $$ SELECT g, h, b, count(*) FROM events GROUP BY DISTINCT ROLLUP (g, h), ROLLUP (g, b) $$);
SELECT create_view('product_plain', $$ SELECT g, h, b, count(*), sum(x) FROM events GROUP BY g, ROLLUP (h, b) $$);
SELECT create_view('one_set', $$ SELECT g, h, count(*), GROUPING(g), GROUPING(g, h) AS both FROM events GROUP BY GROUPING SETS ((g, h)) $$);
SELECT create_view('grouping_alone', $$ SELECT g, GROUPING(g), count(*) FROM events GROUP BY g $$);
SELECT create_view('no_aggregate', $$ SELECT g, h FROM events GROUP BY ROLLUP (g, h) $$);
SELECT create_view('no_aggregate_cube', $$ SELECT h, GROUPING(g, h) AS s FROM events GROUP BY CUBE (g, h) $$);
SELECT * FROM live.rollup;
SELECT * FROM live.empty_twice;
COMMIT;
SELECT check_views();

-- What is made of the groups: expressions over columns that a set lacks are over nulls.
BEGIN;
SELECT create_view('expressions', $$ SELECT g + 1 AS g1, coalesce(h, 'none') || '!' AS shown, g IS NULL AS no_g, CASE WHEN GROUPING(g) = 1 THEN 'total' ELSE g::text END AS label,
  count(*) * 2 + coalesce(g, 100) AS mixed FROM events GROUP BY ROLLUP (g, h) $$);
SELECT create_view('by_expression', $$ SELECT date_trunc('hour', ts) AS hour, g % 2 AS odd, (g % 2) * 10 AS ten, count(*), sum(g % 2) FROM events GROUP BY ROLLUP (date_trunc('hour', ts), g % 2) $$);
SELECT create_view('by_ordinal', $$ SELECT upper(h), x % 3 AS m, count(*) FROM events GROUP BY CUBE (2, 1) $$);
SELECT create_view('by_same_twice', $$ SELECT g AS a, g AS b, count(*), GROUPING(g) FROM events GROUP BY GROUPING SETS ((a), (b)) $$);
SELECT create_view('by_constant', $$ SELECT 'all' AS k, g, count(*) FROM events GROUP BY ROLLUP (k, g) $$);
SELECT create_view('by_collation', $$ SELECT h COLLATE "C" AS h, count(*) FROM events GROUP BY ROLLUP (h COLLATE "C") $$);
SELECT create_view('by_hidden', $$ SELECT count(*), min(id) FROM events GROUP BY ROLLUP (g, b) $$);
SELECT create_view('aggregates_of_keys', $$ SELECT g, sum(g), count(g), max(h), count(*) FILTER (WHERE g = 1) AS ones, sum(x) FILTER (WHERE b) AS fx FROM events GROUP BY ROLLUP (g, h) $$);
SELECT create_view('having', $$ SELECT g, h, count(*) FROM events GROUP BY ROLLUP (g, h) HAVING count(*) > 12 OR GROUPING(h) = 1 AND g IS NOT NULL $$);
SELECT create_view('having_grouping', $$ SELECT g, sum(x) FROM events GROUP BY CUBE (g, b) HAVING GROUPING(g, b) IN (0, 2) $$);
SELECT create_view('having_null', $$ SELECT g, h, count(*) FROM events GROUP BY ROLLUP (g, h) HAVING g IS NULL $$);
SELECT create_view('having_false', $$ SELECT g, count(*) FROM events GROUP BY ROLLUP (g) HAVING false $$);
SELECT create_view('ordered', $$ SELECT g, h, count(*) FROM events GROUP BY ROLLUP (g, h) ORDER BY GROUPING(g), g NULLS FIRST, GROUPING(h) DESC, h $$, true);
SELECT create_view('limited', $$ SELECT g, sum(x) AS s FROM events GROUP BY ROLLUP (g, h) ORDER BY s DESC NULLS LAST, g, h LIMIT 4 $$, true);
SELECT create_view('select_distinct', $$ SELECT DISTINCT g, count(*) / 10 AS tens FROM events GROUP BY CUBE (g, h) $$);
SELECT create_view('select_distinct_on', $$ SELECT DISTINCT ON (GROUPING(g)) GROUPING(g), g, h, sum(x) AS s FROM events GROUP BY ROLLUP (g, h) ORDER BY GROUPING(g), s DESC NULLS LAST, g, h $$, true);
SELECT create_view('ranked', $$ SELECT g, h, rank() OVER (PARTITION BY GROUPING(g, h) ORDER BY sum(x), g, h), sum(count(*)) OVER (PARTITION BY GROUPING(g, h)) AS total FROM events GROUP BY ROLLUP (g, h) $$);
SELECT create_view('filtered', $$ SELECT g, h, count(*) FROM events WHERE b AND x > 0 GROUP BY ROLLUP (g, h) $$);
SELECT create_view('nothing', $$ SELECT g, count(*), sum(x) FROM events WHERE id < 0 GROUP BY ROLLUP (g) $$);
SELECT create_view('nothing_no_total', $$ SELECT g, h, count(*) FROM events WHERE id < 0 GROUP BY GROUPING SETS ((g), (h)) $$);
SELECT create_view('joined', $$ SELECT kind, name, e.h, count(*), max(name || x) FROM events e JOIN names USING (g) GROUP BY ROLLUP (kind, name), e.h $$);
SELECT create_view('left_joined', $$ SELECT name, b, count(*), count(kind) AS kinds FROM events e LEFT JOIN names ON names.g = e.g + 1 GROUP BY CUBE (name, b) $$);
SELECT create_view('joined_using', $$ SELECT g, count(*) FROM events JOIN names USING (g) GROUP BY ROLLUP (g) $$);
SELECT create_view('dependent', $$ SELECT n.g, n.name, e.h, count(*) FROM events e JOIN names n ON n.g = e.g GROUP BY n.g, ROLLUP (e.h) $$);
SELECT create_view('over_union', $$ SELECT g, h, count(*), sum(x) FROM (SELECT g, h, x FROM events UNION ALL SELECT g, upper(h), -x FROM more) u GROUP BY CUBE (g, h) $$);
SELECT create_view('over_distinct', $$ SELECT g, h, sum(n) AS n FROM (SELECT g, h, count(*) AS n FROM events GROUP BY ROLLUP (g, h)) s GROUP BY ROLLUP (g, h) $$);
SELECT create_view('above', $$ SELECT s.g, s.n, names.name FROM (SELECT g, count(*) AS n, GROUPING(g) AS total FROM events GROUP BY ROLLUP (g)) s LEFT JOIN names USING (g) WHERE total = 0 $$);
SELECT create_view('below', $$ WITH e AS (SELECT coalesce(g, -1) AS k, h, x FROM events WHERE b IS NOT TRUE) SELECT k, h, sum(x) FROM e GROUP BY ROLLUP (k, h) $$);
SELECT create_view('subquery', $$ SELECT g, (SELECT name FROM names n WHERE n.g = e.g) AS name, (SELECT count(*) + GROUPING(e.g) FROM names) AS s, count(*) FROM events e GROUP BY ROLLUP (g) $$);
SELECT create_view('sets_returning', $$ SELECT g, generate_series(1, count(*)::int % 3) AS i FROM events GROUP BY ROLLUP (g) $$);
COMMIT;
SELECT feed('events', rows(1, 40)), feed('more', rows(1, 10));
SELECT check_views();
SELECT feed('events', rows(41, 300)), feed('more', rows(5, 20));
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
SELECT feed('events', rows(20, 25));
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
SELECT attname, atttypid::regtype FROM pg_attribute WHERE attrelid = 'live.rollup_mrel'::regclass AND attnum > 0;
SELECT pg_get_viewdef('live.product');

-- What is refused.
SELECT refused('SELECT 1 AS one FROM events GROUP BY ()');
SELECT refused('SELECT count(*) FROM events GROUP BY CUBE (' || string_agg('x + ' || i, ', ') || ')') FROM generate_series(1, 13) i;
SELECT refused('SELECT count(*) FROM events GROUP BY ROLLUP (' || string_agg('x + ' || i, ', ') || ')') FROM generate_series(1, 32) i;
SELECT refused('SELECT g, (SELECT max(g) FROM (SELECT g FROM events GROUP BY ROLLUP (g)) s) FROM names');
SELECT create_view('many', 'SELECT x + 31 AS k, count(*), GROUPING(' || string_agg('x + ' || i, ', ') || ') AS s FROM events GROUP BY ROLLUP (' || string_agg('x + ' || i, ', ') || ')')
FROM generate_series(1, 31) i;
SELECT check_view('many');

-- Emptied, and made anew.
SELECT millrace.truncate_continuous_view('live.rollup'), millrace.truncate_continuous_view('live.duplicates'), millrace.truncate_continuous_view('live.sets');
SELECT * FROM live.rollup;
SELECT * FROM live.duplicates;
SELECT * FROM live.sets;
SELECT millrace.rebuild('live.rollup'), millrace.rebuild('live.duplicates'), millrace.rebuild('live.nothing'), millrace.rebuild('live.sets');
SELECT check_view(v) FROM unnest(ARRAY['rollup', 'duplicates', 'nothing', 'sets']) v;
SELECT feed('events', rows(301, 320));
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';

-- combine(): of the rows that the query chooses.
CREATE FUNCTION tools.compare(label text, a text, b text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE 'CREATE TEMP VIEW a AS ' || a;
  EXECUTE 'CREATE TEMP VIEW b AS ' || b;
  RETURN QUERY SELECT label || ': ' || d FROM differences('pg_temp.a', 'pg_temp.b') d;
  IF NOT FOUND THEN RETURN NEXT label || ': equal'; END IF;
  DROP VIEW a, b;
END $$;
SELECT create_view('leveled', 'SELECT GROUPING(g, h) AS level, g, h, count(*) AS n, avg(n) AS mean, max(x) AS top FROM events GROUP BY CUBE (g, h)');
SELECT check_view('leveled');
SELECT compare('to the total', 'SELECT millrace.combine(n) AS n, millrace.combine(mean) AS mean FROM live.leveled WHERE level = 0', 'SELECT count(*) AS n, avg(n) AS mean FROM plain.events');
SELECT compare('from one set to another', 'SELECT h, millrace.combine(mean) AS mean, millrace.combine(top) AS top FROM live.leveled WHERE level = 0 GROUP BY h',
  'SELECT h, mean, top FROM live.leveled WHERE level = 2');
SELECT compare('rolled up further', 'SELECT g, h, millrace.combine(mean) AS mean FROM live.leveled WHERE level = 0 GROUP BY ROLLUP (g, h)', 'SELECT g, h, avg(n) AS mean FROM plain.events GROUP BY ROLLUP (g, h)');
SELECT compare('all rows', 'SELECT millrace.combine(n) AS n FROM live.leveled', 'SELECT 4 * count(*) AS n FROM plain.events');

-- Retention: the groups of sets without the column are kept, and count everything.
CREATE TABLE plain.timed (t timestamptz, g int);
SELECT create_stream('timed');
SELECT millrace.create_continuous_view('live.kept', $$ SELECT date_trunc('minute', t) AS minute, g, count(*) AS n, GROUPING(date_trunc('minute', t), g) AS s
  FROM live.timed GROUP BY CUBE (date_trunc('minute', t), g) $$, retention => '5 hours', retention_column => 'minute') IS NOT NULL AS made;
SELECT feed('timed', $$ SELECT now() - i * interval '1 hour' - interval '30 minutes', i % 2 FROM generate_series(0, 9) i UNION ALL SELECT NULL, 1 $$);
SELECT millrace.wait_for_latest('live.kept', timeout => tools.patience());
SELECT s, count(*), sum(n) FROM live.kept GROUP BY s ORDER BY s;
SELECT late_events FROM millrace.views WHERE view = 'live.kept'::regclass;
SELECT wait_until($$ NOT EXISTS (SELECT FROM live.kept_mrel WHERE minute = '-infinity') $$);
SELECT s, count(*), sum(n) FROM live.kept GROUP BY s ORDER BY s;
SELECT millrace.set_retention('live.kept', '2 hours', 'minute');
SELECT s, count(*), sum(n) FROM live.kept GROUP BY s ORDER BY s;

-- Sliding windows: the total has its row even when the window is empty.
SELECT millrace.create_continuous_view('live.sliding', $$ SELECT g, count(*) AS n, GROUPING(g) AS s, sum(g) FROM live.timed GROUP BY ROLLUP (g) $$,
  sliding_window => '5 hours', time_column => 't', step => '1 minute') IS NOT NULL AS made;
SELECT millrace.create_continuous_view('live.sliding_twice', $$ SELECT g, count(*) AS n FROM live.timed GROUP BY GROUPING SETS ((), (), (g)) $$,
  sliding_window => '5 hours', time_column => 't', start_at => 'latest') IS NOT NULL AS made;
SELECT * FROM live.sliding_twice;
SELECT millrace.wait_for_latest('live.sliding', timeout => tools.patience());
SELECT compare('sliding', 'SELECT * FROM live.sliding', $$ SELECT g, count(*) AS n, GROUPING(g) AS s, sum(g) FROM plain.timed
  WHERE t > now() - interval '5 hours' AND t <= now() GROUP BY ROLLUP (g) $$);
SELECT compare('sliding combined', 'SELECT millrace.combine(n) AS n FROM live.sliding WHERE s = 0', $$ SELECT count(*) AS n FROM plain.timed
  WHERE t > now() - interval '5 hours' AND t <= now() $$);
SELECT millrace.rebuild('live.sliding');
SELECT millrace.wait_for_latest('live.sliding', timeout => tools.patience());
SELECT compare('sliding again', 'SELECT * FROM live.sliding', $$ SELECT g, count(*) AS n, GROUPING(g) AS s, sum(g) FROM plain.timed
  WHERE t > now() - interval '5 hours' AND t <= now() GROUP BY ROLLUP (g) $$);
SELECT millrace.truncate_continuous_view('live.sliding');
SELECT * FROM live.sliding;

-- A message that cannot be taken is in no set.
SELECT create_view('divided', $$ SELECT g, h, sum(100 / x) AS s, count(*) FROM events WHERE id > 400 GROUP BY ROLLUP (g, h) $$);
INSERT INTO live.events SELECT 400 + i, i % 3, 'd', true, i - 3, i, now() FROM generate_series(1, 5) i;
INSERT INTO plain.events SELECT 400 + i, i % 3, 'd', true, i - 3, i, now() FROM generate_series(1, 5) i WHERE i <> 3;
SELECT check_view('divided');
SELECT count(*), min(error) FROM millrace.dead_letters WHERE view = 'live.divided'::regclass;

\i sql/teardown.inc
