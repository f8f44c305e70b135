--
-- What is rarely written: views over attached tables, so that no broker is needed.
--
\set over_tables on
\i sql/setup.inc
SELECT count(*) > 0 AS icu FROM pg_collation WHERE collprovider = 'i' \gset
\if :icu
CREATE COLLATION common.natural (provider = icu, locale = 'en');
\else
CREATE COLLATION common.natural FROM "C";
\endif
SET millrace.allow_growing_states = on;

CREATE TABLE common.people (k int PRIMARY KEY, name text, w int);
INSERT INTO common.people VALUES (1, 'one', 10), (2, NULL, 20), (4, 'four', 40);
CREATE TABLE plain.events (id int, k int, s text, v numeric, tags text[], j jsonb);
SELECT create_stream('events');
SELECT feed('events', $$ VALUES (1, 1, 'a', 1.0, '{x,y}'::text[], '{"a": 1}'::jsonb), (2, 1, 'B', 1.00, '{x}', '[1]') $$);
CREATE FUNCTION feed_more() RETURNS SETOF text LANGUAGE sql AS $f$
  SELECT feed('events', $$ VALUES (3, 2, NULL, 'NaN'::numeric, NULL::text[], NULL::jsonb), (4, 2, 'b', 2.5, '{}', 'null') $$)
  UNION ALL SELECT feed('events', $$ VALUES (5, NULL, 'A', 1, '{y,NULL}'::text[], '"s"'::jsonb), (6, 3, 'ä', -7.25, '{z}', '{"a": 1.0}') $$)
$f$;
-- What is written down is read again, with the same result.
CREATE FUNCTION check_again() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  v made;
BEGIN
  FOR v IN SELECT * FROM made ORDER BY id LOOP
    EXECUTE format('CREATE TEMP VIEW again AS %s', pg_get_viewdef(format('live.%I', v.name)::regclass));
    RETURN QUERY SELECT v.name || ' again: ' || d FROM differences('again', format('plain.%I', v.name), v.ordered) d;
    DROP VIEW again;
  END LOOP;
END $$;

-- an order under another collation than that of the values, or of values that have none
SELECT create_view('ordered', $$
  SELECT k, array_agg(s ORDER BY s COLLATE "natural") AS a, string_agg(s, ',' ORDER BY s COLLATE "natural") AS s, string_agg(s COLLATE "C", s ORDER BY s COLLATE "natural") AS c,
         array_agg(id ORDER BY s COLLATE "natural") FILTER (WHERE false) AS none, json_agg(s ORDER BY s COLLATE "natural")::text AS j
  FROM events GROUP BY k $$);
SELECT create_view('ordered_ids', $$
  SELECT array_agg(id ORDER BY s COLLATE "natural") AS a, jsonb_agg(id ORDER BY s COLLATE "natural") AS j, jsonb_object_agg(1, id ORDER BY s COLLATE "natural") FILTER (WHERE s IS NOT NULL) AS o,
         string_agg(convert_to(s, 'UTF8'), ',' ORDER BY s COLLATE "natural") AS b, array_agg(s ORDER BY s COLLATE "natural") || ARRAY['z'] AS more
  FROM events $$);
SELECT create_view('first_ids', $$ SELECT millrace.first(id, s COLLATE "natural", 4) AS f, millrace.array_agg(id, s COLLATE "natural") AS a FROM events $$);
-- rows that are not there
CREATE TYPE common.person AS (k int, name text);
CREATE FUNCTION common.person(people) RETURNS person LANGUAGE sql IMMUTABLE AS 'SELECT CASE WHEN $1.k IS NOT NULL THEN ROW($1.k, $1.name)::common.person END';
SELECT create_view('nobody', $$
  SELECT e.k, json_agg(person(p) ORDER BY e.id)::text AS j, jsonb_agg(person(p) ORDER BY e.id) AS jb, json_object_agg(e.id, person(p) ORDER BY e.id)::text AS o, array_agg(person(p) ORDER BY e.id) AS a,
         mode() WITHIN GROUP (ORDER BY person(p)) AS m, count(DISTINCT person(p)) AS n, millrace.last(person(p), e.id) AS l
  FROM events e LEFT JOIN people p USING (k) GROUP BY e.k $$);
SELECT feed_more();
SELECT check_views();
SELECT check_again();

-- groups are told apart by a type's default operators only
CREATE TYPE common.boxed AS (v numeric);
SELECT create_view('image', $$ SELECT b, count(*) FROM (SELECT ROW(v)::boxed AS b FROM events) q GROUP BY b ORDER BY b USING OPERATOR(pg_catalog.*<) $$);
SELECT create_view('image_distinct', $$ SELECT DISTINCT b FROM (SELECT ROW(v)::boxed AS b FROM events) q ORDER BY b USING OPERATOR(pg_catalog.*<) $$);
SELECT create_view('image_first', $$ SELECT DISTINCT ON (b) b, id FROM (SELECT ROW(v)::boxed AS b, id FROM events) q ORDER BY b USING OPERATOR(pg_catalog.*<), id $$);
SELECT create_view('image_count', $$ SELECT count(DISTINCT b ORDER BY b USING OPERATOR(pg_catalog.*<)) FROM (SELECT ROW(v)::boxed AS b FROM events) q $$);
SELECT create_view('image_rank', $$ SELECT dense_rank(ROW(1.0)::boxed) WITHIN GROUP (ORDER BY b USING OPERATOR(pg_catalog.*<)) FROM (SELECT ROW(v)::boxed AS b FROM events) q $$);
SELECT create_view('image_outside', $$ SELECT b, n FROM (SELECT b, count(*) AS n FROM (SELECT ROW(abs(v))::boxed AS b FROM events) r GROUP BY b) q ORDER BY b USING OPERATOR(pg_catalog.*<) $$);

-- nor can all that is possible be written down again
SELECT create_view('json', $$ SELECT JSON_OBJECTAGG(s VALUE id) FROM events $$) ~ CASE WHEN current_setting('server_version_num')::int < 160000 THEN '42601' ELSE '0A000 JSON_OBJECTAGG' END AS refused;
SELECT create_view('json_list', $$ SELECT k, JSON_ARRAYAGG(id NULL ON NULL) FROM events GROUP BY k $$) ~ CASE WHEN current_setting('server_version_num')::int < 160000 THEN '42601' ELSE '0A000 JSON_OBJECTAGG' END AS refused;

-- a stream below WITH in an ordinary view
CREATE VIEW plain.below AS WITH e AS (SELECT k, v, s FROM plain.events), f AS (SELECT * FROM e WHERE v < 100) SELECT k, v FROM f;
CREATE VIEW live.below AS WITH e AS (SELECT k, v, s FROM live.events), f AS (SELECT * FROM e WHERE v < 100) SELECT k, v FROM f;
SELECT create_view('over_with', $$ SELECT k, count(*), max(v) FROM below GROUP BY k $$);
SELECT a.attname AS columns_read FROM millrace.view_stream s JOIN pg_attribute a ON a.attrelid = s.stream AND a.attnum = ANY (s.columns) WHERE s.view = 'live.over_with'::regclass ORDER BY 1;
-- rows that are there already: of an index only, of partitions each by itself, of a table that had children once
CREATE TABLE plain.many (id int, k int);
SELECT create_stream('many');
CREATE INDEX ON live.many (id);
SELECT feed('many', 'SELECT i, i % 3 FROM generate_series(1, 3000) i');
ANALYZE live.many;
SELECT create_view('most', $$ SELECT max(id) AS most, min(id) AS least FROM many $$);
SELECT create_view('most_of_some', $$ SELECT max(id) FILTER (WHERE k = 1) AS most, min(id) AS least FROM many $$);
CREATE TABLE plain.parts (k int, n int);
CREATE TABLE live.parts (k int, n int) PARTITION BY LIST (k);
CREATE TABLE live.parts_1 PARTITION OF live.parts FOR VALUES IN (1);
CREATE TABLE live.parts_2 PARTITION OF live.parts DEFAULT;
SELECT millrace.attach_table('live.parts');
SELECT feed('parts', 'SELECT i % 4, i FROM generate_series(1, 40) i');
SET enable_partitionwise_aggregate = on;
SELECT create_view('by_partition', $$ SELECT k, count(*), sum(n) FROM parts GROUP BY k $$);
SELECT create_view('by_another', $$ SELECT n % 3 AS m, count(*), sum(n) FROM parts GROUP BY 1 $$);
CREATE TABLE plain.parents (n int);
SELECT create_stream('parents');
SELECT millrace.detach_table('live.parents');
CREATE TABLE live.children () INHERITS (live.parents);
DROP TABLE live.children;
SELECT millrace.attach_table('live.parents');
SELECT feed('parents', 'SELECT i FROM generate_series(1, 5) i');
SELECT create_view('childless', $$ SELECT count(*), sum(n) FROM parents $$);
CREATE FOREIGN TABLE live.stream (n int) SERVER broker OPTIONS (topic 'none');
CREATE TABLE live.children () INHERITS (live.stream);
SELECT create_view('with_children', $$ SELECT count(*) FROM live.stream $$);
DROP TABLE live.children;
SELECT create_view('without_children', $$ SELECT count(*) FROM live.stream $$);
SELECT count(*) > 0 AS planned FROM millrace.explain_view('live.without_children');
DELETE FROM made WHERE name = 'without_children';
SELECT feed('many', 'VALUES (4000, 1), (-1, 2)') UNION ALL SELECT feed('parts', 'SELECT i % 5, i FROM generate_series(1, 50) i') UNION ALL SELECT feed('parents', 'VALUES (6)');
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
SELECT millrace.rebuild(format('live.%I', name)::regclass) FROM made WHERE name IN ('by_partition', 'most', 'childless');
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
SELECT check_again();

-- two hours of the same name
CREATE TABLE plain.hours (id int, at timestamptz);
SELECT create_stream('hours');
SET timezone = 'Europe/Moscow';
SET datestyle = 'SQL, DMY';
SELECT create_view('hours_before', $$ SELECT dense_rank('2015-01-01'::timestamptz, 1) WITHIN GROUP (ORDER BY at, id) AS r FROM hours $$);
SELECT feed('hours', $$ VALUES (1, '2014-10-25 21:30+00'::timestamptz), (1, '2014-10-25 22:30+00') $$);
SELECT check_view('hours_before');
SET datestyle = 'ISO, MDY';
SET timezone = 'America/Los_Angeles';

-- a time zone whose name is an abbreviation of another one
CREATE TABLE live.local_times (at timestamp, tz timestamptz);
SELECT millrace.attach_table('live.local_times');
CREATE FUNCTION tools.in_cet(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM pg_timezone_names WHERE name = 'CET') THEN
    SET LOCAL timezone = 'CET';
    EXECUTE command;
    RETURN 'accepted';
  END IF;
  RETURN 'refused';
EXCEPTION WHEN feature_not_supported THEN
  RETURN regexp_replace(sqlerrm, '.*not supported in time zone "CET"', 'refused');
END $$;
SELECT in_cet($$ SELECT millrace.create_continuous_view('live.zoned', 'SELECT at::date AS day, count(*) FROM live.local_times GROUP BY 1', retention => '1 month', retention_column => 'day') $$);
SELECT in_cet($$ SELECT millrace.create_continuous_view('live.zoned', 'SELECT at, tz, count(*) FROM live.local_times GROUP BY 1, 2'); SELECT millrace.set_retention('live.zoned', '1 day', 'at') $$);
SELECT in_cet($$ SELECT millrace.create_continuous_view('live.zoned', 'SELECT at, tz, count(*) FROM live.local_times GROUP BY 1, 2'); SELECT millrace.set_retention('live.zoned', '1 day', 'tz') $$) <> 'refused' OR NOT EXISTS (SELECT FROM pg_timezone_names WHERE name = 'CET') AS accepted;
SELECT millrace.create_continuous_view('live.in_los_angeles', 'SELECT at, count(*) FROM live.local_times GROUP BY 1', retention => '1 day', retention_column => 'at');

-- what the session that takes rows would say
SELECT create_view('session', format('SELECT %s AS said, count(*) FROM events GROUP BY 1', f))
FROM unnest('{inet_client_port(),inet_server_addr(),inet_server_port(),getpgusername(),pg_my_temp_schema(),pg_trigger_depth(),pg_postmaster_start_time(),pg_conf_load_time(),pg_current_xact_id_if_assigned(),txid_current_if_assigned()}'::text[]) f;
SELECT create_view('session', $$ SELECT k, count(*), pg_trigger_depth() AS said FROM events GROUP BY 1 HAVING inet_client_port() IS NOT DISTINCT FROM inet_client_port() $$);

-- a state of no rows, which nothing but a superuser makes
SELECT create_view('ids', 'SELECT array_agg(id) FROM events WHERE id = 1');
SELECT millrace.finalize('millrace.array_agg(anynonarray)'::regprocedure, (left(array_agg::text, 34) || repeat('00', 16) || substr(array_agg::text, 67, 8))::millrace.state, NULL::int[], NULL::int) FROM live.ids_mrel;

-- functions that read a stream, where the planner does not look into them
CREATE FUNCTION common.in_topic(int) RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN $1 + (SELECT count(*) FROM live.stream); END';
SELECT create_view('by_topic', 'SELECT in_topic(id) AS n, count(*) FROM events GROUP BY 1');
SELECT create_view('of_topic', 'SELECT sum(in_topic(id)) AS n FROM events WHERE id > 100');
INSERT INTO live.events (id) VALUES (101);
DROP VIEW plain.of_topic, live.of_topic;
DELETE FROM made WHERE name = 'of_topic';

-- windows beyond all times
SELECT millrace.create_continuous_view('live.endless', 'SELECT count(*) FROM live.many', sliding_window => '178000000 years', time_column => 'id');

-- rows of a table are not kept: it may be altered
\set VERBOSITY default
SELECT millrace.create_continuous_view('live.row', 'SELECT jsonb_agg(e) FROM live.events e');
\set VERBOSITY terse
SELECT create_view('rows', $$ SELECT k, millrace.last(p, id) FROM events JOIN people p USING (k) GROUP BY k $$);
SELECT create_view('row_lists', $$ SELECT count(DISTINCT ARRAY[p]) FROM events JOIN people p USING (k) $$);
SELECT create_view('row_counts', $$ SELECT k, count(p) AS n, count(e) AS e, jsonb_agg(to_jsonb(p) ORDER BY id) AS j, max(to_jsonb(e)::text) AS m FROM events e JOIN people p USING (k) GROUP BY k $$);
ALTER TABLE common.people ADD COLUMN more text;
ALTER TABLE live.events ADD COLUMN more text;
ALTER TABLE plain.events ADD COLUMN more text;
SELECT feed('events', $$ VALUES (7, 1, 'c', 3, NULL::text[], NULL::jsonb, 'more') $$);
SELECT differences('live.nobody', 'plain.nobody'), differences('live.ordered', 'plain.ordered');

-- values of enums are what they are called now
CREATE TYPE common.mood AS ENUM ('sad', 'ok');
CREATE TABLE plain.moods (id int, m mood);
SELECT create_stream('moods');
SELECT create_view('moods_kept', $$ SELECT array_agg(DISTINCT m) AS m, array_agg(m ORDER BY id) AS a, millrace.last(m, id) AS l, mode() WITHIN GROUP (ORDER BY m DESC) AS o, millrace.topk(m, 2) AS t FROM moods $$);
SELECT feed('moods', $$ VALUES (1, 'sad'::mood), (2, 'ok'), (3, NULL), (4, 'ok') $$);
ALTER TYPE common.mood RENAME VALUE 'ok' TO 'fine';
ALTER TYPE common.mood ADD VALUE 'happy' BEFORE 'fine';
SELECT check_view('moods_kept');
SELECT feed('moods', $$ VALUES (5, 'fine'::mood), (6, 'happy') $$);
SELECT check_view('moods_kept');

-- clients of other encodings than the database's
CREATE TABLE plain.words (id int, j jsonb, tags text[], x xml);
SELECT create_stream('words');
SELECT create_view('words_kept', $$ SELECT array_agg(DISTINCT j) AS j, array_agg(tags[1] ORDER BY id) AS t, count(DISTINCT tags) AS n, millrace.last(tags, id) AS last, millrace.last(x, id)::text AS x, mode() WITHIN GROUP (ORDER BY j) AS m FROM words $$);
SET client_encoding = 'LATIN1';
SELECT feed('words', $$ VALUES (1, jsonb_build_object(chr(228), 1), ARRAY[chr(246)], xmlelement(name x, chr(252))) $$);
SET client_encoding = 'UTF8';
SELECT feed('words', $$ VALUES (2, jsonb_build_object(chr(337), chr(228)), ARRAY[chr(246), chr(337)], xmlelement(name x, chr(337))) $$);
SELECT check_view('words_kept');
SET client_encoding = 'SQL_ASCII';
SELECT feed('words', $$ VALUES (3, jsonb_build_object(chr(337), 3), ARRAY[chr(246)], xmlelement(name x, chr(228))) $$);
SET client_encoding = 'LATIN1';
SELECT check_view('words_kept');
-- that can show it all the same
SELECT last = ARRAY[chr(246)] AS last FROM live.words_kept;
RESET client_encoding;
SELECT check_view('words_kept');

\i sql/teardown.inc
