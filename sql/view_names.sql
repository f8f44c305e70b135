--
-- Names that need quotes, other schemas, search paths, the longest names, many
-- columns and long queries.
--
\i sql/setup.inc

CREATE TABLE plain."Odd Events" (id int, "Group" int, "select" text, "a""b" int, "ünïcødé" numeric, "with space" text, "dot.ted" int, "$1" int, "CamelCase" boolean, count int, "stream" text);
SELECT create_stream('Odd Events');
CREATE FUNCTION rows(first int, last int) RETURNS text LANGUAGE sql RETURN format($$
  SELECT id, id %% 4, 's' || id %% 3, id %% 7, id * 0.5, 'w ' || id %% 2, id, id %% 2, id %% 2 = 0, id %% 5, 'stream' FROM generate_series(%s, %s) id$$, first, last);
SELECT feed('Odd Events', rows(1, 50));
BEGIN;
SELECT create_view('Weird Name', $$ SELECT "Group", "select", count(*) AS "Count", sum("ünïcødé") AS "Σ", max("a""b") AS "a""b" FROM "Odd Events" GROUP BY 1, 2 $$);
SELECT create_view('quote"d', $$ SELECT "with space" AS "%I %s %%", sum("dot.ted") AS "dot.ted", bool_or("CamelCase") AS "order by", min("$1") AS "$1", sum(count) AS count FROM "Odd Events" o GROUP BY "with space" $$);
SELECT create_view('it''s \ a $$ name', 'SELECT "stream", count(*), max(id) AS "id"" " FROM "Odd Events" "E v" GROUP BY "E v"."stream"');
SELECT create_view('select', $$ SELECT "select" AS "from", count(*) AS "where", max(id) AS "table" FROM "Odd Events" GROUP BY "select" $$);
SELECT create_view('123', $$ SELECT id AS "1", "a""b" AS "\" FROM "Odd Events" $$);
SELECT create_view('system_columns', $$ SELECT "Group" AS tableoid_, count(*) AS state, max(id) AS key, min(id) AS value, sum(id) AS _state1, avg(id) AS g1, count("$1") AS k FROM "Odd Events" GROUP BY 1 $$);
SELECT create_view('quoted_all', $$ SELECT * FROM "Odd Events" WHERE "CamelCase" $$);
SELECT create_view('unnamed', $$ SELECT "Group" + 1, count(*), sum(id), CASE WHEN true THEN max(id) END, ARRAY[1], 5::text, min(id)::int4 FROM "Odd Events" GROUP BY "Group" + 1 $$);
SELECT create_view(repeat('n', 63), $$ SELECT "Group" AS ggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggg, count(*) FROM "Odd Events" GROUP BY 1 $$);
SELECT create_view(repeat('n', 62) || 'o', $$ SELECT "Group", count(*) AS "ccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc" FROM "Odd Events" GROUP BY 1 $$);
SELECT create_view(repeat('é', 31), $$ SELECT count(*) AS éééééééééééééééééééééééééééééé FROM "Odd Events" $$);
COMMIT;
SELECT check_views();
SELECT feed('Odd Events', rows(51, 90));
SELECT check_views();

-- Many columns, many groups' columns, long queries.
SELECT string_agg(format('c%s int', i), ', ') AS columns FROM generate_series(1, 200) i \gset
CREATE TABLE plain.wide (id int, :columns);
SELECT create_stream('wide');
SELECT feed('wide', (SELECT format('SELECT id, %s FROM generate_series(1, 40) id', string_agg(format('nullif((id * %s) %% 11, %s)', i, i % 11), ', ')) FROM generate_series(1, 200) i));
BEGIN;
SELECT create_view('wide_all', 'SELECT * FROM wide');
SELECT create_view('wide_sums', (SELECT format('SELECT id %% 3 AS k, %s FROM wide GROUP BY 1', string_agg(format('sum(c%s) AS s%s', i, i), ', ')) FROM generate_series(1, 200) i));
SELECT create_view('wide_two', (SELECT format('SELECT %s FROM wide', string_agg(format('avg(c%s) AS a%s, count(c%s) AS n%s', i, i, i, i), ', ')) FROM generate_series(1, 200) i));
SELECT create_view('wide_keys', (SELECT format('SELECT %s, count(*) FROM wide GROUP BY %s', string_agg('c' || i, ', '), string_agg('c' || i, ', ')) FROM generate_series(1, 30) i));
SELECT create_view('wide_where', (SELECT format('SELECT count(*) AS n FROM wide WHERE id IN (%s) OR %s', (SELECT string_agg((x * 3)::text, ', ') FROM generate_series(1, 5000) x), string_agg(format('c%s = %s', i, i), ' OR ')) FROM generate_series(12, 200) i));
SELECT create_view('long_query', 'SELECT count(*), max(id) /* ' || repeat('a long comment ', 10000) || E' */ -- and the last word\n FROM wide');
SELECT create_view('long_constant', format('SELECT %L AS text, count(*) FROM wide GROUP BY text', repeat('x''\', 20000)));
SELECT create_view('deep_expression', format('SELECT sum(%sid%s) AS s FROM wide', repeat('(1 + ', 300), repeat(')', 300)));
COMMIT;
SELECT check_view(name) FROM made WHERE name ~ '^(wide|long|deep)' ORDER BY id;
SELECT feed('wide', (SELECT format('SELECT id, %s FROM generate_series(41, 60) id', string_agg(format('nullif((id * %s) %% 11, %s)', i, i % 11), ', ')) FROM generate_series(1, 200) i));
SELECT check_view(name) FROM made WHERE name ~ '^(wide|long|deep)' ORDER BY id;

-- Schemas: the view's own, those of what it reads, and a path that is another
-- one when the worker or the reader comes.
CREATE SCHEMA common_a;
CREATE SCHEMA "Common B";
CREATE TABLE common_a.things (k int, v text);
CREATE TABLE "Common B".things (k int, v text);
INSERT INTO common_a.things SELECT i, 'a' || i FROM generate_series(0, 3) i;
INSERT INTO "Common B".things SELECT i, 'b' || i FROM generate_series(0, 3) i;
CREATE FUNCTION common_a.label(k int) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT v FROM things t WHERE t.k = $1); END $$;
CREATE FUNCTION "Common B".label(k int) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN 'wrong'; END $$;
CREATE FUNCTION common_a.twice(int) RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT 2 * count(*) FROM things WHERE k < $1); END $$;
SET search_path = common_a, live;
SELECT millrace.create_continuous_view('in_a', $$ SELECT label(w.id % 4) AS label, v, twice(w.id) AS t, count(*) FROM wide w JOIN things ON k = w.id % 4 GROUP BY 1, 2, 3 $$);
SET search_path = "Common B", live;
SELECT millrace.create_continuous_view('"Common B"."In B"', $$ SELECT v, count(*) FROM wide w JOIN things ON k = w.id % 4 GROUP BY 1 $$);
SELECT millrace.create_continuous_view('in_b', $$ SELECT v, label(0), max(w.id) FROM wide w JOIN common_a.things ON k = w.id % 4 GROUP BY 1 $$);
SET search_path = '';
SELECT millrace.create_continuous_view('live.nowhere', $$ SELECT count(*) AS n FROM live.wide $$);
SELECT millrace.create_continuous_view('unqualified', $$ SELECT count(*) AS n FROM live.wide $$);
SET search_path = live, pg_catalog;
SELECT millrace.create_continuous_view('behind', $$ SELECT count(*) AS n FROM wide $$);
SET search_path = tools, common;
CREATE FUNCTION common.lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'not pg_catalog''s' $$;
SELECT v::regclass, millrace.wait_for_latest(v::regclass, tools.patience()) FROM unnest(ARRAY['common_a.in_a', '"Common B"."In B"', '"Common B".in_b', 'live.nowhere', 'live.behind']) v;
SELECT * FROM common_a.in_a ORDER BY 1, 2, 3;
SELECT * FROM "Common B"."In B" ORDER BY 1;
SELECT * FROM "Common B".in_b ORDER BY 1;
SELECT * FROM live.nowhere, live.behind;
SET search_path = '';
SELECT * FROM common_a.in_a ORDER BY 1, 2, 3 LIMIT 2;
SELECT view, stream FROM millrace.views WHERE view::text ~ '(in_a|In B|nowhere)' ORDER BY view::text;
SET search_path = tools, common;
-- A view and its stream can go by one name in two schemas; the name of a view that is there is taken.
SELECT millrace.create_continuous_view('common_a.wide', 'SELECT count(*) AS n FROM live.wide');
SELECT millrace.wait_for_latest('common_a.wide', tools.patience());
TABLE common_a.wide;
\set VERBOSITY sqlstate
SELECT millrace.create_continuous_view('common_a.wide', 'SELECT 1 AS one FROM live.wide');
SELECT millrace.create_continuous_view('live.wide', 'SELECT 1 AS one FROM live.wide');
SELECT millrace.create_continuous_view('no_such_schema.v', 'SELECT 1 AS one FROM live.wide');
SELECT millrace.create_continuous_view('a.b.c.d', 'SELECT 1 AS one FROM live.wide');
SELECT millrace.create_continuous_view('', 'SELECT 1 AS one FROM live.wide');
SELECT millrace.create_continuous_view(NULL, 'SELECT 1 AS one FROM live.wide');
SELECT millrace.create_continuous_view('live.v', NULL);
SELECT millrace.create_continuous_view('live.v', '');
SELECT millrace.create_continuous_view('live.v', 'SELECT FROM live.wide WHERE nonsense');
SELECT millrace.create_continuous_view('live.v', 'SELECT 1 AS one FROM live.wide; DROP TABLE plain.wide');
\set VERBOSITY terse
-- Renames and moves, and the view goes on.
ALTER VIEW common_a.in_a RENAME TO "In C";
ALTER VIEW common_a."In C" SET SCHEMA "Common B";
ALTER SCHEMA "Common B" RENAME TO common_c;
ALTER FOREIGN TABLE live.wide RENAME TO broad;
-- a column without a path reads another field under another name, one with a path does not
\set VERBOSITY default
ALTER FOREIGN TABLE live.broad RENAME COLUMN id TO "Ident";
\set VERBOSITY terse
ALTER FOREIGN TABLE live.broad ALTER COLUMN "Ident" OPTIONS (ADD path 'id');
ALTER TABLE live.broad RENAME COLUMN "Ident" TO ident;
INSERT INTO live.broad (ident) SELECT generate_series(1000, 1019);
SELECT v::regclass, millrace.wait_for_latest(v::regclass, tools.patience()) FROM unnest(ARRAY['common_c."In C"', 'common_c."In B"', 'live.behind']) v;
SELECT sum(count) FROM common_c."In C";
SELECT * FROM common_c."In B" ORDER BY 1;
TABLE live.behind;
SET client_min_messages = warning;
DROP SCHEMA common_a, common_c CASCADE;
DROP VIEW live.nowhere, live.behind;

\i sql/teardown.inc
