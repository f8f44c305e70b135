--
-- Messages that cannot be used, and views that cannot take them.
--
\i sql/setup.inc

-- Fields are written as JSON of any kind, and read as what they should be.
CREATE FUNCTION make_streams(name text, on_error text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  topic text := new_topic(name);
BEGIN
  EXECUTE format('CREATE FOREIGN TABLE live.raw_%s (id json, n json, t json, key text OPTIONS (metadata ''key'')) SERVER broker OPTIONS (topic %L)', name, topic);
  EXECUTE format('CREATE FOREIGN TABLE live.%s (id int, n int, t text, off bigint OPTIONS (metadata ''offset'')) SERVER broker OPTIONS (topic %L%s)', name, topic,
    ', on_error ' || quote_literal(on_error));
END $$;
CREATE VIEW tools.letters AS
  SELECT stream, view, partition, message_offset, message_timestamp IS NOT NULL AS stamped, convert_from(key, 'UTF8') AS key, convert_from(value, 'UTF8') AS value,
    headers, sqlstate, error ~ '"n"' AS names_column, abs(extract(epoch FROM failed_at - now())) < 600 AS recent
  FROM millrace.dead_letters ORDER BY id;

-- dead_letter is the default.
SELECT make_streams('letters', NULL);
SELECT millrace.create_continuous_view('live.l_sum', 'SELECT count(*), sum(n) FROM live.letters');
SELECT millrace.create_continuous_view('live.l_ids', 'SELECT id FROM live.letters');
INSERT INTO live.raw_letters VALUES ('1', '10', '"a"', 'k1'), ('2', '"x"', '"b"', 'k2'), ('3', '30', '{}', NULL), ('4', '[]', NULL, NULL), ('5', '99999999999', NULL, ''), ('6', '60', NULL, NULL);
SELECT millrace.wait_for_latest('live.l_sum', tools.patience()), millrace.wait_for_latest('live.l_ids', tools.patience());
TABLE live.l_sum;
SELECT id FROM live.l_ids ORDER BY id;
TABLE letters;
SELECT messages, dead_letters, last_error FROM millrace.streams WHERE stream = 'live.letters'::regclass;
SELECT next_offset - low_watermark >= 6 AS moved, lag FROM millrace.partitions WHERE view = 'live.l_sum'::regclass;
-- A later view counts no message twice and leaves no second letter.
SELECT millrace.create_continuous_view('live.l_late', 'SELECT count(*), sum(n) FROM live.letters');
SELECT millrace.wait_for_latest('live.l_late', tools.patience());
TABLE live.l_late;
SELECT count(*), count(view) FROM letters;

-- What no view reads is not looked at.
SELECT make_streams('unread', 'dead_letter');
SELECT millrace.create_continuous_view('live.u_ids', 'SELECT id, t FROM live.unread');
SELECT millrace.create_continuous_view('live.u_count', 'SELECT count(*) FROM live.unread');
INSERT INTO live.raw_unread VALUES ('1', '"x"', '"a"'), ('2', '{}', NULL), ('3', '3', '[1]');
SELECT millrace.wait_for_latest('live.u_ids', tools.patience()), millrace.wait_for_latest('live.u_count', tools.patience());
SELECT * FROM live.u_ids ORDER BY id;
TABLE live.u_count;
SELECT count(*) FROM letters WHERE stream = 'live.unread'::regclass;

-- skip: on, and no letter.
SELECT make_streams('skipped', 'skip');
SELECT millrace.create_continuous_view('live.s_sum', 'SELECT count(*), sum(n) FROM live.skipped');
INSERT INTO live.raw_skipped VALUES ('1', '10'), ('2', '"x"'), ('3', '30'), ('"y"', '40');
SELECT millrace.wait_for_latest('live.s_sum', tools.patience());
TABLE live.s_sum;
SELECT count(*) FROM letters WHERE stream = 'live.skipped'::regclass;

-- stop: nothing behind the message is taken until something is done about it.
SELECT make_streams('stopping', 'stop');
SELECT millrace.create_continuous_view('live.t_sum', 'SELECT count(*), sum(n) FROM live.stopping');
SELECT millrace.create_continuous_view('live.t_ids', 'SELECT id, n FROM live.stopping');
INSERT INTO live.raw_stopping VALUES ('1', '10'), ('2', '20');
SELECT millrace.wait_for_latest('live.t_sum', tools.patience()), millrace.wait_for_latest('live.t_ids', tools.patience());
INSERT INTO live.raw_stopping VALUES ('3', '30'), ('4', '"x"'), ('5', '50');
SELECT wait_until($$ (SELECT state = 'stopped' FROM millrace.streams WHERE stream = 'live.stopping'::regclass) $$);
SELECT state, last_error ~ '"n"' AS names_column, last_error_at IS NOT NULL AS at FROM millrace.streams WHERE stream = 'live.stopping'::regclass;
SELECT wait_until($$ (SELECT bool_and(state = 'stopped') FROM millrace.views WHERE stream = 'live.stopping'::regclass) $$);
SELECT view, state, last_error ~ '"n"' AS names_column FROM millrace.views WHERE stream = 'live.stopping'::regclass ORDER BY view::text;
SELECT count(*) IN (2, 3) AS before_it FROM live.t_ids;
SELECT (SELECT count FROM live.t_sum) = (SELECT count(*) FROM live.t_ids) AS agree;
SELECT count(*) FROM letters WHERE stream = 'live.stopping'::regclass;
\set VERBOSITY sqlstate
SELECT millrace.wait_for_latest('live.t_sum', '3s');
\set VERBOSITY terse
ALTER FOREIGN TABLE live.stopping OPTIONS (SET on_error 'dead_letter');
SELECT millrace.activate('live.stopping');
SELECT millrace.wait_for_latest('live.t_sum', tools.patience()), millrace.wait_for_latest('live.t_ids', tools.patience());
TABLE live.t_sum;
SELECT * FROM live.t_ids ORDER BY id;
SELECT message_offset, value, sqlstate FROM letters WHERE stream = 'live.stopping'::regclass;
SELECT wait_until($$ (SELECT state = 'running' FROM millrace.streams WHERE stream = 'live.stopping'::regclass) $$);

-- A message that one view cannot take is a dead letter of that view; the others take it.
SELECT make_streams('numbers', 'dead_letter');
SELECT millrace.create_continuous_view('live.n_ratio', 'SELECT count(*), sum(100 / n) AS s FROM live.numbers');
SELECT millrace.create_continuous_view('live.n_sum', 'SELECT count(*), sum(n) AS s FROM live.numbers');
SELECT millrace.create_continuous_view('live.n_rows', 'SELECT id, 100 / n AS q FROM live.numbers');
SELECT millrace.create_continuous_view('live.n_keys', $$ SELECT repeat(id || t, n * 1000) AS k, count(*) FROM live.numbers GROUP BY 1 $$);
INSERT INTO live.raw_numbers VALUES ('1', '1', '"a"'), ('2', '2', '"b"');
SELECT millrace.wait_for_latest('live.n_ratio', tools.patience()), millrace.wait_for_latest('live.n_sum', tools.patience());
INSERT INTO live.raw_numbers VALUES ('3', '0', '"c"', 'k3'), ('4', '4', '"d"', NULL), ('5', '"x"', '"e"', 'k5'),
  ('6', '1', to_json((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 200) i)), 'k6');
SELECT millrace.wait_for_latest(v, tools.patience()) FROM unnest('{live.n_ratio,live.n_sum,live.n_rows,live.n_keys}'::regclass[]) v;
TABLE live.n_ratio;
TABLE live.n_sum;
SELECT * FROM live.n_rows ORDER BY id;
SELECT left(k, 1) AS k, count FROM live.n_keys ORDER BY 1;
SELECT view, message_offset, convert_from(key, 'UTF8') AS key, left(convert_from(value, 'UTF8'), 40) AS value, sqlstate, left(error, 40) AS error
  FROM millrace.dead_letters WHERE stream = 'live.numbers'::regclass ORDER BY message_offset, view::text;
SELECT view, ARRAY(SELECT unnest(missed)::text ORDER BY 1) AS missed FROM millrace.dead_letters WHERE stream = 'live.numbers'::regclass AND view IS NULL;
SELECT wait_until($$ (SELECT bool_and(state = 'running') FROM millrace.views WHERE stream = 'live.numbers'::regclass) $$);
SELECT view, state, last_error FROM millrace.views WHERE stream = 'live.numbers'::regclass ORDER BY view::text;
-- The letters of a view go with it.
DROP VIEW live.n_ratio;
SELECT count(*) FROM letters WHERE stream = 'live.numbers'::regclass AND (view IS NULL OR view = 'live.n_rows'::regclass);
SELECT ARRAY(SELECT unnest(missed)::text ORDER BY 1) AS missed FROM millrace.dead_letters WHERE stream = 'live.numbers'::regclass AND view IS NULL;

-- skip: on, without a letter; the view that can takes the message.
SELECT make_streams('passed', 'skip');
SELECT millrace.create_continuous_view('live.p_ratio', 'SELECT count(*), sum(100 / n) AS s FROM live.passed');
SELECT millrace.create_continuous_view('live.p_sum', 'SELECT count(*), sum(n) AS s FROM live.passed');
INSERT INTO live.raw_passed VALUES ('1', '1'), ('2', '0'), ('3', '"x"'), ('4', '4');
SELECT millrace.wait_for_latest('live.p_ratio', tools.patience()), millrace.wait_for_latest('live.p_sum', tools.patience());
TABLE live.p_ratio;
TABLE live.p_sum;
SELECT dead_letters, skipped FROM millrace.streams WHERE stream = 'live.passed'::regclass;

-- stop: before the message, for all views.
SELECT make_streams('halting', 'stop');
SELECT millrace.create_continuous_view('live.h_sum', 'SELECT count(*), sum(n) AS s FROM live.halting');
SELECT millrace.create_continuous_view('live.h_ratio', 'SELECT count(*), sum(100 / n) AS s FROM live.halting');
INSERT INTO live.raw_halting VALUES ('1', '1'), ('2', '2');
SELECT millrace.wait_for_latest('live.h_ratio', tools.patience()), millrace.wait_for_latest('live.h_sum', tools.patience());
-- it is one feed that stops
SELECT wait_until($$ (SELECT count(DISTINCT feed) = 1 FROM millrace.view_stream WHERE stream = 'live.halting'::regclass) $$);
INSERT INTO live.raw_halting VALUES ('3', '3'), ('4', '0'), ('5', '5');
SELECT wait_until($$ (SELECT bool_and(state = 'stopped') FROM millrace.views WHERE stream = 'live.halting'::regclass) $$);
SELECT state, last_error FROM millrace.streams WHERE stream = 'live.halting'::regclass;
TABLE live.h_ratio;
TABLE live.h_sum;
ALTER FOREIGN TABLE live.halting OPTIONS (SET on_error 'dead_letter');
SELECT millrace.activate('live.halting');
SELECT millrace.wait_for_latest('live.h_ratio', tools.patience()), millrace.wait_for_latest('live.h_sum', tools.patience());
TABLE live.h_ratio;
TABLE live.h_sum;
SELECT view, message_offset, error FROM millrace.dead_letters WHERE stream = 'live.halting'::regclass;

-- replay: into what missed a message, once, when the cause was mended.
CREATE TABLE common.factor (k int PRIMARY KEY, f int);
INSERT INTO common.factor VALUES (1, 1), (2, 0), (3, 0);
SELECT make_streams('again', 'dead_letter');
SELECT millrace.create_continuous_view('live.a_factor', $$ SELECT count(*), sum(n / f) AS s FROM live.again JOIN common.factor ON k = id $$);
SELECT millrace.create_continuous_view('live.a_rows', $$ SELECT id, n / f AS q, t FROM live.again JOIN common.factor ON k = id $$);
SELECT millrace.create_continuous_view('live.a_count', 'SELECT count(*) FROM live.again');
INSERT INTO live.raw_again VALUES ('1', '10', '"a"', 'key'), ('2', '20', '"b"', NULL), ('3', '30', NULL, NULL), ('1', '"2147483648"', NULL, NULL), ('1', '{}', NULL, NULL);
SELECT millrace.wait_for_latest(v, tools.patience()) FROM unnest('{live.a_factor,live.a_rows,live.a_count}'::regclass[]) v;
CREATE VIEW tools.again AS SELECT view, message_offset AS off, sqlstate, left(error, 45) AS error, cardinality(missed) AS missed
  FROM millrace.dead_letters WHERE stream = 'live.again'::regclass ORDER BY message_offset, view::text;
TABLE again;
TABLE live.a_factor;
-- Nothing is mended: nothing changes but the time.
CREATE TABLE tools.before AS SELECT id, failed_at FROM millrace.dead_letters WHERE stream = 'live.again'::regclass;
SELECT millrace.replay('live.again');
SELECT count(*), bool_and(d.failed_at > b.failed_at) AS later FROM millrace.dead_letters d JOIN before b USING (id);
TABLE live.a_factor;
-- One is, for one view by a filter, then for all.
UPDATE common.factor SET f = 5 WHERE k = 2;
SELECT millrace.replay('live.again', $$ view = 'live.a_factor'::regclass $$);
SELECT millrace.replay('live.again', $$ view = 'live.a_factor'::regclass -- and no more $$);
TABLE live.a_factor;
SELECT id, q, t FROM live.a_rows ORDER BY id;
SELECT millrace.replay('live.again', NULL);
SELECT id, q, t FROM live.a_rows ORDER BY id;
TABLE again;
-- What can be decoded now goes into every view that misses it, but not into one that is younger.
ALTER FOREIGN TABLE live.again ALTER COLUMN n OPTIONS (ADD path 'id');
SELECT millrace.create_continuous_view('live.a_young', 'SELECT count(*) FROM live.again');
SELECT millrace.wait_for_latest('live.a_young', tools.patience());
TABLE live.a_young;
DROP VIEW live.a_rows;
BEGIN;
SELECT millrace.replay('live.again', 'message_offset = 3');
TABLE live.a_count;
ROLLBACK;
TABLE live.a_count;
SELECT millrace.replay('live.again', 'message_offset = 3');
TABLE live.a_count;
TABLE live.a_young;
TABLE live.a_factor;
TABLE again;
-- A view that is not running takes its letters, too.
SELECT millrace.deactivate('live.a_factor');
UPDATE common.factor SET f = 2;
SELECT millrace.replay('live.again');
TABLE live.a_factor;
TABLE again;
SELECT millrace.activate('live.a_factor');
INSERT INTO live.raw_again VALUES ('3', '8', NULL, NULL);
SELECT millrace.wait_for_latest('live.a_factor', tools.patience());
TABLE live.a_factor;
-- Emptied, a view misses nothing that came before.
SELECT millrace.truncate_continuous_view('live.a_count');
SELECT millrace.replay('live.again', 'true');
TABLE live.a_count;
-- Filters are conditions and nothing else.
SELECT millrace.replay('live.again', 'true) OR (true');
SELECT millrace.replay('live.again', 'true; DROP TABLE tools.before');
SELECT millrace.replay('live.again', 'true AS x');
SELECT millrace.replay('live.again', '1 FROM pg_class');
SELECT millrace.replay('live.again', 'true ORDER BY 1');
SELECT millrace.replay('live.again', 'true UNION SELECT 1');
SELECT millrace.replay('live.again', '*');
SELECT millrace.replay('live.again', '');
SELECT millrace.replay('live.again', '/* true');
SELECT millrace.replay('live.again', 'nothing = 1');
SELECT millrace.replay('live.again', '17');
SELECT millrace.replay('live.again', 'id = $1');
SELECT millrace.replay('live.again', 'EXISTS (SELECT FROM common.factor WHERE k = message_offset)');
SELECT millrace.replay(NULL);
SELECT millrace.replay('common.factor');
CREATE ROLE regress_letters_other;
GRANT USAGE ON SCHEMA live TO regress_letters_other;
GRANT SELECT ON live.again TO regress_letters_other;
SET ROLE regress_letters_other;
SELECT millrace.replay('live.again');
RESET ROLE;
DROP OWNED BY regress_letters_other;
DROP ROLE regress_letters_other;

-- A view stands for what it misses itself, and belongs to its own owner.
CREATE ROLE regress_letters_owner;
SELECT make_streams('own', 'dead_letter');
GRANT USAGE, CREATE ON SCHEMA live TO regress_letters_owner;
GRANT USAGE ON SCHEMA common, tools TO regress_letters_owner;
GRANT SELECT ON live.own, common.factor TO regress_letters_owner;
UPDATE common.factor SET f = CASE k WHEN 3 THEN 0 ELSE 1 END;
INSERT INTO common.factor VALUES (4, 0);
SELECT millrace.create_continuous_view('live.o_count', 'SELECT count(*), sum(n) FROM live.own');
SET ROLE regress_letters_owner;
SELECT millrace.create_continuous_view('live.o_rows', 'SELECT id, n / f AS q FROM live.own JOIN common.factor ON k = id');
RESET ROLE;
INSERT INTO live.raw_own VALUES ('1', '10'), ('2', '"x"'), ('3', '30'), ('4', '[]');
SELECT millrace.wait_for_latest(v, tools.patience()) FROM unnest('{live.o_count,live.o_rows}'::regclass[]) v;
CREATE VIEW tools.own AS SELECT view, message_offset AS off, sqlstate, (SELECT string_agg(m::text, ' ' ORDER BY m::text) FROM unnest(missed) m) AS missed
  FROM millrace.dead_letters WHERE stream = 'live.own'::regclass ORDER BY message_offset, view::text;
TABLE own;
SET ROLE regress_letters_owner;
SELECT millrace.replay('live.o_rows');
SELECT millrace.replay('live.o_count');
SELECT millrace.replay('live.own');
RESET ROLE;
TABLE own;
UPDATE common.factor SET f = 5 WHERE k = 3;
ALTER FOREIGN TABLE live.own ALTER COLUMN n OPTIONS (ADD path 'id');
SET ROLE regress_letters_owner;
SELECT millrace.replay('live.o_rows', 'message_offset = 1');
SELECT millrace.replay('live.o_rows');
SELECT millrace.replay('live.o_rows');
SELECT id, q FROM live.o_rows ORDER BY id;
RESET ROLE;
TABLE live.o_count;
TABLE own;
SELECT millrace.replay('live.o_count');
TABLE live.o_count;
TABLE own;
UPDATE common.factor SET f = 1 WHERE k = 4;
SELECT millrace.replay('live.own');
SELECT id, q FROM live.o_rows ORDER BY id;
TABLE own;
-- Which of several streams, or none, has to be said.
SELECT millrace.create_continuous_view('live.o_both', 'SELECT id FROM live.own UNION ALL SELECT id FROM live.again');
SELECT millrace.replay('live.o_both');
CREATE TABLE common.attached (id int);
SELECT millrace.attach_table('common.attached');
SELECT millrace.create_continuous_view('live.o_table', 'SELECT count(*) FROM common.attached');
SELECT millrace.replay('live.o_table');
SELECT millrace.replay('common.attached');
DROP VIEW live.o_table, live.o_both;
DROP OWNED BY regress_letters_owner CASCADE;
DROP ROLE regress_letters_owner;

-- Letters are shown to whom may read the stream, and go with it.
CREATE ROLE regress_letters_reader;
SET ROLE regress_letters_reader;
SELECT count(*) FROM millrace.dead_letters;
RESET ROLE;
GRANT USAGE ON SCHEMA live TO regress_letters_reader;
GRANT SELECT ON live.letters TO regress_letters_reader;
SET ROLE regress_letters_reader;
SELECT count(*) FROM millrace.dead_letters;
RESET ROLE;
DROP FOREIGN TABLE live.letters CASCADE;
SELECT count(*) FROM millrace.dead_letters WHERE stream::text LIKE '%letters' OR stream::text ~ '^[0-9]+$';
DROP OWNED BY regress_letters_reader;
DROP ROLE regress_letters_reader;

\i sql/teardown.inc
