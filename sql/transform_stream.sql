--
-- Continuous transforms into streams.
--
\i sql/setup.inc

CREATE TABLE plain.events (id int, n int, t text);
CREATE TABLE plain.doubled (id int, m int, note text);
SELECT create_stream('events', 2);
SELECT create_stream('doubled', 2);
CREATE TABLE common.names (n int PRIMARY KEY, name text);
INSERT INTO common.names SELECT i, 'name ' || i FROM generate_series(0, 9) i;

-- A chain: transform, stream, view; and the same over tables.
SELECT millrace.create_continuous_transform('live.double', 'SELECT id, 2 * n AS m, name AS note FROM live.events JOIN common.names USING (n) WHERE id > 0', 'live.doubled');
SELECT create_view('sums', 'SELECT note, count(*) AS n, sum(m) AS s FROM doubled GROUP BY note');
SELECT feed('events', $$ SELECT i, i % 12, 't' || i FROM generate_series(-10, 100) i $$);
INSERT INTO plain.doubled SELECT id, 2 * n, name FROM plain.events JOIN common.names USING (n) WHERE id > 0;
SELECT millrace.wait_for_latest('live.double', tools.patience());
SELECT check_views();
SELECT * FROM differences('live.doubled', 'plain.doubled');
-- counters come after the commit
SELECT wait_until($$ (SELECT rows_in >= 111 FROM millrace.views WHERE view = 'live.double'::regclass) $$);
SELECT view, stream, kind, state, target, rows_in, rows_out FROM millrace.views WHERE view = 'live.double'::regclass;
SELECT stream, state, messages FROM millrace.streams WHERE stream = 'live.events'::regclass;
SELECT partition, lag FROM millrace.partitions WHERE view = 'live.double'::regclass;
SELECT l FROM millrace.explain_view('live.double') l WHERE l !~ 'Kafka Topic';
-- It never follows the live feed, nor is it one.
SELECT create_view('all', 'SELECT count(*) FROM events');
SELECT check_views();
SELECT f.live, f.apart, array_agg(v.view) FROM millrace.feed f JOIN millrace.view_stream v ON v.feed = f.id WHERE f.stream = 'live.events'::regclass GROUP BY f.id, 1, 2 ORDER BY 1;
SELECT messages FROM millrace.streams WHERE stream = 'live.events'::regclass;

-- A longer chain
CREATE TABLE live.ends (id int, m int);
SELECT millrace.create_continuous_transform('live.end', 'SELECT id, m FROM live.doubled WHERE m > 10', 'live.ends');
SELECT millrace.wait_for_latest('live.end', tools.patience());
SELECT count(*), (SELECT count(*) FROM plain.doubled WHERE m > 10) FROM live.ends;

-- Paused and activated, altered, renamed
SELECT millrace.deactivate('live.double');
SELECT feed('events', $$ SELECT i, 1, 'later' FROM generate_series(1, 10) i $$);
ALTER FOREIGN TABLE live.doubled RENAME TO twofold;
ALTER FOREIGN TABLE live.twofold ADD COLUMN more text;
ALTER VIEW live.double RENAME TO twice;
SELECT millrace.activate('live.twice');
SELECT millrace.wait_for_latest('live.twice', tools.patience());
SELECT millrace.wait_for_latest('live.end', tools.patience());
SELECT count(*) FROM live.twofold;
SELECT id, m, note, more FROM live.twofold ORDER BY id, m LIMIT 2;

-- What cannot be produced is a dead letter; replayed, it is sent when the transaction commits.
DO $$ BEGIN
  EXECUTE format('CREATE FOREIGN TABLE live.keyed (id int, k text OPTIONS (metadata %L), p int OPTIONS (metadata %L), h jsonb OPTIONS (metadata %L), off bigint OPTIONS (metadata %L)) SERVER broker OPTIONS (topic %L)',
    'key', 'partition', 'headers', 'offset', new_topic('keyed', 2));
END $$;
CREATE TABLE common.places (n int, p int);
INSERT INTO common.places VALUES (1, -1), (2, 0), (3, 1), (4, NULL);
SELECT millrace.create_continuous_transform('live.place', $$ SELECT id, 'k' || id AS k, p, jsonb_build_object('a', t) AS h FROM live.events JOIN common.places USING (n) WHERE id BETWEEN 1 AND 20 AND t <> 'later' $$, 'live.keyed');
SELECT millrace.wait_for_latest('live.place', tools.patience());
-- what the broker has committed is seen some milliseconds later
SELECT wait_until('(SELECT count(*) >= 6 FROM live.keyed)');
SELECT id, k, CASE WHEN id % 12 <> 4 THEN p END AS p, h FROM live.keyed ORDER BY id;
SELECT view, sqlstate, error, convert_from(value, 'UTF8')::json ->> 'id' AS id FROM millrace.dead_letters ORDER BY id;
UPDATE common.places SET p = 1 WHERE n = 1;
BEGIN;
SELECT millrace.replay('live.events');
ROLLBACK;
SELECT count(*) FROM live.keyed;
SELECT millrace.replay('live.events');
SELECT id, k, p, h FROM live.keyed WHERE id % 12 = 1 ORDER BY id;
SELECT count(*) FROM millrace.dead_letters;

-- No other insert into a stream while messages are taken in
CREATE FUNCTION live.produce() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO live.twofold (id) VALUES (NEW.id); RETURN NEW; END $$;
CREATE TABLE live.triggered (id int);
CREATE TRIGGER p AFTER INSERT ON live.triggered FOR EACH ROW EXECUTE FUNCTION live.produce();
SELECT millrace.create_continuous_transform('live.triggers', 'SELECT id FROM live.events', 'live.triggered');
SELECT wait_until($$ (SELECT state = 'failed' FROM millrace.views WHERE view = 'live.triggers'::regclass) $$);
SELECT last_error FROM millrace.views WHERE view = 'live.triggers'::regclass;
DROP VIEW live.triggers;

-- Refusals
\set VERBOSITY default
SELECT millrace.create_continuous_transform('live.x', 'SELECT id, n AS missing FROM live.events', 'live.twofold');
SELECT millrace.create_continuous_transform('live.x', 'SELECT id, n FROM live.events', 'live.events');
SELECT millrace.create_continuous_transform('live.x', 'SELECT id FROM live.events UNION ALL SELECT m FROM live.twofold', 'live.keyed');
CREATE SERVER another FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.servers" 'localhost:1');
CREATE FOREIGN TABLE live.elsewhere (id int) SERVER another OPTIONS (topic 'elsewhere');
SELECT millrace.create_continuous_transform('live.x', 'SELECT id FROM live.events', 'live.elsewhere');
DO $$ BEGIN
  EXECUTE format('CREATE FOREIGN TABLE live.same (id int) SERVER broker OPTIONS (topic %L)', (SELECT topic FROM tools.topic WHERE stream = 'events'));
END $$;
SELECT millrace.create_continuous_transform('live.x', 'SELECT id FROM live.events', 'live.same');
\set VERBOSITY terse
CREATE ROLE transform_user;
GRANT ALL ON SCHEMA live, tools, common TO transform_user;
GRANT SELECT ON live.events TO transform_user;
CREATE USER MAPPING FOR transform_user SERVER broker;
SET ROLE transform_user;
SELECT millrace.create_continuous_transform('live.x', 'SELECT id FROM live.events', 'live.twofold');
RESET ROLE;
DROP OWNED BY transform_user;
DROP ROLE transform_user;
DROP SERVER another CASCADE;
DROP FOREIGN TABLE live.twofold;
DROP FOREIGN TABLE live.keyed CASCADE;
SELECT count(*) FROM millrace.views WHERE target IS NOT NULL AND view = 'live.twice'::regclass;
\i sql/teardown.inc
