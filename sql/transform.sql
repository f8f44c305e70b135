--
-- Continuous transforms into tables.
--
\i sql/setup.inc

CREATE TABLE plain.events (id int, n int, t text, tags text[], at timestamptz);
SELECT create_stream('events');
CREATE TABLE common.names (n int PRIMARY KEY, name text);
INSERT INTO common.names SELECT i, 'name ' || i FROM generate_series(0, 9) i;

-- A transform live.NAME of a query into live.NAME_sink; its oracle is the same INSERT into plain.NAME_sink.
CREATE TABLE tools.transform (name text, query text, columns text);
CREATE FUNCTION create_transform(name text, query text) RETURNS text LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  columns text;
BEGIN
  PERFORM set_config('search_path', 'live, common', true);
  PERFORM millrace.create_continuous_transform(format('live.%I', name), query, format('live.%I', name || '_sink')::regclass);
  SELECT string_agg(format('%I', attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute WHERE attrelid = format('live.%I', name)::regclass AND attnum > 0;
  INSERT INTO tools.transform VALUES (name, query, columns);
  RETURN name || ': created';
EXCEPTION WHEN OTHERS THEN
  RETURN format('%s: %s %s', name, sqlstate, sqlerrm);
END $$;
CREATE FUNCTION check_transforms() RETURNS SETOF text LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  t record;
  n bigint;
BEGIN
  FOR t IN SELECT * FROM tools.transform ORDER BY name LOOP
    IF millrace.wait_for_latest(format('live.%I', t.name)::regclass, timeout => tools.patience()) IS NOT TRUE THEN
      RETURN NEXT t.name || ': not there in time';
    END IF;
    PERFORM set_config('search_path', 'plain, common, tools', true);
    EXECUTE format('TRUNCATE plain.%I', t.name || '_sink');
    EXECUTE format('INSERT INTO plain.%I (%s) %s', t.name || '_sink', t.columns, t.query);
    RETURN QUERY SELECT t.name || ': ' || d FROM differences(format('live.%I', t.name || '_sink'), format('plain.%I', t.name || '_sink')) d;
    EXECUTE format('SELECT count(*) FROM live.%I', t.name || '_sink') INTO n;
    RETURN NEXT format('%s: %s rows', t.name, n);
  END LOOP;
END $$;
CREATE PROCEDURE create_sinks(name text, definition text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('CREATE TABLE plain.%I (%s); CREATE TABLE live.%1$I (%2$s)', name || '_sink', definition);
END $$;

-- Filter, project, join, unnest; columns go by name, whatever their order, with assignment casts; the others get defaults.
CALL create_sinks('some', $$ note text DEFAULT 'none', "Weird Name" varchar(20), id bigint, doubled numeric(10,2) $$);
SELECT create_transform('some', $$ SELECT id, t AS "Weird Name", n * 2 AS doubled FROM events WHERE n > 2 $$);
CALL create_sinks('joined', $$ id int, name text, l int GENERATED ALWAYS AS (length(name)) STORED, at timestamp $$);
SELECT create_transform('joined', $$ SELECT id, name, at FROM events JOIN names USING (n) $$);
CALL create_sinks('tagged', $$ tag text, id int, no int $$);
SELECT create_transform('tagged', $$ SELECT id, unnest(tags) AS tag, generate_series(1, n) AS no FROM events WHERE cardinality(tags) > 0 $$);
CALL create_sinks('nested', $$ id int, best text $$);
SELECT create_transform('nested', $$ WITH e AS (SELECT * FROM events WHERE id % 2 = 0) SELECT e.id, (SELECT max(name) FROM names x WHERE x.n <= e.n) AS best
  FROM (SELECT * FROM e) e CROSS JOIN LATERAL (SELECT name FROM names ORDER BY n LIMIT 1) y $$);
CALL create_sinks('both', $$ id int, what text $$);
SELECT create_transform('both', $$ SELECT id, 'a' AS what FROM events UNION ALL SELECT n, 'b' FROM events $$);
SELECT feed('events', $$ SELECT i, i % 12, 't' || i, CASE WHEN i % 3 > 0 THEN ARRAY['x' || i, NULL, 'y'] END, timestamptz '2025-01-01 00:00Z' + i * interval '1 hour'
  FROM generate_series(1, 100) i $$);
SELECT feed('events', $$ VALUES (NULL::int, NULL::int, NULL, '{}'::text[], NULL::timestamptz) $$);
SELECT check_transforms();
SELECT feed('events', $$ SELECT i, 5, NULL, ARRAY['z'], NULL::timestamptz FROM generate_series(1, 10) i $$);
SELECT check_transforms();

-- A transform is a view: its query over the topic.  It cannot be written into.
SELECT count(*), sum(doubled) = (SELECT sum(doubled) FROM live.some_sink) AS same FROM live.some;
INSERT INTO live.some VALUES (1, 'a', 2);
-- counters come after the commit
SELECT wait_until($$ (SELECT rows_in >= 111 FROM millrace.views WHERE view = 'live.some'::regclass) $$);
SELECT view, stream, kind, state, target, matrel, groups_estimate, rows_in, rows_out, query FROM millrace.views WHERE view = 'live.some'::regclass;
SELECT partition, lag FROM millrace.partitions WHERE view = 'live.some'::regclass;
SELECT millrace.wait_for_offset('live.some', 0, (SELECT next_offset - 1 FROM millrace.partitions WHERE view = 'live.some'::regclass), tools.patience());
SELECT l FROM millrace.explain_view('live.some') l WHERE l !~ 'Kafka Topic';
SELECT l FROM millrace.explain_view('live.joined') l WHERE l !~ 'Kafka Topic';
-- Views over it are views over the stream.
SELECT millrace.create_continuous_view('live.over', 'SELECT count(*), sum(doubled) FROM live.some');
SELECT millrace.wait_for_latest('live.over', tools.patience());
SELECT (SELECT count(*) FROM live.some_sink) = count AS same_count, (SELECT sum(doubled) FROM live.some_sink) = sum AS same_sum FROM live.over;
DROP VIEW live.over;

-- What works on contents does not work on it.
\set VERBOSITY default
SELECT millrace.truncate_continuous_view('live.some');
SELECT millrace.rebuild('live.some');
SELECT millrace.cancel_rebuild('live.some');
SELECT millrace.set_retention('live.some', '1 day', 'id');
\set VERBOSITY terse
SELECT millrace.combine(doubled) FROM live.some;

-- Paused, it misses nothing; truncating its target does not concern it.
SELECT millrace.deactivate('live.some');
SELECT state FROM millrace.views WHERE view = 'live.some'::regclass;
SELECT feed('events', $$ SELECT i, 7, 'later', NULL, NULL FROM generate_series(1, 10) i $$);
SELECT millrace.activate('live.some');
SELECT check_transforms();
TRUNCATE live.some_sink;
SELECT feed('events', $$ SELECT 1, 9, 'last', NULL, NULL $$);
SELECT millrace.wait_for_latest('live.some', tools.patience());
TABLE live.some_sink;

-- start_at
CREATE TABLE live.late_sink (id int, n int);
SELECT millrace.create_continuous_transform('live.late', 'SELECT id, n FROM live.events', 'live.late_sink', start_at => 'latest');
INSERT INTO live.events VALUES (1000, 1);
SELECT millrace.wait_for_latest('live.late', tools.patience());
TABLE live.late_sink;
DROP VIEW live.late;

-- Several streams; the rows of each
CREATE TABLE plain.others (id int, n int);
SELECT create_stream('others');
CREATE TABLE live.union_sink (id int, n int);
SELECT millrace.create_continuous_transform('live.union', 'SELECT id, n FROM live.events WHERE id = 1000 UNION ALL SELECT id, n FROM live.others', 'live.union_sink');
INSERT INTO live.others VALUES (1, 2), (3, 4);
SELECT millrace.wait_for_latest('live.union', tools.patience());
SELECT * FROM live.union_sink ORDER BY id;

-- Names, schemas and owners may change, of all three.
CREATE SCHEMA live2;
ALTER TABLE live.union_sink RENAME TO "The Sink";
ALTER TABLE live."The Sink" SET SCHEMA live2;
ALTER TABLE live2."The Sink" RENAME COLUMN n TO m;
SELECT wait_until($$ (SELECT state = 'failed' FROM millrace.views WHERE view = 'live.union'::regclass) OR (SELECT count(*) = 3 FROM live2."The Sink") $$);
INSERT INTO live.others VALUES (5, 6);
SELECT wait_until($$ (SELECT state = 'failed' FROM millrace.views WHERE view = 'live.union'::regclass) $$);
SELECT last_error FROM millrace.views WHERE view = 'live.union'::regclass;
ALTER TABLE live2."The Sink" RENAME COLUMN m TO n;
ALTER TABLE live2."The Sink" ADD COLUMN extra text DEFAULT 'x', ALTER COLUMN n TYPE text;
ALTER VIEW live.union RENAME TO "Weird Name";
ALTER VIEW live."Weird Name" SET SCHEMA live2;
ALTER FOREIGN TABLE live.others ALTER COLUMN n OPTIONS (path 'n');
ALTER FOREIGN TABLE live.others RENAME COLUMN n TO m;
ALTER FOREIGN TABLE live.others RENAME TO others2;
ALTER FOREIGN TABLE live.others2 SET SCHEMA live2;
SELECT millrace.activate('live2."Weird Name"');
INSERT INTO live2.others2 VALUES (7, 8);
SELECT millrace.wait_for_latest('live2."Weird Name"', tools.patience());
SELECT * FROM live2."The Sink" ORDER BY id;
SELECT view, target FROM millrace.views WHERE view = 'live2."Weird Name"'::regclass;

-- The target belongs to the transform.
DROP TABLE live2."The Sink";
DROP FOREIGN TABLE live2.others2;
BEGIN;
DROP TABLE live2."The Sink" CASCADE;
SELECT count(*) FROM millrace.continuous_view WHERE kind = 'transform' AND target NOT IN (SELECT oid FROM pg_class);
ROLLBACK;
CREATE OR REPLACE VIEW live2."Weird Name" AS SELECT 1 AS id, 2 AS n;
DROP VIEW live2."Weird Name";
SELECT count(*) FROM live2."The Sink";
SELECT count(*) FROM millrace.view_stream s WHERE NOT EXISTS (SELECT FROM millrace.continuous_view v WHERE v.view = s.view);
DROP SCHEMA live2 CASCADE;

-- Refusals
\set VERBOSITY default
SELECT millrace.create_continuous_transform('live.x', 'SELECT count(*) AS id FROM live.events', 'live.some_sink');
\set VERBOSITY terse
SELECT millrace.create_continuous_transform('live.x', 'SELECT id FROM live.events GROUP BY id', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT 1 AS id FROM live.events HAVING true', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT DISTINCT id FROM live.events', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT DISTINCT ON (n) id FROM live.events', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT row_number() OVER () AS id FROM live.events', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT id FROM live.events ORDER BY id', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT id FROM live.events LIMIT 10', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT id FROM live.events OFFSET 1', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT id FROM (SELECT max(id) AS id FROM live.events) x', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT id FROM (SELECT id FROM live.events LIMIT 1) x', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT id FROM live.events UNION SELECT n FROM live.events', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT id FROM live.events UNION ALL SELECT n FROM live.events ORDER BY 1', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT a.id FROM live.events a JOIN live.events b USING (id)', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT n AS id FROM common.names', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT id, now()::text AS note FROM live.events', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT id, random()::text AS note FROM live.events', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'DELETE FROM live.some_sink', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT id, id FROM live.events', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT FROM live.events', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.some', 'SELECT id FROM live.events', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT id FROM live.events', NULL);
SELECT millrace.create_continuous_transform(NULL, 'SELECT id FROM live.events', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', NULL, 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT id FROM live.events', 'live.some_sink', start_at => NULL);
SELECT millrace.create_continuous_transform('live.x', 'SELECT id FROM live.events', 'live.some_sink', start_at => 'yesteryear');
SELECT millrace.create_continuous_transform('pg_temp.x', 'SELECT id FROM live.events', 'live.some_sink');
-- columns
\set VERBOSITY default
SELECT millrace.create_continuous_transform('live.x', 'SELECT id, n AS missing FROM live.events', 'live.some_sink');
\set VERBOSITY terse
SELECT millrace.create_continuous_transform('live.x', 'SELECT at AS id FROM live.events', 'live.some_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT id, n AS l FROM live.events', 'live.joined_sink');
SELECT millrace.create_continuous_transform('live.x', 'SELECT id AS ctid FROM live.events', 'live.joined_sink');
-- targets
CREATE VIEW live.a_view AS SELECT * FROM live.some_sink;
CREATE MATERIALIZED VIEW live.a_matview AS SELECT 1 AS id;
CREATE SEQUENCE live.a_sequence;
CREATE INDEX an_index ON live.some_sink (id);
CREATE UNLOGGED TABLE live.unlogged (id int);
CREATE TEMP TABLE temporary (id int);
CREATE TABLE live.ruled (id int);
CREATE RULE r AS ON INSERT TO live.ruled DO ALSO NOTIFY r;
CREATE FOREIGN DATA WRAPPER dummy;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER dummy;
CREATE FOREIGN TABLE live.elsewhere (id int) SERVER elsewhere;
CREATE TABLE live.parted (id int) PARTITION BY RANGE (id);
CREATE FOREIGN TABLE live.parted_1 PARTITION OF live.parted FOR VALUES FROM (0) TO (10) SERVER elsewhere;
SELECT millrace.create_continuous_view('live.counts', 'SELECT id, count(*) FROM live.events GROUP BY id');
CREATE FUNCTION refused(target regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  hint text;
BEGIN
  PERFORM millrace.create_continuous_transform('live.x', 'SELECT id FROM live.events', target);
  RETURN 'created';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
  RETURN format('%s %s: %s', sqlstate, sqlerrm, hint);
END $$;
SELECT refused(r) FROM unnest('{live.a_view,live.a_matview,live.a_sequence,live.an_index,live.unlogged,temporary,live.ruled,live.elsewhere,live.parted,
  live.counts,live.counts_mrel,live.events,pg_class,millrace.feed,millrace.views}'::regclass[]) r;
SELECT refused(999999999::oid);
DROP FOREIGN DATA WRAPPER dummy CASCADE;
DROP VIEW live.counts;
DROP MATERIALIZED VIEW live.a_matview;
\i sql/teardown.inc
