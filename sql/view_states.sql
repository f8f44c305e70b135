--
-- States of aggregates: finalize() takes what continuous views have stored, and nothing that looks like it.
--
\i sql/setup.inc

CREATE TABLE plain.measured (k int, n numeric, b bigint);
SELECT create_stream('measured');
SELECT feed('measured', 'SELECT i % 3, i / 7.0, i FROM generate_series(1, 100) i');

CREATE ROLE regress_mr_states;
GRANT USAGE ON SCHEMA live, tools TO regress_mr_states;
GRANT CREATE ON SCHEMA common TO regress_mr_states;
GRANT USAGE ON SCHEMA common TO regress_mr_states;
GRANT SELECT ON live.measured TO regress_mr_states;
SET ROLE regress_mr_states;
SELECT millrace.create_continuous_view('common.stats', 'SELECT k, avg(n) AS a, var_samp(n) AS v, sum(b) AS s, count(*) FROM live.measured GROUP BY k');
SELECT millrace.wait_for_latest('common.stats', tools.patience());
SELECT count(*) FROM (TABLE common.stats EXCEPT SELECT k, avg(n), var_samp(n), sum(b), count(*) FROM (SELECT i % 3 AS k, i / 7.0 AS n, i AS b FROM generate_series(1, 100) i) m GROUP BY k) d;
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'common.stats_mrel'::regclass AND attnum > 0 ORDER BY attnum;

-- Whoever may read a state may finish it, wherever he keeps it.
CREATE TABLE common.kept AS SELECT * FROM common.stats_mrel;
CREATE TYPE common.box AS (state millrace.state);
CREATE DOMAIN common.mine AS millrace.state;
SELECT k, round(millrace.finalize('avg(numeric)', a, NULL::numeric), 3) FROM common.kept ORDER BY k;
SELECT round(millrace.finalize('avg(numeric)', (ROW(a)::common.box).state, NULL::numeric), 3) FROM common.kept ORDER BY k LIMIT 1;
SELECT round(millrace.finalize('avg(numeric)', (ARRAY[a])[1], NULL::numeric), 3) FROM common.kept ORDER BY k LIMIT 1;
SELECT millrace.finalize('avg(numeric)', NULL::millrace.state, NULL::numeric);
-- Renamed and moved, an aggregate's states are still its own.
RESET ROLE;
CREATE AGGREGATE tools.average (numeric) (SFUNC = numeric_avg_accum, STYPE = internal, FINALFUNC = numeric_avg, SERIALFUNC = numeric_avg_serialize, DESERIALFUNC = numeric_avg_deserialize, COMBINEFUNC = numeric_avg_combine);
ALTER AGGREGATE tools.average (numeric) RENAME TO mean;
SELECT k, round(millrace.finalize('tools.mean(numeric)', a, NULL::numeric), 3) FROM common.kept ORDER BY k LIMIT 1;
SET ROLE regress_mr_states;

-- Another aggregate's state, and one by another name.
SELECT millrace.finalize('var_samp(numeric)', a, NULL::numeric) FROM common.kept;
SELECT millrace.finalize('sum(numeric)', a, NULL::numeric) FROM common.kept;
SELECT millrace.finalize('avg(bigint)', s, NULL::numeric) FROM common.kept;
SELECT millrace.finalize('avg(numeric)', v, NULL::numeric) FROM common.stats_mrel;
SELECT millrace.finalize('avg(numeric)', CASE WHEN k = 0 THEN a ELSE v END, NULL::numeric) FROM common.kept ORDER BY k;
SELECT millrace.finalize('avg(numeric)', x.a, NULL::numeric) FROM jsonb_populate_recordset((SELECT ROW(v)::record FROM common.kept LIMIT 1), '[{}]') AS x (a millrace.state);
SELECT millrace.finalize('avg(numeric)', a::common.mine, NULL::numeric) FROM common.kept;

-- Made by hand.
SELECT millrace.finalize('avg(numeric)', '\x00', NULL::numeric);
SELECT millrace.finalize('avg(numeric)', '\x00'::bytea, NULL::numeric);
SELECT '\x0000000000000000'::millrace.state;
SELECT '\x00'::bytea::millrace.state;
SELECT a::text::millrace.state FROM common.kept;
SELECT a::bytea FROM common.kept;
INSERT INTO common.kept (a) VALUES ('\x0000000000000000');
COPY common.kept (a) FROM stdin;
\\x0000000000000000
\.
SELECT '("\\x0000000000000000")'::common.box;
SELECT '{"\\x0000000000000000"}'::millrace.state[];
SELECT '\x0000000000000000'::common.mine;
SELECT jsonb_populate_record(NULL::common.box, '{"state": "\\x0000000000000000"}');
SELECT millrace.state_in('\x0000000000000000');
SELECT * FROM json_to_record('{"s": "\\x0000000000000000"}') AS r (s millrace.state);
PREPARE given (millrace.state) AS SELECT millrace.finalize('avg(numeric)', $1, NULL::numeric);
EXECUTE given ('\x0000000000000000');
CREATE FUNCTION common.forge(text) RETURNS millrace.state LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
SELECT common.forge('\x0000000000000000');
CREATE CAST (bytea AS millrace.state) WITH INOUT;
CREATE CAST (common.box AS millrace.state) WITHOUT FUNCTION;
CREATE CAST (common.box AS millrace.state) WITH INOUT;
SELECT ROW(a)::common.box::millrace.state FROM common.kept;
CREATE AGGREGATE common.forged (int) (SFUNC = numeric_accum, STYPE = internal, FINALFUNC = numeric_avg);
CREATE FUNCTION common.next(millrace.state, int) RETURNS millrace.state LANGUAGE sql AS $$ SELECT $1 $$;
CREATE AGGREGATE common.started (int) (SFUNC = common.next, STYPE = millrace.state, INITCOND = '\x0000000000000000');
RESET ROLE;

-- Superusers restore them: what comes out goes in.
SELECT count(*), count(*) FILTER (WHERE millrace.finalize('var_samp(numeric)', v, NULL::numeric) = millrace.finalize('var_samp(numeric)', v::text::millrace.state, NULL::numeric)) FROM common.kept;
\getenv directory PG_ABS_BUILDDIR
\set file :directory '/results/states.data'
COPY (SELECT v FROM common.kept) TO :'file' (FORMAT binary);
CREATE TABLE common.again (v millrace.state);
COPY common.again FROM :'file' (FORMAT binary);
SELECT count(*) FROM (SELECT v::text FROM common.kept EXCEPT ALL SELECT v::text FROM common.again) d;
SELECT '\x00'::millrace.state;
SELECT '00'::millrace.state;
SELECT '\x000000000000000g'::millrace.state;
SELECT millrace.finalize('avg(numeric)', '\x0000000000000000ff', NULL::numeric);
SELECT millrace.finalize('avg(numeric)', '\x0000000000000000ff'::millrace.state, NULL::numeric);

-- An aggregate that one may not execute is not finished either.
REVOKE EXECUTE ON FUNCTION tools.mean(numeric) FROM PUBLIC;
SET ROLE regress_mr_states;
SELECT millrace.finalize('tools.mean(numeric)', a, NULL::numeric) FROM common.kept;
RESET ROLE;

-- Types of arguments are told as many as there are, where the final function knows them.
CREATE FUNCTION tools.last_of(bigint, int) RETURNS bigint LANGUAGE sql AS 'SELECT $1';
CREATE AGGREGATE tools.extra (int) (SFUNC = int4_sum, STYPE = bigint, FINALFUNC = tools.last_of, FINALFUNC_EXTRA, COMBINEFUNC = int8pl);
SELECT millrace.finalize('tools.extra(int)', 5::bigint, NULL::bigint, NULL::int);
SELECT millrace.finalize('tools.extra(int)', 5::bigint, NULL::bigint);
SELECT millrace.finalize('tools.extra(int)', 5::bigint, NULL::bigint, NULL::int, NULL::int);

DROP OWNED BY regress_mr_states CASCADE;
DROP ROLE regress_mr_states;
\i sql/teardown.inc
