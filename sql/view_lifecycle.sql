--
-- Stopping, starting, emptying, waiting for and dropping views; who may.
--
\i sql/setup.inc

CREATE TABLE plain.events (id int, k int, x int);
SELECT create_stream('events', partitions => 2);
CREATE FUNCTION rows(first int, last int) RETURNS text LANGUAGE sql
  RETURN format('SELECT id, id %% 5, id * 3 FROM generate_series(%s, %s) id', first, last);
CREATE VIEW tools.states AS SELECT view, state FROM millrace.views ORDER BY view::text;
SELECT create_view('by_k', 'SELECT k, count(*), sum(x) FROM events GROUP BY k');
SELECT create_view('one', 'SELECT count(*), sum(x) FROM events');
SELECT create_view('every', 'SELECT id FROM events');
SELECT check_views();
SELECT feed('events', rows(1, 100));
SELECT check_views();

-- Deactivated, a view stands still, and its position is kept.
SELECT millrace.deactivate('live.by_k');
SELECT feed('events', rows(101, 150));
SELECT check_view('one');
SELECT view, state FROM states WHERE view = 'live.by_k'::regclass;
SELECT sum(count) FROM live.by_k;
\set VERBOSITY sqlstate
SELECT millrace.wait_for_latest('live.by_k', tools.patience());
SELECT millrace.wait_for_offset('live.by_k', 0, 1000000, tools.patience());
\set VERBOSITY terse
SELECT millrace.deactivate('live.by_k');
SELECT millrace.activate('live.by_k');
SELECT check_views();
SELECT millrace.activate('live.by_k');
SELECT feed('events', rows(151, 160));
SELECT check_views();
-- In a transaction that fails, nothing happened.
BEGIN;
SELECT millrace.deactivate('live.by_k');
ROLLBACK;
SELECT feed('events', rows(161, 170));
SELECT check_views();
BEGIN;
SELECT millrace.deactivate('live.by_k');
SELECT millrace.activate('live.by_k');
COMMIT;
SELECT feed('events', rows(171, 180));
SELECT check_views();
-- A stream: all its views.
SELECT millrace.deactivate('live.events');
SELECT feed('events', rows(181, 200));
SELECT state, count(*) FROM states GROUP BY state;
SELECT wait_until($$ (SELECT state = 'paused' FROM millrace.streams WHERE stream = 'live.events'::regclass) $$);
SELECT (SELECT count FROM live.one) AS one, (SELECT sum(count) FROM live.by_k) AS by_k, (SELECT count(*) FROM live.every) AS every;
-- One of them alone, then the others.
SELECT millrace.activate('live.one');
SELECT check_view('one');
SELECT feed('events', rows(201, 210));
SELECT check_view('one');
SELECT count(*) FROM live.every;
SELECT millrace.activate('live.events');
SELECT check_views();
SELECT wait_until($$ (SELECT bool_and(state = 'running') FROM millrace.views) $$);
-- A view can be created, read and dropped while its stream stands.
SELECT millrace.deactivate('live.events');
SELECT millrace.create_continuous_view('live.while_paused', 'SELECT count(*) FROM live.events');
SELECT millrace.wait_for_latest('live.while_paused', tools.patience());
TABLE live.while_paused;
DROP VIEW live.while_paused;
SELECT millrace.activate('live.events');
SELECT feed('events', rows(211, 220));
SELECT check_views();

-- Emptied, a view goes on from where it is.
SELECT bool_and(millrace.wait_for_latest(v::regclass, tools.patience())) FROM unnest(ARRAY['live.by_k', 'live.one', 'live.every']) v;
SELECT millrace.truncate_continuous_view('live.by_k');
SELECT millrace.truncate_continuous_view('live.one');
SELECT millrace.truncate_continuous_view('live.every');
TABLE live.by_k;
TABLE live.one;
TABLE live.every;
DELETE FROM plain.events;
SELECT feed('events', rows(301, 340));
SELECT check_views();
BEGIN;
SELECT millrace.truncate_continuous_view('live.by_k');
SELECT millrace.truncate_continuous_view('live.one');
TABLE live.by_k;
TABLE live.one;
ROLLBACK;
SELECT check_views();
SELECT millrace.deactivate('live.by_k');
SELECT millrace.truncate_continuous_view('live.by_k');
TABLE live.by_k;
CREATE TABLE tools.kept AS TABLE plain.events;
DELETE FROM plain.events;
SELECT feed('events', rows(341, 350));
SELECT millrace.activate('live.by_k');
SELECT check_view('by_k');
INSERT INTO plain.events TABLE tools.kept;
SELECT check_view('one');
SELECT check_view('every');
DROP VIEW live.by_k;
DELETE FROM tools.made WHERE name = 'by_k';

-- Where a view begins.
SELECT millrace.create_continuous_view('live.from_latest', 'SELECT count(*), min(id), max(id) AS max FROM live.events', start_at => 'latest');
SELECT millrace.wait_for_latest('live.from_latest', tools.patience());
TABLE live.from_latest;
SELECT feed('events', rows(351, 380));
SELECT millrace.create_continuous_view('live.from_earliest', 'SELECT count(*), min(id), max(id) AS max FROM live.events', start_at => 'earliest');
SELECT millrace.wait_for_latest('live.from_latest', tools.patience()), millrace.wait_for_latest('live.from_earliest', tools.patience());
TABLE live.from_latest;
TABLE live.from_earliest;
CREATE FOREIGN TABLE live.times (id int, arrived timestamptz OPTIONS (metadata 'timestamp')) SERVER broker OPTIONS (topic 'set_below');
SELECT set_config('mr.topic', topic, false) = topic FROM topic WHERE stream = 'events';
DO $$ BEGIN EXECUTE format('ALTER FOREIGN TABLE live.times OPTIONS (SET topic %L)', current_setting('mr.topic')); END $$;
SELECT min(arrived) AS moment FROM live.times WHERE id = 301 \gset
SELECT millrace.create_continuous_view('live.from_moment', 'SELECT count(*), min(id), max(id) AS max FROM live.events', start_at => :'moment');
SELECT millrace.create_continuous_view('live.from_past', 'SELECT count(*), min(id), max(id) AS max FROM live.events', start_at => '2001-01-01 00:00+00');
SELECT millrace.create_continuous_view('live.from_future', 'SELECT count(*), min(id), max(id) AS max FROM live.events', start_at => (now() + interval '1 day')::text);
SELECT bool_and(millrace.wait_for_latest(v::regclass, tools.patience())) FROM unnest(ARRAY['live.from_moment', 'live.from_past']) v;
SELECT (SELECT f FROM live.from_moment f) = (SELECT (count(*), min(id), max(id)) FROM live.times WHERE arrived >= :'moment') AS right_moment;
TABLE live.from_past;
\set VERBOSITY sqlstate
SELECT millrace.create_continuous_view('live.wrong', 'SELECT count(*) FROM live.events', start_at => 'yesterdayish');
SELECT millrace.create_continuous_view('live.wrong', 'SELECT count(*) FROM live.events', start_at => '');
SELECT millrace.create_continuous_view('live.wrong', 'SELECT count(*) FROM live.events', start_at => NULL);
\set VERBOSITY terse
DROP VIEW live.from_future, live.from_moment, live.from_past, live.from_earliest, live.from_latest;

-- Waiting.
BEGIN;
SELECT millrace.wait_for_latest('live.one', timeout => tools.patience());
COMMIT;
SELECT max(next_offset) - 1 AS last FROM millrace.partitions WHERE view = 'live.one'::regclass AND partition = 0 \gset
SELECT millrace.wait_for_offset('live.one', 0, 0, timeout => tools.patience());
SELECT millrace.wait_for_offset('live.one', 0, :last);
SELECT millrace.wait_for_offset('live.one', 0, :last + 1000000, timeout => '50ms');
SELECT millrace.wait_for_offset('live.one', 0, :last + 1000000, timeout => '0');
SELECT millrace.wait_for_latest('live.one', timeout => '0') IS NOT NULL;
-- In the transaction that creates it, nothing can be waited for.
BEGIN;
SELECT millrace.create_continuous_view('live.young', 'SELECT count(*) FROM live.events');
\set VERBOSITY sqlstate
SELECT coalesce(millrace.wait_for_latest('live.young', '200ms'), false);
\set VERBOSITY terse
ROLLBACK;
SELECT to_regclass('live.young');
-- An empty topic, and one that ends in markers.
CREATE TABLE plain.empty (id int);
SELECT create_stream('empty', partitions => 3);
SELECT create_view('of_empty', 'SELECT count(*) FROM empty');
SELECT check_view('of_empty');
BEGIN;
INSERT INTO live.empty SELECT generate_series(1, 100);
ROLLBACK;
SELECT check_view('of_empty');
SELECT feed('empty', 'SELECT 1');
BEGIN;
INSERT INTO live.empty SELECT generate_series(1, 100);
SAVEPOINT s;
INSERT INTO live.empty VALUES (1000);
SELECT 1 / 0;
ROLLBACK;
SELECT check_view('of_empty');
SELECT lag, view FROM millrace.partitions WHERE view = 'live.of_empty'::regclass AND lag > 0;

-- Wrong objects.
CREATE TABLE tools.table (id int);
CREATE VIEW tools.ordinary AS SELECT 1 AS one;
CREATE INDEX an_index ON tools.table (id);
CREATE FUNCTION sqlstate_of(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  r text;
BEGIN
  EXECUTE 'SELECT ' || call INTO r;
  RETURN 'no error: ' || coalesce(r, 'NULL');
EXCEPTION WHEN OTHERS THEN
  RETURN sqlstate;
END $$;
SELECT f, o, sqlstate_of(format('millrace.%s', format(f, o)))
FROM unnest(ARRAY['deactivate(%L)', 'activate(%L)', 'truncate_continuous_view(%L)', 'wait_for_latest(%L, ''1s'')', 'wait_for_offset(%L, 0, 0, ''1s'')', 'explain_view(%L)']) f,
     unnest(ARRAY['tools.table', 'tools.ordinary', 'tools.an_index', 'plain.one', 'pg_class', 'live.no_such', '0', '4294967295']) o;
SELECT f, sqlstate_of('millrace.' || f) FROM unnest(ARRAY['deactivate(NULL)', 'activate(NULL)', 'truncate_continuous_view(NULL)', 'explain_view(NULL)',
  'wait_for_latest(NULL)', 'wait_for_offset(NULL, 0, 0)', 'wait_for_offset(''live.one'', NULL, 0)', 'wait_for_offset(''live.one'', 0, NULL)',
  'wait_for_offset(''live.one'', 99, 0, ''100ms'')',
  'truncate_continuous_view(''live.events'')', 'wait_for_latest(''live.one'', NULL)', 'wait_for_latest(''live.one'')',
  'create_topic(NULL, ''x'')', 'create_topic(''broker'', NULL)', 'create_topic(''broker'', '''')', 'create_topic(''no_such_server'', ''x'')', 'create_topic(''broker'', ''a/b'')',
  'create_topic(''broker'', ''x'', partitions => 0)', 'create_topic(''broker'', ''x'', partitions => NULL)']) f;
SELECT sqlstate_of($$ millrace.wait_for_latest('live.one', '-1s') $$) IN ('no error: false', '22023') AS negative;
SELECT count(*) > 0 AS plan FROM millrace.explain_view('live.one');

-- Privileges.
CREATE ROLE regress_view_owner;
CREATE ROLE regress_view_reader;
CREATE ROLE regress_view_stranger;
GRANT USAGE ON SCHEMA live, tools TO regress_view_owner, regress_view_reader, regress_view_stranger;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tools TO PUBLIC;
GRANT CREATE ON SCHEMA live TO regress_view_owner;
SET ROLE regress_view_owner;
\set VERBOSITY sqlstate
-- SELECT on every relation is needed.
SELECT millrace.create_continuous_view('live.owned', 'SELECT k, count(*) FROM live.events GROUP BY k');
RESET ROLE;
GRANT SELECT ON live.events TO regress_view_owner;
SET ROLE regress_view_owner;
SELECT millrace.create_continuous_view('live.owned', 'SELECT k, count(*) FROM live.events JOIN tools.table USING (id) GROUP BY k');
\set VERBOSITY terse
SELECT millrace.create_continuous_view('live.owned', 'SELECT k, count(*) FROM live.events GROUP BY k');
SELECT millrace.wait_for_latest('live.owned', tools.patience());
SELECT count(*) FROM live.owned;
SELECT count(*) FROM millrace.views;
SELECT relname FROM pg_class WHERE relowner = 'regress_view_owner'::regrole AND relkind = 'v' AND relname = 'owned';
-- The states are nobody's to write.
\set VERBOSITY sqlstate
INSERT INTO live.owned_mrel DEFAULT VALUES;
UPDATE live.owned_mrel SET k = 1;
DELETE FROM live.owned_mrel;
TRUNCATE live.owned_mrel;
MERGE INTO live.owned_mrel m USING (VALUES (1)) v(k) ON m.k = v.k WHEN MATCHED THEN DELETE;
WITH d AS (DELETE FROM live.owned_mrel RETURNING *) SELECT count(*) FROM d;
ALTER TABLE live.owned_mrel ADD COLUMN more int;
ALTER TABLE live.owned_mrel DROP COLUMN k;
DROP TABLE live.owned_mrel;
DROP TABLE live.owned_mrel CASCADE;
INSERT INTO live.owned VALUES (1, 1);
UPDATE live.owned SET k = 1;
DELETE FROM live.owned;
SELECT sum(count) FROM live.owned;
RESET ROLE;
DROP TABLE live.owned_mrel;
SELECT sum(count) FROM live.owned;
\set VERBOSITY terse
-- A reader may read, a stranger nothing, and neither may operate it.
GRANT SELECT ON live.owned TO regress_view_reader;
CREATE FUNCTION tools.attempts() RETURNS TABLE (call text, result text) LANGUAGE sql AS $$
  SELECT f, sqlstate_of(f) FROM unnest(ARRAY['count(*) FROM live.owned', 'count(*) FROM millrace.views WHERE view = ''live.owned''::regclass', 'millrace.deactivate(''live.owned'')', 'millrace.activate(''live.owned'')',
    'millrace.truncate_continuous_view(''live.owned'')', 'millrace.deactivate(''live.events'')', 'millrace.activate(''live.events'')',
    'millrace.wait_for_latest(''live.owned'', ''10s'')', 'millrace.wait_for_offset(''live.owned'', 0, 0, ''10s'')', 'millrace.explain_view(''live.owned'')', 'millrace.create_topic(''broker'', ''never_made'')',
    'count(*) FROM millrace.streams WHERE stream = ''live.events''::regclass', 'count(*) FROM live.owned_mrel', 'count(*) FROM millrace.dead_letters', 'count(*) FROM millrace.partitions WHERE view <> ''live.owned''::regclass']) f
$$;
SET ROLE regress_view_reader;
SELECT * FROM attempts();
SET ROLE regress_view_stranger;
SELECT * FROM attempts();
-- Its owner may, without owning the stream.
SET ROLE regress_view_owner;
SELECT millrace.deactivate('live.owned');
SELECT millrace.activate('live.owned');
SELECT millrace.wait_for_latest('live.owned', tools.patience());
SELECT millrace.truncate_continuous_view('live.owned');
SELECT count(*) FROM live.owned;
\set VERBOSITY sqlstate
SELECT millrace.deactivate('live.events');
\set VERBOSITY terse
RESET ROLE;
ALTER VIEW live.owned OWNER TO regress_view_reader;
SELECT relname, relowner::regrole FROM pg_class WHERE relname = 'owned' AND relnamespace = 'live'::regnamespace;
-- The query runs as the owner, who may no longer read the stream: the view fails, the others do not.
SELECT feed('events', rows(381, 390));
SELECT check_view('one');
SELECT wait_until($$ (SELECT state = 'failed' FROM millrace.views WHERE view = 'live.owned'::regclass) $$);
SELECT last_error FROM millrace.views WHERE view = 'live.owned'::regclass;
GRANT SELECT ON live.events TO regress_view_reader;
SELECT millrace.activate('live.owned');
SELECT millrace.wait_for_latest('live.owned', tools.patience());
SELECT sum(count) FROM live.owned;

-- Dropping leaves nothing.
CREATE FUNCTION tools.belongings() RETURNS SETOF text LANGUAGE sql AS $$
  SELECT relname::text FROM pg_class WHERE relname ~ '^(owned|gone|dropped)' AND relkind IN ('r', 'v', 'm', 'f')
  UNION ALL SELECT typname FROM pg_type WHERE typname ~ '^_?(owned|gone|dropped)'
  UNION ALL SELECT 'view ' || view FROM millrace.views WHERE view::text ~ '(owned|gone|dropped)|^[0-9]+$'
  UNION ALL SELECT 'partition ' || view FROM millrace.partitions WHERE view::text ~ '(owned|gone|dropped)|^[0-9]+$'
$$;
DROP OWNED BY regress_view_reader;
SELECT belongings();
CREATE TABLE plain.gone (id int);
SELECT create_stream('gone');
SELECT millrace.create_continuous_view('live.gone_1', 'SELECT count(*) FROM live.gone');
SELECT millrace.create_continuous_view('live.gone_2', 'SELECT id, count(*) FROM live.gone GROUP BY id');
SELECT feed('gone', 'SELECT generate_series(1, 10)');
SELECT millrace.wait_for_latest('live.gone_1', tools.patience());
BEGIN;
DROP VIEW live.gone_1;
ROLLBACK;
SELECT feed('gone', 'SELECT generate_series(1, 10)');
SELECT millrace.wait_for_latest('live.gone_1', tools.patience());
TABLE live.gone_1;
-- What a view reads is not dropped without it.
\set VERBOSITY sqlstate
DROP FOREIGN TABLE live.gone;
DROP SERVER broker;
ALTER FOREIGN TABLE live.gone DROP COLUMN id;
ALTER FOREIGN TABLE live.gone ALTER COLUMN id TYPE bigint;
CREATE OR REPLACE VIEW live.gone_1 AS SELECT 5::bigint AS count;
\set VERBOSITY terse
TABLE live.gone_1;
DROP VIEW live.gone_1;
DROP VIEW live.gone_2;
SELECT millrace.create_continuous_view('live.gone_1', 'SELECT max(id) FROM live.gone');
SELECT millrace.wait_for_latest('live.gone_1', tools.patience());
TABLE live.gone_1;
BEGIN;
SELECT millrace.create_continuous_view('live.gone_2', 'SELECT max(id) FROM live.gone');
DROP VIEW live.gone_2;
SELECT millrace.create_continuous_view('live.gone_2', 'SELECT min(id) FROM live.gone');
COMMIT;
SELECT millrace.wait_for_latest('live.gone_2', tools.patience());
TABLE live.gone_2;
DROP FOREIGN TABLE live.gone CASCADE;
DROP TABLE plain.gone;
SELECT belongings();
-- A schema with all in it, and another database's worth of objects by the owner.
CREATE SCHEMA dropped;
SET search_path = dropped;
CREATE SERVER dropped_server FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.servers" :'bootstrap');
CREATE FOREIGN TABLE dropped_stream (id int) SERVER dropped_server OPTIONS (topic 'set_below');
DO $$ BEGIN EXECUTE format('ALTER FOREIGN TABLE dropped_stream OPTIONS (SET topic %L)', current_setting('mr.topic')); END $$;
SELECT millrace.create_continuous_view('dropped_view', 'SELECT count(*) FROM dropped_stream');
SELECT millrace.wait_for_latest('dropped_view', tools.patience());
TABLE dropped_view;
SET search_path = tools, common;
DROP SERVER dropped_server CASCADE;
SELECT belongings();
DROP SCHEMA dropped CASCADE;
SELECT wait_until($$ NOT EXISTS (SELECT FROM millrace.workers WHERE stream IS DISTINCT FROM 'live.events'::regclass AND stream IS DISTINCT FROM 'live.empty'::regclass) $$);
SELECT check_views();
DROP OWNED BY regress_view_owner, regress_view_reader, regress_view_stranger;
DROP ROLE regress_view_owner, regress_view_reader, regress_view_stranger;

\i sql/teardown.inc
