--
-- Transforms into tables that do not take every row: such a message is a dead letter of the transform, all others go in.
--
\i sql/setup.inc

CREATE ROLE transform_owner;
CREATE ROLE transform_other;
GRANT ALL ON SCHEMA live, common, tools TO transform_owner;
CREATE USER MAPPING FOR transform_owner SERVER broker;
CREATE TABLE plain.events (id int, n int, t text);
SELECT create_stream('events');
GRANT SELECT ON live.events TO transform_owner;
SET ROLE transform_owner;

CREATE DOMAIN live.small AS int CHECK (VALUE < 8);
CREATE TABLE live.parents (n int PRIMARY KEY);
INSERT INTO live.parents SELECT i FROM generate_series(0, 20) i WHERE i <> 7;
CREATE TABLE tools.log (what text, who name, who_session bool, id int);

CREATE TABLE live.checked (id int, n int CHECK (n <> 7), t text);
CREATE TABLE live.notnull (id int, n int, t text NOT NULL);
CREATE TABLE live.uniq (id int UNIQUE, n int);
CREATE TABLE live.uniq_deferred (id int UNIQUE DEFERRABLE INITIALLY DEFERRED, n int);
CREATE TABLE live.referring (id int, n int REFERENCES live.parents);
CREATE TABLE live.referring_deferred (id int, n int REFERENCES live.parents DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE live.excluding (id int4range, n int, EXCLUDE USING gist (id WITH &&));
CREATE TABLE live.domained (id int, n live.small);
CREATE TABLE live.short (id int, t varchar(3));
CREATE TABLE live.parted (id int, n int) PARTITION BY LIST (n);
CREATE TABLE live.parted_1 PARTITION OF live.parted FOR VALUES IN (1, 2, 3, 4, 5, 6);
CREATE TABLE live.parted_2 PARTITION OF live.parted FOR VALUES IN (8, 9, NULL);
CREATE TABLE live.generated (id int, k int GENERATED ALWAYS AS IDENTITY, n int, q int GENERATED ALWAYS AS (100 / (n - 7)) STORED, d int DEFAULT 42);
CREATE TABLE live.secured (id int, n int);
ALTER TABLE live.secured ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON live.secured USING (true) WITH CHECK (n <> 7 AND current_user = 'transform_owner');

CREATE FUNCTION live.fire() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_LEVEL = 'STATEMENT' THEN
    INSERT INTO tools.log SELECT TG_WHEN || ' statement', current_user, session_user = current_user, count(*) FROM new_rows;
    RETURN NULL;
  END IF;
  IF NEW.n = 7 THEN
    RAISE EXCEPTION 'no seven';
  END IF;
  IF NEW.n = 8 AND TG_WHEN = 'BEFORE' THEN
    RETURN NULL;
  END IF;
  INSERT INTO tools.log VALUES (TG_WHEN, current_user, session_user = current_user, NEW.id);
  RETURN NEW;
END $$;
CREATE TABLE live.triggered (id int, n int);
CREATE TRIGGER a BEFORE INSERT ON live.triggered FOR EACH ROW EXECUTE FUNCTION live.fire();
CREATE TABLE live.after_triggered (id int, n int);
CREATE TRIGGER a AFTER INSERT ON live.after_triggered FOR EACH ROW EXECUTE FUNCTION live.fire();
CREATE TRIGGER b AFTER INSERT ON live.after_triggered REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION live.fire();
CREATE TABLE live.deferred_triggered (id int, n int);
CREATE CONSTRAINT TRIGGER a AFTER INSERT ON live.deferred_triggered DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION live.fire();

SELECT millrace.create_continuous_transform('live.into_' || r, format('SELECT %s FROM live.events', columns), ('live.' || r)::regclass)
FROM (VALUES ('checked', 'id, n, t'), ('notnull', 'id, n, t'), ('uniq', 'id, n'), ('uniq_deferred', 'id, n'), ('referring', 'id, n'),
  ('referring_deferred', 'id, n'), ('excluding', 'CASE WHEN id > 100 THEN int4range(id - 100, id - 98) ELSE int4range(10 * id, 10 * id + 1) END AS id, n'), ('domained', 'id, n'),
  ('short', 'id, t'), ('parted', 'id, n'), ('generated', 'id, n'), ('secured', 'id, n'), ('triggered', 'id, n'), ('after_triggered', 'id, n'), ('deferred_triggered', 'id, n')) v(r, columns);
RESET ROLE;
SELECT feed('events', $$ VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 7, 'c'), (4, 4, NULL), (2, 5, 'again'), (5, 9, 'e'), (6, 8, 'f'), (3, 3, 'third') $$);
CREATE FUNCTION wait_all() RETURNS boolean LANGUAGE sql AS $$
  SELECT bool_and(millrace.wait_for_latest(view, tools.patience())) FROM millrace.continuous_view WHERE kind = 'transform' $$;
SELECT wait_all();
CREATE VIEW tools.letters AS SELECT view, message_offset AS off, sqlstate, error, convert_from(value, 'UTF8')::json ->> 'id' AS id
  FROM millrace.dead_letters ORDER BY view::text, message_offset;
TABLE tools.letters;
CREATE FUNCTION contents() RETURNS TABLE (name text, rows text) LANGUAGE plpgsql AS $$
BEGIN
  FOR name IN SELECT c.relname FROM millrace.continuous_view v JOIN pg_class c ON c.oid = v.target ORDER BY 1 LOOP
    EXECUTE format('SELECT string_agg(r, %L ORDER BY r) FROM (SELECT (to_jsonb(s) - %L)::text AS r FROM live.%I s) x', ' ', 'k', name) INTO rows;
    RETURN NEXT;
  END LOOP;
END $$;
SELECT * FROM contents();
-- k of the identity column has gaps, as after any rolled back INSERT
SELECT count(DISTINCT k) = count(*) AS unique FROM live.generated;
-- Triggers ran as the owner of the transforms, for each row that is in.
SELECT what, who, who_session, array_agg(id ORDER BY id) FROM tools.log WHERE what NOT LIKE '%statement' GROUP BY 1, 2, 3 ORDER BY 1;
SELECT what, who, who_session, sum(id) FROM tools.log WHERE what LIKE '%statement' GROUP BY 1, 2, 3;
SELECT view, state, last_error FROM millrace.views WHERE kind = 'transform' AND state <> 'running';

-- Mended, and once more: each exactly into what it missed.
SET ROLE transform_owner;
INSERT INTO live.parents VALUES (7);
ALTER TABLE live.checked DROP CONSTRAINT checked_n_check;
ALTER TABLE live.short ALTER COLUMN t TYPE text;
CREATE TABLE live.parted_7 PARTITION OF live.parted FOR VALUES IN (7);
CREATE POLICY q ON live.secured USING (true) WITH CHECK (true);
RESET ROLE;
BEGIN;
SELECT millrace.replay('live.events');
COMMIT;
TABLE tools.letters;
SELECT * FROM contents() WHERE name IN ('checked', 'parted', 'referring', 'referring_deferred', 'secured', 'short');
SELECT millrace.replay('live.events');
DROP VIEW live.into_excluding, live.into_notnull, live.into_uniq, live.into_uniq_deferred, live.into_generated, live.into_domained, live.into_triggered, live.into_after_triggered,
  live.into_deferred_triggered, live.into_parted, live.into_referring, live.into_referring_deferred, live.into_short;
TABLE tools.letters;

-- Privileges are asked for at ingest, too.
CREATE TABLE live.others (id int, n int, note text);
GRANT INSERT (id) ON live.others TO transform_owner;
SET ROLE transform_owner;
SELECT millrace.create_continuous_transform('live.y', 'SELECT id, n FROM live.events', 'live.others');
SELECT millrace.create_continuous_transform('live.y', 'SELECT id FROM live.events', 'live.others');
RESET ROLE;
SELECT wait_all();
SELECT count(*) FROM live.others;
REVOKE INSERT (id) ON live.others FROM transform_owner;
SELECT feed('events', $$ VALUES (11, 1, 'a') $$);
SELECT wait_until($$ (SELECT state = 'failed' FROM millrace.views WHERE view = 'live.y'::regclass) $$);
SELECT last_error FROM millrace.views WHERE view = 'live.y'::regclass;
SELECT count(*) FROM tools.letters WHERE view = 'live.y'::regclass;
GRANT INSERT (id) ON live.others TO transform_owner;
SELECT millrace.activate('live.y');
SELECT wait_all();
SELECT count(*) FROM live.others;
-- So are rights of a new owner.
ALTER VIEW live.y OWNER TO transform_other;
SELECT feed('events', $$ VALUES (12, 1, 'a') $$);
SELECT wait_until($$ (SELECT state = 'failed' FROM millrace.views WHERE view = 'live.y'::regclass) $$);
SELECT last_error FROM millrace.views WHERE view = 'live.y'::regclass;
ALTER VIEW live.y OWNER TO transform_owner;
SELECT millrace.activate('live.y');
SELECT wait_all();
SELECT count(*) FROM live.others;
-- What a target becomes later is looked at, too.
ALTER TABLE live.others SET UNLOGGED;
SELECT feed('events', $$ VALUES (13, 1, 'a') $$);
SELECT wait_until($$ (SELECT state = 'failed' FROM millrace.views WHERE view = 'live.y'::regclass) $$);
SELECT last_error FROM millrace.views WHERE view = 'live.y'::regclass;
ALTER TABLE live.others SET LOGGED;
SELECT millrace.activate('live.y');
SELECT wait_all();
SELECT count(*) FROM live.others;
DROP VIEW live.y;

-- No trigger puts a constraint off until the commit, where it would be nobody's.
CREATE FUNCTION live.put_off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET CONSTRAINTS ALL DEFERRED; RETURN NEW; END $$;
CREATE TABLE live.put_off (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE TRIGGER a BEFORE INSERT ON live.put_off FOR EACH ROW EXECUTE FUNCTION live.put_off();
SELECT millrace.create_continuous_transform('live.puts_off', 'SELECT id FROM live.events', 'live.put_off');
SELECT wait_until($$ (SELECT state = 'failed' FROM millrace.views WHERE view = 'live.puts_off'::regclass) $$);
SELECT last_error FROM millrace.views WHERE view = 'live.puts_off'::regclass;
DROP VIEW live.puts_off;

-- skip and stop
ALTER FOREIGN TABLE live.events OPTIONS (ADD on_error 'skip');
SELECT wait_all();
SELECT count(*) FROM tools.letters;
CREATE TABLE live.skipping (id int CHECK (id <> 2));
SELECT millrace.create_continuous_transform('live.skips', 'SELECT id FROM live.events', 'live.skipping');
SELECT wait_all();
SELECT array_agg(id ORDER BY id) FROM live.skipping;
SELECT count(*) FROM tools.letters;
ALTER FOREIGN TABLE live.events OPTIONS (SET on_error 'stop');
SELECT feed('events', $$ VALUES (20, 1, 'a'), (2, 2, 'b'), (21, 1, 'c') $$);
SELECT wait_until($$ (SELECT state = 'stopped' FROM millrace.views WHERE view = 'live.skips'::regclass) $$);
SELECT last_error FROM millrace.views WHERE view = 'live.skips'::regclass;
SELECT array_agg(id ORDER BY id) FROM live.skipping WHERE id >= 20;
ALTER TABLE live.skipping DROP CONSTRAINT skipping_id_check;
SELECT millrace.activate('live.skips');
SELECT wait_all();
SELECT array_agg(id ORDER BY id) FROM live.skipping WHERE id = 2 OR id >= 20;
\i sql/teardown.inc
DROP OWNED BY transform_owner, transform_other;
DROP ROLE transform_owner, transform_other;
