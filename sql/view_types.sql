--
-- What JSON becomes in columns of every type: what json_populate_record makes
-- of it, for views and for SELECT on the stream alike; and metadata columns.
--
\i sql/setup.inc

CREATE TYPE common.mood AS ENUM ('sad', 'ok', 'Very Happy');
CREATE DOMAIN common.even AS int CHECK (VALUE % 2 = 0);
CREATE DOMAIN common.word AS varchar(5) NOT NULL DEFAULT 'x';
CREATE TYPE common.pair AS (a int, b text);
CREATE TYPE common.deep AS (p pair, l pair[], e even);
CREATE DOMAIN common.pairs AS pair CHECK ((VALUE).a > 0);

-- One column for each type, and JSON of every kind for each of them.
CREATE TABLE tools.type (n serial, type text);
INSERT INTO tools.type (type) SELECT unnest(ARRAY[
  'smallint', 'integer', 'bigint', 'real', 'double precision', 'numeric', 'numeric(6,2)', 'boolean', 'text', 'varchar(4)', 'char(4)', 'name',
  'date', 'time', 'time(0)', 'timetz', 'timestamp', 'timestamp(0)', 'timestamptz', 'interval', 'interval hour to minute', 'uuid', 'bytea', 'json', 'jsonb', 'xml',
  'bit(4)', 'varbit', 'inet', 'cidr', 'macaddr', 'money', 'oid', 'pg_lsn', 'point', 'box', 'int4range', 'tstzrange', 'int4multirange',
  'tsvector', 'tsquery', 'jsonpath', 'mood', 'even', 'pair', 'deep', 'pairs',
  'int[]', 'bigint[]', 'text[]', 'numeric[]', 'timestamptz[]', 'mood[]', 'even[]', 'pair[]', 'jsonb[]', 'int[][]', 'regtype']);
CREATE TABLE tools.sample (n serial, value text);
INSERT INTO tools.sample (value) SELECT v FROM (SELECT unnest(ARRAY[
  'null', 'true', 'false', '0', '-0', '1', '-1', '12', '1.0', '1.5', '-2.50', '1e2', '1E-2', '0.1', '123456', '32767', '32768', '-32768', '2147483647', '2147483648', '-2147483649',
  '9007199254740993', '9223372036854775807', '9223372036854775808', '-9223372036854775808', '18446744073709551615', '18446744073709551616', '123456789012345678901234567890.5',
  '1e400', '-1e39', '1e-400', '3.4028235e38', '0.30000000000000004', '1.7976931348623157e308', '5e-324', '9999.995', '12345.678', '1e5', '100e-2',
  '""', '" "', '"0"', '"12"', '" 12 "', '"1.5"', '"1e2"', '"0x1F"', '"NaN"', '"Infinity"', '"-infinity"', '"true"', '"yes"', '"off"', '"T"', '"abc"', '"abcdefgh"', '"a b"', '"ab  "',
  '"sad"', '"Very Happy"', '"ok "', '"2024-02-29"', '"2023-02-29"', '"2024-02-29T12:34:56.789Z"', '"2024-02-29T12:34:56"', '"2024-02-29 12:34:56.1234567+05:30"',
  '"2024-02-29T23:59:60Z"', '"2024-02-29T24:00:00Z"', '"20240229T123456Z"', '"2024-060"', '"12:34:56"', '"12:34:56.5+02"', '"1:2"', '"12:34:56 PM"', '"2024-02-29T12:34:56-08"', '"2024-02-29T12:34Z"', '"2024-02-29T12:34:56,5Z"',
  '"0001-01-01T00:00:00Z"', '"10000-01-01T00:00:00Z"', '"0044-03-15 BC"', '"2024-03-10T02:30:00"', '"2024-11-03T01:30:00"', '"2024-02-29 12:00 Europe/Budapest"', '"Feb 29 2024"', '"02/03/2024"', '"now-ish"', '"infinity"', '"epoch"', '1709210096', '1709210096789',
  '"P1Y2M3DT4H5M6.5S"', '"1 day 02:03:04"', '"3 weeks"', '"-1"', '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"', '"{A0EEBC999C0B4EF8BB6D6BB9BD380A11}"', '"a0eebc99-9c0b-4ef8-bb6d"', '"\\x00ff"', '"\\\\x00ff"', '"\\\\x0"', '"\\\\000a"',
  '"$1,234.50"', '"0101"', '"10.0.0.1/8"', '"10.0.0.0/8"', '"::1"', '"08:00:2b:01:02:03"', '"1/2A"', '"(1,2)"', '"(1,2),(3,4)"', '"[1,5)"', '"[5,1]"', '"{[1,5),[7,9)}"', '"[2024-01-01,)"', '"fat & rat"', '"$.a"', '"<a>b</a>"', '"int4"',
  '"\u00e9\u4e2d\ud83d\ude00"', '"é中😀"', '"line\nbreak\ttab\"quote\\\/"', '"\b\f\r"', '"it''s"',
  '[]', '[1,2,3]', '[1,null,"3"]', '[[1,2],[3,4]]', '[[1,2],[3]]', '["a","b,c",null,"NULL",""]', '[1.5]', '["x", 1, true, null, {"a": 1}, [2]]', '[{"a":1,"b":"x"},null,{"a":"2"}]', '["sad","ok"]', '[2,4]', '[2,3]', '[ 1 , 2 ]',
  '["2024-02-29T12:34:56Z","2024-02-29"]', '"{1,2}"', '"{a,\"b c\",NULL}"', '"{}"', '"{1,x}"', '[[[1]],[[2]]]', '[[],[]]',
  '{}', '{"a":1,"b":"x"}', '{"a":"7","b":5}', '{"b":{"c":[1, 2]},"a":null}', '{"a":-1}', '{"a":"x"}', '{"A":1}', '{"a":1,"a":2}', '"(3,yes)"', '"(,)"', '"(x,y)"', '{"p":{"a":1,"b":"q"},"l":[{"a":2}],"e":4}', '{"p":"(5,z)","l":[],"e":"6"}', '{"e":3}',
  '{ "b" : "spaced" , "a" : 9 }', '{"k":1.10,"l":1e2,"k":"last"}', '"{\"a\": 1}"', '[{"a":1.50}]']) AS v) s;
-- In a topic the text is as it was sent.
SELECT new_topic('typed') AS topic \gset
SELECT string_agg(format('%I json', 'c' || n), ', ' ORDER BY n) AS raw_columns,
       string_agg(format('%I %s', 'c' || n, type), ', ' ORDER BY n) AS typed_columns,
       string_agg(format('c%s::text', n), ', ' ORDER BY n) AS shown
FROM tools.type \gset
CREATE FOREIGN TABLE live.raw (id int, :raw_columns) SERVER broker OPTIONS (topic :'topic');
SET search_path = tools, common;
CREATE TYPE plain.typed AS (id int, :typed_columns);
CREATE FOREIGN TABLE live.typed (id int, :typed_columns) SERVER broker OPTIONS (topic :'topic');
SELECT format('INSERT INTO live.raw (id, c%s) SELECT n + %s, value::json FROM tools.sample ORDER BY n', n, n * 1000) FROM tools.type ORDER BY n \gexec
CREATE FUNCTION made_of(type int, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  shown text;
BEGIN
  EXECUTE format('SELECT c%s::text FROM json_populate_record(NULL::plain.typed, $1)', type) INTO shown
    USING format('{"c%s":%s}', type, value)::json;
  RETURN 'is ' || coalesce(shown, 'NULL');
EXCEPTION WHEN OTHERS THEN
  RETURN 'error ' || sqlstate;
END $$;
CREATE TABLE tools.expected AS
  SELECT t.n AS column, t.type, s.value, t.n * 1000 + s.n AS id, made_of(t.n, s.value) AS result FROM tools.type t, tools.sample s;
SELECT count(*) > 2000 AS errors FROM expected WHERE result LIKE 'error%';
SELECT count(*) > 2000 AS values FROM expected WHERE result LIKE 'is%';

SELECT millrace.create_continuous_view('live.shown', format($$ SELECT id, ARRAY[%s] AS c FROM live.typed $$, :'shown'));
SELECT millrace.wait_for_latest('live.shown', tools.patience());
CREATE TABLE tools.got AS
  SELECT id, 'is ' || coalesce(c[id / 1000], 'NULL') AS result FROM live.shown
  UNION ALL
  SELECT (convert_from(value, 'UTF8')::json ->> 'id')::int, 'error ' || sqlstate FROM millrace.dead_letters WHERE stream = 'live.typed'::regclass;
SELECT count(*) = (SELECT count(*) FROM expected) AS every_one, count(*) = count(DISTINCT id) AS once FROM got;
-- Which value of which type is not what it should be?
SELECT e.type, e.value, e.result AS expected, g.result AS got FROM expected e LEFT JOIN got g USING (id)
WHERE regexp_replace(e.result, '^(error).*', '\1') IS DISTINCT FROM regexp_replace(g.result, '^(error).*', '\1') ORDER BY id LIMIT 40;
-- And which error has another code?
SELECT e.type, min(e.value) AS example, e.result AS expected, g.result AS got FROM expected e JOIN got g USING (id)
WHERE e.result <> g.result AND e.result LIKE 'error%' AND g.result LIKE 'error%' GROUP BY e.column, 1, 3, 4 ORDER BY e.column, 3, 4 LIMIT 40;
-- SELECT on the stream is of the same opinion; it leaves out what it cannot use.
CREATE FUNCTION select_of(type int, id int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  shown text;
  n int;
BEGIN
  EXECUTE format('SELECT max(c::text), count(*) FROM (SELECT c%s AS c FROM live.typed WHERE off = $1) s', type) INTO shown, n USING id;
  RETURN CASE WHEN n = 1 THEN 'is ' || coalesce(shown, 'NULL') ELSE 'error' END;
END $$;
ALTER FOREIGN TABLE live.typed ADD COLUMN off bigint OPTIONS (metadata 'offset');
SET client_min_messages = error;
CREATE TABLE tools.place AS SELECT id, off FROM live.typed;
SELECT e.type, e.value, g.result AS view, select_of(e.column, off::int) AS stream
FROM expected e JOIN got g USING (id) JOIN place USING (id)
WHERE e.id % 29 = 3 AND regexp_replace(g.result, '^(error).*', '\1') <> select_of(e.column, off::int) ORDER BY id LIMIT 20;
SET client_min_messages = warning;

-- A nested path, and how one column's path may run through another's.
SELECT new_topic('nested') AS topic \gset
CREATE FOREIGN TABLE live.documents (id int, doc json, "a.b" int, "Key" text) SERVER broker OPTIONS (topic :'topic');
CREATE FOREIGN TABLE live.nested (id int, whole jsonb OPTIONS (path 'doc'), x int OPTIONS (path 'doc.x'), yz text OPTIONS (path 'doc.y.z'),
  l int[] OPTIONS (path 'doc.y.list'), p pair OPTIONS (path 'doc.pair'), again numeric OPTIONS (path 'doc.x'), "Key" text, key text OPTIONS (path 'Key'))
  SERVER broker OPTIONS (topic :'topic');
INSERT INTO live.documents (id, doc, "Key") VALUES
  (1, '{"x": 1, "y": {"z": "one", "list": [1, 2]}, "pair": {"a": 1, "b": "b"}}', 'k'), (2, '{"y": {"z": {"deep": true}}}', NULL), (3, NULL, ''), (4, '{}', 'K'),
  (5, '{"x": null, "y": null}', 'k'), (6, '{"y": "no object"}', 'k'), (7, '{"y": [{"z": 1}]}', 'k'), (8, '17', 'k'), (9, '[]', 'k'),
  (10, '{"x": 1, "x": 2, "y": {"z": 1}, "y": {"z": "last"}}', 'k'), (11, '{"y": {"z": "1", "list": [1]}, "y": {"list": [2]}}', 'k'), (12, '{"y.z": "dot", "x": "12"}', 'k'),
  (13, '{"X": 1, "Y": {"Z": 2}}', 'k'), (14, '{"x": 1, "y": {"z": false, "other": {"z": 3}}, "pair": "(4,x)"}', 'k');
CREATE TABLE plain.nested AS
  SELECT id, whole, (whole ->> 'x')::int AS x, whole -> 'y' ->> 'z' AS yz,
    CASE WHEN whole -> 'y' ? 'list' THEN ARRAY(SELECT e::int FROM jsonb_array_elements_text(whole -> 'y' -> 'list') e) END AS l,
    (SELECT pair FROM jsonb_to_record(whole) AS r(pair pair)) AS p, (whole ->> 'x')::numeric AS again, k AS "Key", k AS key
  FROM (SELECT id, doc::jsonb AS whole, "Key" AS k FROM live.documents) d WHERE jsonb_typeof(whole) = 'object' OR whole IS NULL;
SELECT id, doc, "Key" FROM live.documents WHERE id IN (2, 3, 12) ORDER BY id;
SELECT millrace.create_continuous_view('live.nested_seen', 'SELECT * FROM live.nested WHERE id NOT IN (8, 9)');
SELECT millrace.create_continuous_view('live.nested_odd', 'SELECT id, x, yz, l FROM live.nested WHERE id IN (8, 9)');
SELECT millrace.wait_for_latest('live.nested_seen', tools.patience()), millrace.wait_for_latest('live.nested_odd', tools.patience());
SELECT differences('live.nested_seen', 'plain.nested');
SELECT * FROM live.nested_odd ORDER BY id;

-- Metadata.
SELECT new_topic('meta', 3) AS topic \gset
CREATE FOREIGN TABLE live.meta (id int, k text OPTIONS (metadata 'key'), part int OPTIONS (metadata 'partition'), off bigint OPTIONS (metadata 'offset'),
  arrived timestamptz OPTIONS (metadata 'timestamp'), headers jsonb OPTIONS (metadata 'headers')) SERVER broker OPTIONS (topic :'topic');
SELECT millrace.create_continuous_view('live.meta_first', 'SELECT id, k, part, off, arrived, headers FROM live.meta');
INSERT INTO live.meta (id, k) SELECT i, CASE WHEN i % 7 > 0 THEN 'key ' || i % 5 END FROM generate_series(1, 200) i;
INSERT INTO live.meta (id, k) SELECT i, '' FROM generate_series(201, 220) i;
SELECT millrace.create_continuous_view('live.meta_later', 'SELECT id, k, part, off, arrived, headers FROM live.meta');
SELECT millrace.create_continuous_view('live.meta_groups', $$
  SELECT part, k, count(*), min(off), max(off), min(arrived) AS first, max(arrived) AS last FROM live.meta GROUP BY part, k $$);
SELECT millrace.create_continuous_view('live.meta_pushed', $$ SELECT id FROM live.meta WHERE part = 1 AND off > 10 AND arrived > '2000-01-01' $$);
SELECT bool_and(millrace.wait_for_latest(v::regclass, tools.patience())) FROM unnest(ARRAY['live.meta_first', 'live.meta_later', 'live.meta_groups', 'live.meta_pushed']) v;
CREATE TABLE plain.meta AS SELECT id, k, part, off, arrived, headers FROM live.meta;
CREATE TABLE plain.meta_groups AS SELECT part, k, count(*), min(off), max(off), min(arrived) AS first, max(arrived) AS last FROM plain.meta GROUP BY part, k;
CREATE TABLE plain.meta_pushed AS SELECT id FROM live.meta WHERE part = 1 AND off > 10;
SELECT count(*), count(DISTINCT id), count(k), count(DISTINCT (part, off)), bool_and(abs(extract(epoch FROM arrived - now())) < 600) AS recent, count(DISTINCT k) FROM plain.meta;
SELECT k, count(DISTINCT part) FROM plain.meta WHERE k IS NOT NULL GROUP BY k HAVING count(DISTINCT part) > 1;
SELECT differences('live.meta_first', 'plain.meta');
SELECT differences('live.meta_later', 'plain.meta');
SELECT differences('live.meta_groups', 'plain.meta_groups');
SELECT differences('live.meta_pushed', 'plain.meta_pushed');
SELECT count(*) > 0 AS some FROM live.meta_pushed;
-- The key as bytes, and a field and metadata of one name.
CREATE FOREIGN TABLE live.meta_bytes (id int, key bytea OPTIONS (metadata 'key'), "offset" text, "partition" int OPTIONS (metadata 'partition')) SERVER broker OPTIONS (topic :'topic');
SELECT millrace.create_continuous_view('live.bytes', 'SELECT id, key, "partition", "offset" FROM live.meta_bytes');
SELECT millrace.wait_for_latest('live.bytes', tools.patience());
CREATE TABLE plain.bytes AS SELECT id, convert_to(k, 'UTF8') AS key, part AS "partition", NULL::text AS "offset" FROM plain.meta;
SELECT differences('live.bytes', 'plain.bytes');

\i sql/teardown.inc
