--
-- Sliding windows: a view shows the last stretch of time only.
--
\i sql/setup.inc
\i sql/aggregates.inc

\i sql/window.inc

-- Every aggregate, with and without groups, from several steps; late ones, future ones.
SELECT DISTINCT left(regexp_replace(create_window('agg ' || proname, format('SELECT g, %s FROM events /*where*/ GROUP BY g', columns), :'in'), '.*: ', ''), 200)
FROM (SELECT proname, string_agg(format(call, '') || format(' AS c%s, ', aggfnoid::oid) ||
        format(call, ' FILTER (WHERE id % 2 = 0)') || format(' AS f%s', aggfnoid::oid), ', ' ORDER BY aggfnoid::oid) AS columns
      FROM variant GROUP BY proname) v;
SELECT DISTINCT left(regexp_replace(create_window('one ' || proname, format('SELECT %s FROM events /*where*/', columns), :'in'), '.*: ', ''), 200)
FROM (SELECT proname, string_agg(format(call, '') || format(' AS c%s', aggfnoid::oid), ', ' ORDER BY aggfnoid::oid) AS columns
      FROM variant GROUP BY proname) v;
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
SELECT feed('events', rows(1, 300));
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
SELECT feed('events', rows(301, 500));
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
SELECT count(*) > 40 AS many FROM made;
-- Combined further.
SELECT compare('combine', 'SELECT millrace.combine(c2803) AS n FROM live."agg count"', 'SELECT count(*) AS n FROM plain.events ' || :'in');
SELECT string_agg(format('millrace.combine(c%1$s) AS c%1$s', aggfnoid::oid), ', ' ORDER BY aggfnoid::oid) AS live,
  string_agg(format(call, '') || format(' AS c%s', aggfnoid::oid), ', ' ORDER BY aggfnoid::oid) AS plain
FROM variant WHERE proname = 'avg' \gset
SELECT compare('combine avg', 'SELECT ' || :'live' || ' FROM live."agg avg"', 'SELECT ' || :'plain' || ' FROM plain.events ' || :'in');

-- The shapes of queries.
BEGIN;
SELECT create_window('own', $$
  SELECT g, longest(t), count_nulls(i4), my_avg(n), width(i4, 'x'), extent(i4, 'y'), max(t COLLATE "C") AS c, sum(i4) * 100 / nullif(count(*), 0) AS ratio
  FROM events /*where*/ GROUP BY g $$, :'in');
SELECT create_window('Weird "Name"', $$ SELECT g AS "The ""G""", count(*) AS "The Count" FROM events /*where*/ GROUP BY 1 HAVING count(*) > 20 $$, :'in');
SELECT create_window('ranked', $$ SELECT i2 % 3 AS m, count(*) AS n, rank() OVER (ORDER BY count(*)) AS r, sum(count(*)) OVER () AS s FROM events /*where*/ GROUP BY 1 $$, :'in');
SELECT create_window('limited', $$ SELECT g, count(*) AS n, avg(n) AS a FROM events /*where*/ GROUP BY g ORDER BY count(*) DESC, g LIMIT 3 $$, :'in');
SELECT create_window('distinct', $$ SELECT DISTINCT g, b FROM events /*where*/ $$, :'in');
SELECT create_window('hidden key', $$ SELECT count(*) AS n FROM events /*where*/ GROUP BY g, b $$, :'in');
SELECT create_window('appended', $$ SELECT id, g, event_time FROM events /*where*/ $$, :'in');
SELECT create_window('subquery', $$ SELECT h, count(*) AS n, max(d) AS d FROM (SELECT g % 2 AS h, d FROM (SELECT * FROM events /*where*/) q) r WHERE h IS NOT NULL GROUP BY h $$, :'in');
SELECT create_window('with', $$ WITH w AS (SELECT g, i4 FROM events /*where*/) SELECT g, sum(i4) AS s FROM w GROUP BY g $$, :'in');
SELECT create_window('above', $$ SELECT max(n) AS m, min(n) AS l FROM (SELECT g, count(*) AS n FROM events /*where*/ GROUP BY g) q $$, :'in');
SELECT create_window('nothing', $$ SELECT count(*) AS n, max(t) AS t FROM events WHERE id < 0 $$, '');
CREATE TABLE common.names (g int PRIMARY KEY, name text);
INSERT INTO common.names SELECT g, 'name ' || g % 3 FROM generate_series(1, 6) g;
SELECT create_window('joined', $$ SELECT name, count(*) AS n, avg(f8) AS a FROM names JOIN events USING (g) /*where*/ GROUP BY name $$, :'in');
SELECT create_window('left', $$ SELECT names.g, names.name, count(*) AS n FROM events LEFT JOIN names USING (g) /*where*/ GROUP BY names.g $$, :'in');
COMMIT;
SELECT c FROM check_views() c WHERE c !~ '^(agg|one) ';
SELECT feed('events', rows(501, 600));
SELECT c FROM check_views() c WHERE c !~ '^(agg|one) ';
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
-- from 16 on without the relation's name where there is one only
SELECT regexp_replace(pg_get_viewdef('live."Weird ""Name"""'::regclass), '"Weird ""Name""_mrel"\."', '"', 'g');
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'live.own_mrel'::regclass AND attname LIKE '\_%';
SELECT view, sliding_window, step, time_column FROM millrace.views WHERE view IN ('live.own'::regclass, 'live.appended'::regclass) ORDER BY view::text DESC;
-- A reader's rule survives a dump.
SELECT pg_get_viewdef('live.own'::regclass) AS def \gset
CREATE VIEW live.own_again AS :def
SELECT compare('again', 'SELECT * FROM live.own_again', 'SELECT * FROM plain.own');

-- Rows leave, and future ones come, without any message; what left is removed.
CREATE TABLE plain.ticks (id int, ts timestamptz);
SELECT create_stream('ticks');
SELECT create_window('short', 'SELECT count(*) AS n, max(id) AS m FROM ticks', '', '6 seconds', 'ts', '100 ms');
SELECT create_window('short_rows', 'SELECT id FROM ticks', '', '6 seconds', 'ts');
SELECT create_window('long', 'SELECT id, count(*) AS n FROM ticks GROUP BY id', '', '1 day', 'ts', '6 hours');
SELECT feed('ticks', $$ SELECT 1, clock_timestamp() UNION ALL SELECT 2, clock_timestamp() + interval '8 seconds' $$);
SELECT millrace.wait_for_latest('live.short', timeout => tools.patience()), millrace.wait_for_latest('live.long', timeout => tools.patience());
SELECT id, n FROM live.long WHERE id = 1;
CALL await('(SELECT n = 1 AND m = 2 FROM live.short)');
CALL await('(SELECT array_agg(id) = ARRAY[2] FROM live.short_rows)');
CALL await('(SELECT n = 0 AND m IS NULL FROM live.short)');
CALL await('NOT EXISTS (SELECT FROM live.short_rows)');
CALL await('NOT EXISTS (SELECT FROM live.short_mrel)');
CALL await('NOT EXISTS (SELECT FROM live.short_rows_mrel)');
-- Late by far, or without a time: never shown.
SELECT feed('ticks', $$ SELECT 3, now() - interval '10 years' UNION ALL SELECT 4, NULL UNION ALL SELECT 5, '-infinity' UNION ALL SELECT 6, 'infinity' UNION ALL SELECT 7, now() $$);
SELECT millrace.wait_for_latest('live.long', timeout => tools.patience());
SELECT id FROM live.long WHERE id NOT IN (1, 2) ORDER BY id;
SELECT wait_until('(SELECT count(*) FROM live.long_mrel WHERE id IN (3, 4, 5)) = 0');

-- The message's own timestamp, which need not be a column; or is one, of several types.
CREATE TABLE plain.stamps (id int, g int, t timestamp, d date, tz timestamptz);
SELECT create_stream('stamps', partitions => 2);
ALTER FOREIGN TABLE live.stamps ALTER tz OPTIONS (metadata 'timestamp');
DO $$ BEGIN EXECUTE format('CREATE FOREIGN TABLE live.bare (id int, g int) SERVER broker OPTIONS (topic %L)',
  (SELECT topic FROM tools.topic WHERE stream = 'stamps')); END $$;
CREATE VIEW plain.bare AS SELECT id, g, tz FROM plain.stamps;
SELECT create_window('by message', 'SELECT g, count(*) AS n FROM stamps /*where*/ GROUP BY g', $$ WHERE tz > now() - interval '1 hour' AND tz <= now() $$, time_column => NULL);
SELECT create_window('by bare message', 'SELECT g, count(*) AS n FROM bare /*where*/ GROUP BY g', $$ WHERE tz > now() - interval '1 hour' AND tz <= now() $$, time_column => NULL);
SELECT create_window('bare rows', 'SELECT id FROM (SELECT id, g FROM bare /*where*/) q JOIN names USING (g)', $$ WHERE tz > now() - interval '1 hour' AND tz <= now() $$, time_column => NULL);
SELECT create_window('both', 'SELECT g, count(*) AS n FROM (SELECT g FROM stamps /*where*/ UNION ALL SELECT g FROM bare /*where*/ UNION ALL SELECT g FROM stamps WHERE false) q GROUP BY g',
  $$ WHERE tz > now() - interval '1 hour' AND tz <= now() $$, time_column => NULL);
SELECT create_window('both rows', 'SELECT id FROM stamps /*where*/ UNION ALL SELECT id FROM bare /*where*/', $$ WHERE tz > now() - interval '1 hour' AND tz <= now() $$, time_column => NULL);
SELECT create_window('by timestamp', 'SELECT g, count(*) AS n FROM stamps /*where*/ GROUP BY g', $$ WHERE t > localtimestamp - interval '1 hour' AND t <= localtimestamp $$, time_column => 't');
SELECT create_window('by date', 'SELECT g, count(*) AS n FROM stamps /*where*/ GROUP BY g', $$ WHERE d > localtimestamp - interval '3 days' AND d <= localtimestamp $$, '3 days', 'd', '1 hour');
SELECT feed('stamps', $$ SELECT id, id % 5, localtimestamp - x, localtimestamp::date - id % 2 * 10, now() - x
  FROM generate_series(1, 90) id, LATERAL (SELECT (ARRAY['0', '25 minutes', '2 hours', '-20 minutes'])[id % 4 + 1]::interval AS x) y $$);
SELECT c FROM made m, check_view(m.name) c WHERE name ~ '^(by|b.*rows|both)' ORDER BY m.id;

-- Far in the future, as milliseconds that are microseconds are: by 48 bits it would be a second ago.
SELECT 'far_' || gen_random_uuid() AS far \gset
SELECT millrace.create_topic('broker', :'far', config => '{"message.timestamp.after.max.ms": 9223372036854775807}');
CREATE FOREIGN TABLE live.far (id int, at timestamptz OPTIONS (metadata 'timestamp')) SERVER broker OPTIONS (topic :'far');
CREATE FOREIGN TABLE live.far_bare (id int) SERVER broker OPTIONS (topic :'far');
SELECT millrace.create_continuous_view('live.recent', 'SELECT id FROM live.far_bare', sliding_window => '1 hour');
INSERT INTO live.far VALUES (1, to_timestamp(2 ^ 48 / 1000 + extract(epoch FROM now()) - 1)), (2, now() - interval '1 second');
SELECT millrace.wait_for_latest('live.recent', tools.patience());
SELECT * FROM live.recent;

-- Settings and other DDL.
SELECT millrace.deactivate('live.own');
SELECT millrace.truncate_continuous_view('live.nothing');
SELECT * FROM live.nothing;
SELECT millrace.activate('live.own');
SELECT check_view('own');
ALTER FOREIGN TABLE live.ticks RENAME ts TO "at";
ALTER FOREIGN TABLE live.ticks DROP COLUMN ts;
ALTER FOREIGN TABLE live.ticks RENAME id TO number;
SELECT count(*) FROM live.short;
DROP VIEW live.short;
SELECT count(*) FROM millrace.view_window w WHERE NOT EXISTS (SELECT FROM millrace.continuous_view v WHERE v.view = w.view);
CREATE VIEW live.wrapped AS SELECT number, ts FROM live.ticks;

-- Refused.
CREATE FUNCTION tools.refused_window(arguments text, query text DEFAULT 'SELECT g, count(*) FROM events GROUP BY g') RETURNS text
LANGUAGE sql AS $$ SELECT tools.refused(format('SELECT millrace.create_continuous_view(%L, %L, %s)', 'v', query, arguments)) $$;
SELECT refused_window($$ sliding_window => '0' $$);
SELECT refused_window($$ sliding_window => '-1 hour' $$);
SELECT refused_window($$ sliding_window => '1000000 years' $$);
SELECT refused_window($$ step => '1 minute' $$);
SELECT refused_window($$ time_column => 'event_time' $$);
SELECT refused_window($$ sliding_window => '1 hour', step => '2 hours' $$);
SELECT refused_window($$ sliding_window => '1 hour', step => '0' $$);
SELECT refused_window($$ sliding_window => '1 year', step => '1 month' $$);
SELECT refused_window($$ sliding_window => '1 hour', time_column => 'no such' $$);
SELECT refused_window($$ sliding_window => '1 hour', time_column => 'g' $$);
SELECT refused_window($$ sliding_window => '1 hour', time_column => 'count' $$);
SELECT refused_window($$ sliding_window => '1 hour', retention => '1 day', retention_column => 'g' $$);
SELECT refused_window($$ sliding_window => '1 hour', changes => true $$);
SELECT refused_window($$ sliding_window => '1 hour', time_column => 'ts' $$, 'SELECT count(*) FROM wrapped');
SELECT refused($$ SELECT millrace.set_retention('own', '1 day', 'g') $$);
SELECT refused($$ SELECT millrace.combine(g) FROM own $$);

-- Rights are those on the view.
CREATE ROLE test_reader;
GRANT USAGE ON SCHEMA live TO test_reader;
GRANT SELECT ON live.limited TO test_reader;
SET ROLE test_reader;
SELECT count(*), millrace.combine(n) > 0 AS combined FROM live.limited;
SELECT count(*) FROM live.limited_mrel;
SELECT * FROM millrace.view_window;
RESET ROLE;
DROP OWNED BY test_reader;
DROP ROLE test_reader;

\i sql/teardown.inc
