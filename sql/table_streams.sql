--
-- Tables whose INSERTs are streams.  No broker is needed for any of this.
--
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
\pset null NULL
SET client_min_messages = warning;
SET datestyle = 'ISO, MDY';
CREATE SCHEMA shop;
SET search_path = shop;

-- What a view shows and a query over the table does not, or the other way round.
CREATE FUNCTION differ(view text, query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
  RETURN QUERY EXECUTE format('WITH a AS (SELECT v::text AS r FROM %s v), b AS (SELECT v::text AS r FROM (%s) v)
    (SELECT %L || r FROM (TABLE a EXCEPT ALL TABLE b) x ORDER BY r LIMIT 5) UNION ALL
    (SELECT %L || r FROM (TABLE b EXCEPT ALL TABLE a) x ORDER BY r LIMIT 5)', view, query, 'wrong: ', 'missing: ');
  IF NOT FOUND THEN RETURN NEXT view || ': equal'; END IF;
END $$;
-- A view, and what the same query over another table says.
CREATE TABLE made (name text, query text, start_at text);
CREATE FUNCTION make(name text, query text, start_at text DEFAULT 'earliest') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  PERFORM millrace.create_continuous_view(name, query, start_at => start_at);
  INSERT INTO made VALUES (name, query, start_at);
  RETURN 'made ' || name;
END $$;
CREATE FUNCTION check_all(oracle text DEFAULT 'orders') RETURNS SETOF text LANGUAGE sql AS $$
  SELECT differ(name, regexp_replace(query, '\morders\M', oracle, 'g')) FROM made ORDER BY name COLLATE "C" $$;
CREATE FUNCTION fails(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  detail text;
  hint text;
BEGIN
  EXECUTE query;
  RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  RETURN concat_ws(' | ', sqlstate, sqlerrm, nullif(detail, ''), nullif(hint, ''));
END $$;

--
-- What can be attached
--
CREATE TABLE orders (id int PRIMARY KEY, k int, amount numeric, note text, at timestamptz);
CREATE VIEW over_orders AS SELECT * FROM orders;
CREATE MATERIALIZED VIEW kept_orders AS SELECT * FROM orders;
CREATE SEQUENCE numbers;
CREATE TEMP TABLE passing (k int);
CREATE TABLE mother (k int);
CREATE TABLE child () INHERITS (mother);
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE far (k int) SERVER nowhere;
CREATE TABLE parted (k int) PARTITION BY LIST (k);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
SELECT fails(format('SELECT millrace.attach_table(%L)', r)) FROM unnest('{over_orders,kept_orders,numbers,passing,mother,child,far,parted_1,
  pg_catalog.pg_class,information_schema.sql_features,millrace.feed,no_such}'::text[]) r;
SELECT fails('SELECT millrace.attach_table(NULL)');
SELECT fails('SELECT millrace.attach_table(1)');
SELECT fails('SELECT millrace.detach_table(''orders'')');
DROP TABLE child, mother, parted;
DROP MATERIALIZED VIEW kept_orders;
DROP FOREIGN TABLE far;

SELECT millrace.attach_table('orders');
SELECT fails('SELECT millrace.attach_table(''orders'')');
CREATE TABLE took (id int);
SELECT fails('SELECT millrace.create_continuous_transform(''t'', ''SELECT id FROM orders'', ''took'')');
DROP TABLE took;
SELECT stream, topic, format, state FROM millrace.streams;
INSERT INTO orders VALUES (1, 1, 10, 'a', '2024-01-01'), (2, 2, 20, NULL, NULL), (3, NULL, NULL, 'c', '2024-01-03');

--
-- Views: of the rows that are there, and of those that come
--
SELECT make('per_k', 'SELECT k, count(*) AS n, sum(amount) AS total, avg(amount) AS mean, max(note) AS last FROM orders GROUP BY k');
SELECT make('total', 'SELECT count(*) AS n, sum(amount) AS total, count(note) FILTER (WHERE k > 1) AS some FROM orders');
SELECT make('copied', 'SELECT id, upper(note) AS note FROM orders WHERE k = 1');
SELECT make('distinct_k', 'SELECT DISTINCT k, note IS NULL AS silent FROM orders');
SELECT make('busy', 'SELECT k, sum(amount) / count(*) AS each FROM orders GROUP BY k HAVING count(*) > 1');
SELECT make('ranked', 'SELECT k, count(*) AS n, rank() OVER (ORDER BY count(*) DESC) AS r FROM orders GROUP BY k');
SELECT make('whole', 'SELECT max(orders::text) AS last, count(orders) AS n FROM orders');
SELECT make('by_view', 'SELECT note, count(*) AS n FROM over_orders AS o GROUP BY note');
SELECT make('by_with', 'WITH o AS (SELECT k % 2 AS odd, amount FROM orders) SELECT odd, sum(amount) AS total FROM o GROUP BY odd');
CREATE TABLE names (k int PRIMARY KEY, name text);
INSERT INTO names VALUES (1, 'one'), (2, 'two');
SELECT make('joined', 'SELECT n.name, count(*) AS n, sum(amount) AS total FROM orders o LEFT JOIN names n USING (k) GROUP BY 1');
SELECT make('known', 'SELECT count(*) AS n FROM orders o WHERE EXISTS (SELECT FROM names n WHERE n.k = o.k)');
SELECT check_all();

INSERT INTO orders VALUES (4, 1, 5, 'd', now());
INSERT INTO orders SELECT i, i % 5, i, 'n' || i, now() FROM generate_series(5, 500) i;
\COPY orders FROM stdin
501	1	1.5	copied	2024-02-01
502	\N	\N	\N	\N
\.
SELECT check_all();
SELECT view, stream, kind, state, rows_in > 0 AS rows FROM millrace.views WHERE view = 'per_k'::regclass;
SELECT millrace.wait_for_latest('per_k', '0s'), millrace.wait_for_latest('orders');
SELECT fails('SELECT millrace.wait_for_offset(''per_k'', 0, 1)');
SELECT count(*) FROM millrace.partitions;
SELECT * FROM millrace.explain_view('joined');

-- All ways to insert.  The table is compared with what was inserted, whatever became of it.
CREATE TABLE log (LIKE orders);
CREATE VIEW over_log AS SELECT * FROM log;
UPDATE made SET query = replace(query, 'over_orders', 'over_log') WHERE name = 'by_view';
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO log VALUES (new.*);
  RETURN NULL;
END $$;
CREATE TRIGGER log AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION log();
INSERT INTO log TABLE orders;
INSERT INTO orders VALUES (600, 1, 1), (500, 1, 1) ON CONFLICT DO NOTHING;
INSERT INTO orders VALUES (601, 1, 1), (500, 1, 1) ON CONFLICT (id) DO UPDATE SET amount = 1000000, k = 77;
WITH i AS (INSERT INTO orders VALUES (602, 2, 2) RETURNING *), d AS (DELETE FROM orders WHERE id = 1 RETURNING *)
  INSERT INTO orders SELECT 603, k, amount + 1, note FROM i;
MERGE INTO orders o USING (VALUES (603, 9), (604, 3)) v(id, k) ON o.id = v.id
  WHEN MATCHED THEN UPDATE SET k = v.k WHEN NOT MATCHED THEN INSERT (id, k) VALUES (v.id, v.k);
PREPARE one(int) AS INSERT INTO orders VALUES ($1, $1 % 3, $1);
EXECUTE one(605);
EXECUTE one(606);
SELECT check_all('log');
UPDATE orders SET amount = amount * 2, note = 'changed' WHERE id > 100;
DELETE FROM orders WHERE id % 2 = 0;
SELECT check_all('log');
-- triggers of one's own change rows before, and insert more: at once, or when the transaction commits
CREATE TABLE incoming (id int);
CREATE FUNCTION forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO orders VALUES (new.id + tg_argv[0]::int, 8, 1);
  RETURN NULL;
END $$;
CREATE TRIGGER forward AFTER INSERT ON incoming FOR EACH ROW EXECUTE FUNCTION forward(1000);
CREATE CONSTRAINT TRIGGER forward_late AFTER INSERT ON incoming DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION forward(2000);
CREATE FUNCTION amend() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF new.note = 'drop me' THEN RETURN NULL; END IF;
  new.note := coalesce(new.note, 'amended');
  RETURN new;
END $$;
CREATE TRIGGER amend BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION amend();
INSERT INTO incoming SELECT generate_series(1, 10);
INSERT INTO orders VALUES (700, 1, 1, 'drop me'), (701, 1, 1, NULL);
SELECT count(*) FROM orders WHERE k = 8;
SELECT check_all('log');
-- the same row twice in a transaction; a transaction for each row
BEGIN;
INSERT INTO orders VALUES (800, 1, 1, 'first');
DELETE FROM orders WHERE id = 800;
INSERT INTO orders VALUES (800, 2, 2, 'second');
COMMIT;
DO $$
BEGIN
  FOR i IN 801 .. 820 LOOP
    INSERT INTO orders VALUES (i, i % 4, i);
    IF i % 3 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
  END LOOP;
END $$;
SELECT check_all('log');

--
-- What is rolled back
--
BEGIN;
INSERT INTO orders VALUES (900, 1, 1);
SAVEPOINT a;
INSERT INTO orders VALUES (901, 1, 1);
SAVEPOINT b;
INSERT INTO orders VALUES (902, 1, 1);
RELEASE b;
ROLLBACK TO a;
INSERT INTO orders VALUES (903, 1, 1);
SAVEPOINT c;
INSERT INTO orders VALUES (904, 1, 1);
RELEASE c;
RELEASE a;
INSERT INTO orders VALUES (905, 1, 1);
SELECT count(*) FROM copied WHERE id BETWEEN 900 AND 910;
COMMIT;
SELECT check_all('log');
DO $$
BEGIN
  FOR i IN 1 .. 300 LOOP
    BEGIN
      INSERT INTO orders VALUES (10000 + i, i % 7, i, repeat('x', 100));
      BEGIN
        INSERT INTO orders VALUES (20000 + i, i % 7, i, repeat('y', 1000));
        IF i % 2 = 0 THEN RAISE division_by_zero; END IF;
      EXCEPTION WHEN division_by_zero THEN NULL;
      END;
      IF i % 5 = 0 THEN RAISE 'no'; END IF;
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
  END LOOP;
END $$;
SELECT count(*) FROM orders WHERE id > 10000;
SELECT check_all('log');
BEGIN;
INSERT INTO orders VALUES (906, 1, 1);
ROLLBACK;
SELECT check_all('log');
-- many rows, more than memory holds, out of which a savepoint takes some; another plan than for one
SET work_mem = '64kB';
BEGIN;
INSERT INTO orders SELECT i, i % 1000, i, repeat('v', i % 100) FROM generate_series(100001, 130000) i;
SAVEPOINT a;
INSERT INTO orders SELECT i, i % 1000, i, repeat('w', i % 100) FROM generate_series(200001, 260000) i;
ROLLBACK TO a;
INSERT INTO orders SELECT i, i % 3000, i, repeat('w', i % 100) FROM generate_series(300001, 320000) i;
COMMIT;
RESET work_mem;
SELECT check_all('log');
-- values that are stored elsewhere, and may be gone by the time of the commit
DROP VIEW by_view, over_orders, over_log;
DELETE FROM made WHERE name = 'by_view';
CREATE TABLE large (id int, note text);
INSERT INTO large SELECT 1, string_agg(md5(i::text), '') FROM generate_series(1, 5000) i;
BEGIN;
INSERT INTO orders SELECT 907, 1, 1, note FROM large;
DELETE FROM large;
COMMIT;
SELECT check_all('log');

--
-- Errors
--
SELECT millrace.create_continuous_view('fragile', 'SELECT k, sum(100 / amount) AS s FROM orders WHERE id > 1000000 GROUP BY k');
\set VERBOSITY default
INSERT INTO orders VALUES (1000001, 1, 0);
\set VERBOSITY terse
BEGIN;
INSERT INTO orders VALUES (1000002, 1, 2), (1000003, 1, 0);
SELECT count(*) FROM orders WHERE id > 1000000;
COMMIT;
INSERT INTO orders VALUES (1000004, 1, 5);
TABLE fragile;
SELECT count(*) FROM millrace.dead_letters;
SELECT check_all('log');
DROP VIEW fragile;
DELETE FROM orders WHERE id > 1000000;
-- a key that does not fit into an index
SELECT millrace.create_continuous_view('long_keys', 'SELECT note, count(*) FROM orders WHERE k = -1 GROUP BY note');
INSERT INTO orders SELECT 1000005, -1, 1, string_agg(md5(i::text), '') FROM generate_series(1, 1000) i;
DROP VIEW long_keys;
-- functions in views that write
CREATE FUNCTION greedy(bigint, int) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO shop.orders VALUES (1000006);
  RETURN 1;
END $$;
CREATE FUNCTION greedy(bigint, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT $1';
CREATE AGGREGATE greed(int) (sfunc = greedy, stype = bigint, combinefunc = greedy);
SELECT millrace.create_continuous_view('greed', 'SELECT greed(id) FROM orders WHERE k = -2', start_at => 'latest');
INSERT INTO orders VALUES (1000007, -2);
DROP VIEW greed;
BEGIN;
INSERT INTO orders VALUES (1000008, 1);
PREPARE TRANSACTION 'p';
SELECT check_all('log');
-- no view, no reason
DELETE FROM log WHERE id > 1000000;
DELETE FROM orders WHERE id > 1000000;

--
-- In one transaction
--
DROP TRIGGER log ON orders;
DROP TRIGGER amend ON orders;
TRUNCATE orders;
SELECT count(*) > 0 FROM per_k;
SELECT format('DROP VIEW %I', name) FROM made \gexec
TRUNCATE made;
BEGIN;
INSERT INTO orders VALUES (1, 1, 1, 'before any view');
SELECT make('first', 'SELECT k, count(*) AS n FROM orders GROUP BY k');
INSERT INTO orders VALUES (2, 1, 1, 'after the first');
SELECT make('second', 'SELECT note, count(*) AS n, sum(amount) AS total FROM orders GROUP BY note');
TABLE second;
INSERT INTO orders VALUES (3, 2, 2, 'after the second');
SAVEPOINT s;
SELECT make('never', 'SELECT amount, count(*) AS n FROM orders GROUP BY amount');
INSERT INTO orders VALUES (4, 2, 2, 'never');
SELECT millrace.rebuild('first');
ROLLBACK TO s;
INSERT INTO orders VALUES (5, 2, 2, 'last');
COMMIT;
SELECT check_all();
BEGIN;
INSERT INTO orders VALUES (6, 6);
SELECT make('third', 'SELECT id FROM orders', 'latest');
INSERT INTO orders VALUES (7, 7);
COMMIT;
TABLE third;
DELETE FROM made WHERE name = 'third';
SELECT check_all();
BEGIN;
INSERT INTO orders VALUES (8, 6);
SELECT millrace.truncate_continuous_view('third');
SELECT millrace.rebuild('second');
INSERT INTO orders VALUES (9, 6);
COMMIT;
TABLE third;
SELECT check_all();
-- a column that no view reads any more changes its type, with rows on their way
SELECT millrace.create_continuous_view('noted', 'SELECT max(at) AS at FROM orders');
BEGIN;
INSERT INTO orders VALUES (10, 10, 10, 'ten', '2024-10-10');
DROP VIEW noted;
ALTER TABLE orders ALTER at TYPE text USING at::text;
SELECT millrace.create_continuous_view('noted', 'SELECT max(at) AS at, count(at) AS n FROM orders');
INSERT INTO orders VALUES (11, 11, 11, 'eleven', 'zz');
COMMIT;
TABLE noted;
SELECT check_all();
DROP VIEW noted;
BEGIN;
INSERT INTO orders VALUES (12, 12);
DROP TABLE orders CASCADE;
ROLLBACK;
CREATE TABLE gone (k int);
SELECT millrace.attach_table('gone');
SELECT millrace.create_continuous_view('of_gone', 'SELECT count(*) FROM gone');
BEGIN;
INSERT INTO gone VALUES (1);
DROP TABLE gone CASCADE;
COMMIT;
SELECT count(*) FROM millrace.streams;
SELECT check_all();

-- isolation levels
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM orders;
INSERT INTO orders VALUES (13, 13);
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT sum(n) FROM first;
INSERT INTO orders VALUES (14, 13);
COMMIT;
SELECT check_all();

--
-- What one can do with a view
--
SELECT fails('SELECT millrace.create_continuous_view(''v'', ''SELECT count(*) FROM orders'', start_at => ''2024-01-01'')');
SELECT fails('SELECT millrace.create_continuous_view(''v'', ''SELECT count(*) FROM orders'', start_at => ''soon'')');
SELECT fails('SELECT millrace.create_continuous_view(''v'', ''SELECT count(*) FROM names'')');
SELECT fails('SELECT millrace.create_continuous_view(''v'', ''SELECT count(*) FROM orders a JOIN orders b USING (id)'')');
SELECT fails('SELECT millrace.create_continuous_view(''v'', ''SELECT count(*) FROM orders WHERE k = (SELECT max(k) FROM orders)'')');
SELECT fails('SELECT millrace.create_continuous_view(''v'', ''SELECT max(ctid) FROM orders'')');
SELECT fails('SELECT millrace.create_continuous_view(''v'', ''SELECT tableoid, count(*) FROM orders GROUP BY 1'')');
SELECT fails('SELECT millrace.create_continuous_view(''v'', ''SELECT count(*) FROM orders TABLESAMPLE SYSTEM (10)'')');
SELECT fails('SELECT millrace.create_continuous_view(''v'', ''SELECT orders AS o, count(*) FROM orders GROUP BY 1'')');
SELECT fails('SELECT millrace.create_continuous_view(''v'', ''SELECT count(*) FROM orders'', sliding_window => ''1 hour'')');
CREATE FUNCTION all_orders() RETURNS SETOF orders LANGUAGE sql STABLE AS 'SELECT * FROM orders';
SELECT fails('SELECT millrace.create_continuous_view(''v'', ''SELECT count(*) FROM orders, all_orders() a'')');
SELECT fails('SELECT millrace.detach_table(''orders'')');
SELECT fails('DROP TRIGGER millrace_stream_insert ON orders');
SELECT fails('ALTER TRIGGER millrace_stream_insert ON orders RENAME TO mine');
SELECT fails('DROP TABLE orders');
SELECT fails('ALTER TABLE orders ALTER note TYPE varchar(10)');
SELECT fails('ALTER TABLE orders DROP note');
SELECT fails('CREATE TABLE heir () INHERITS (orders)');
SELECT fails('INSERT INTO second VALUES (''a'', 1)');

SELECT millrace.deactivate('second');
SELECT view, state FROM millrace.views WHERE stream = 'orders'::regclass ORDER BY view::text;
INSERT INTO orders VALUES (15, 15, 15, 'missed');
SELECT fails('SELECT millrace.wait_for_latest(''second'')');
SELECT check_all();
SELECT millrace.activate('second');
SELECT check_all();
INSERT INTO orders VALUES (16, 15, 15, 'not missed');
SELECT check_all();
SELECT millrace.deactivate('orders');
INSERT INTO orders VALUES (17, 15, 15, 'all missed');
SELECT state FROM millrace.streams;
SELECT fails('SELECT millrace.activate(''third'')');
SELECT millrace.rebuild('third', 'latest');
TABLE third;
SELECT millrace.activate('orders');
INSERT INTO orders VALUES (18, 15, 15, 'taken');
TABLE third;
SELECT check_all();
-- a rebuild counts what the table holds now
DELETE FROM orders WHERE id % 3 = 0;
UPDATE orders SET note = 'same';
SELECT check_all();
SELECT millrace.rebuild('first'), millrace.rebuild('second');
SELECT check_all();
SELECT fails('SELECT millrace.rebuild(''third'')');
SELECT fails('WITH i AS (INSERT INTO orders VALUES (21, 1) RETURNING id) SELECT millrace.rebuild(''first'') FROM i');
BEGIN;
DECLARE reads CURSOR FOR SELECT id FROM orders;
SELECT fails('SELECT millrace.create_continuous_view(''begins_full'', ''SELECT count(*) FROM orders'')');
SELECT millrace.create_continuous_view('begins_empty', 'SELECT count(*) FROM orders', start_at => 'latest');
ROLLBACK;
SELECT millrace.rebuild('third', 'earliest');
SELECT count(*) = (SELECT count(*) FROM orders) FROM third;
SELECT millrace.rebuild('third');
INSERT INTO orders VALUES (19, 15, 15, 'one more');
SELECT count(*) = (SELECT count(*) FROM orders) FROM third;
SELECT millrace.combine(n) = (SELECT count(*) FROM orders) FROM first;
SELECT millrace.truncate_continuous_view('first');
INSERT INTO orders VALUES (20, 15);
TABLE first;
SELECT millrace.rebuild('first');
SELECT check_all();

ALTER TABLE orders RENAME TO "The Orders";
ALTER TABLE "The Orders" RENAME note TO "Note";
ALTER TABLE "The Orders" ADD more int DEFAULT 5;
ALTER TABLE "The Orders" DROP at;
INSERT INTO "The Orders" VALUES (21, 15, 1, 'renamed');
SELECT differ(name, replace(replace(query, 'orders', '"The Orders"'), 'note', '"Note" AS note')) FROM made WHERE name = 'first';
SELECT differ('second', 'SELECT "Note" AS note, count(*) AS n, sum(amount) AS total FROM "The Orders" GROUP BY 1');
SELECT millrace.create_continuous_view('of_more', 'SELECT more, count(*) AS n, count(*) FILTER (WHERE "Note" = ''renamed'') AS renamed FROM "The Orders" GROUP BY 1');
INSERT INTO "The Orders" VALUES (22, 15, 1, 'renamed', 6), (23, 1, 1, NULL, DEFAULT);
SELECT differ('of_more', 'SELECT more, count(*) AS n, count(*) FILTER (WHERE "Note" = ''renamed'') AS renamed FROM "The Orders" GROUP BY 1');
SELECT differ('second', 'SELECT "Note" AS note, count(*) AS n, sum(amount) AS total FROM "The Orders" GROUP BY 1');
DROP VIEW first, second, third, of_more;
SELECT millrace.detach_table('"The Orders"');
INSERT INTO "The Orders" VALUES (24, 15, 1);
SELECT count(*) FROM millrace.streams;
SELECT tgname FROM pg_trigger WHERE tgrelid = '"The Orders"'::regclass;

--
-- Several tables
--
CREATE TABLE "Odd ""One" (id int, v int);
CREATE TABLE even (v int, id int);
SELECT millrace.attach_table('"Odd ""One"'), millrace.attach_table('even');
INSERT INTO "Odd ""One" VALUES (1, 1);
INSERT INTO even VALUES (2, 2);
SELECT fails('SELECT millrace.create_continuous_view(''v'', ''SELECT count(*) FROM even JOIN "Odd ""One" USING (id)'')');
TRUNCATE made;
SELECT make('united', 'SELECT v % 3 AS v, count(*) AS n, sum(id) AS ids FROM (SELECT id, v FROM "Odd ""One" UNION ALL SELECT id, v FROM even) u GROUP BY 1');
SELECT make('only_even', 'SELECT count(*) AS n FROM even');
INSERT INTO even VALUES (3, 4);
BEGIN;
INSERT INTO even VALUES (5, 6), (7, 8);
INSERT INTO "Odd ""One" SELECT i, i FROM generate_series(1, 10) i;
COMMIT;
INSERT INTO "Odd ""One" VALUES (11, 11);
SELECT check_all();
SELECT stream, view FROM millrace.views ORDER BY view::text;
SELECT millrace.rebuild('united');
SELECT check_all();
DROP TABLE even CASCADE;
SELECT count(*) FROM millrace.views;
DROP TABLE "Odd ""One" CASCADE;
-- a table that is joined may be attached afterwards, and stays what it was
CREATE TABLE facts (k int);
SELECT millrace.attach_table('facts');
TRUNCATE made;
SELECT make('by_name', 'SELECT name, count(*) AS n FROM facts JOIN names USING (k) GROUP BY name');
SELECT millrace.attach_table('names');
INSERT INTO facts VALUES (1), (1), (2);
INSERT INTO names VALUES (3, 'three');
INSERT INTO facts VALUES (3);
SELECT check_all();
SELECT fails('SELECT millrace.create_continuous_view(''v'', ''SELECT name, count(*) AS n FROM facts JOIN names USING (k) GROUP BY name'')');
SELECT millrace.detach_table('names');

--
-- Partitions
--
CREATE TABLE days (day date, k int, note text, id int GENERATED ALWAYS AS IDENTITY) PARTITION BY RANGE (day);
CREATE TABLE days_1 PARTITION OF days FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE days_2 (note text, waste int, day date, k int, id int NOT NULL);
ALTER TABLE days_2 DROP waste;
ALTER TABLE days ATTACH PARTITION days_2 FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
CREATE TABLE days_3 PARTITION OF days FOR VALUES FROM ('2024-03-01') TO ('2024-04-01') PARTITION BY LIST (k);
CREATE TABLE days_3_1 PARTITION OF days_3 FOR VALUES IN (1);
INSERT INTO days VALUES ('2024-01-05', 1, 'a'), ('2024-02-05', 2, 'b'), ('2024-03-05', 1, 'c');
SELECT millrace.attach_table('days');
TRUNCATE made;
SELECT make('per_day', 'SELECT day, count(*) AS n, sum(k) AS ks, max(note) AS note FROM days GROUP BY day');
SELECT make('ids', 'SELECT id, note FROM days');
SELECT fails('SELECT millrace.create_continuous_view(''v'', ''SELECT count(*) FROM ONLY days'')');
INSERT INTO days VALUES ('2024-01-05', 1, 'd'), ('2024-02-05', 2, 'e'), ('2024-03-05', 1, 'f');
INSERT INTO days_1 (day, k, note, id) OVERRIDING SYSTEM VALUE VALUES ('2024-01-06', 1, 'into one', 100);
INSERT INTO days_2 (day, k, note, id) OVERRIDING SYSTEM VALUE VALUES ('2024-02-06', 5, 'into two', 101);
INSERT INTO days_3 (day, k, note, id) OVERRIDING SYSTEM VALUE VALUES ('2024-03-06', 1, 'into three', 102);
INSERT INTO days_3_1 (day, k, note, id) OVERRIDING SYSTEM VALUE VALUES ('2024-03-07', 1, 'into three one', 103);
COPY days_2 (note, id, k, day) FROM stdin;
copied	104	6	2024-02-07
\.
CREATE TABLE days_3_2 PARTITION OF days_3 FOR VALUES IN (2);
CREATE TABLE days_4 (day date, k int, note text, id int NOT NULL);
ALTER TABLE days ATTACH PARTITION days_4 FOR VALUES FROM ('2024-04-01') TO ('2024-05-01');
CREATE SCHEMA more CREATE TABLE days_5 PARTITION OF shop.days FOR VALUES FROM ('2024-05-01') TO ('2024-06-01');
INSERT INTO days_3_2 (day, k, note, id) OVERRIDING SYSTEM VALUE VALUES ('2024-03-08', 2, 'into three two', 105);
INSERT INTO days_4 (day, k, note, id) OVERRIDING SYSTEM VALUE VALUES ('2024-04-01', 2, 'into four', 106);
INSERT INTO more.days_5 (day, k, note, id) OVERRIDING SYSTEM VALUE VALUES ('2024-05-01', 2, 'into five', 107);
SELECT check_all();
-- rows that an UPDATE moves are no INSERTs
CREATE TABLE day_log AS TABLE days;
UPDATE days SET day = '2024-02-10' WHERE day < '2024-02-01';
SELECT differ(name, replace(query, 'days', 'day_log')) FROM made ORDER BY name;
-- what is detached is no longer a part; what it held stays in the views
ALTER TABLE days DETACH PARTITION days_4;
INSERT INTO days_4 (day, k, note, id) VALUES ('2024-04-02', 2, 'no longer', 108);
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'days_4'::regclass;
SELECT differ(name, replace(query, 'days', 'day_log')) FROM made ORDER BY name;
SELECT fails('CREATE FOREIGN TABLE days_6 PARTITION OF days FOR VALUES FROM (''2024-06-01'') TO (''2024-07-01'') SERVER nowhere');
DROP TABLE days_1;
SELECT millrace.rebuild('per_day'), millrace.rebuild('ids');
SELECT check_all();
SELECT fails('SELECT millrace.attach_table(''days_2'')');
CREATE TABLE days_7 (day date, k int, note text, id int NOT NULL);
SELECT millrace.attach_table('days_7');
SELECT fails('ALTER TABLE days ATTACH PARTITION days_7 FOR VALUES FROM (''2024-07-01'') TO (''2024-08-01'')');
DROP TABLE days_7;
CREATE TABLE days_7 PARTITION OF days FOR VALUES FROM ('2024-07-01') TO ('2024-08-01');
SELECT fails('DROP TRIGGER millrace_stream_insert ON days_7');
DROP VIEW per_day, ids;
SELECT millrace.detach_table('days');
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'millrace_stream%' AND tgrelid <> 'facts'::regclass;
DROP SCHEMA more CASCADE;

--
-- Windows, retention
--
CREATE TABLE hits (at timestamptz, url text);
SELECT millrace.attach_table('hits');
INSERT INTO hits SELECT now() - i * interval '10 minutes', 'u' || i % 2 FROM generate_series(0, 20) i;
SELECT millrace.create_continuous_view('last_hour', 'SELECT url, count(*) AS n FROM hits GROUP BY url',
  sliding_window => '1 hour', time_column => 'at', step => '1 second');
SELECT millrace.create_continuous_view('kept', 'SELECT date_trunc(''day'', at, ''UTC'') AS day, count(*) AS n FROM hits GROUP BY 1',
  retention => '2 days', retention_column => 'day');
INSERT INTO hits SELECT now() - i * interval '10 minutes', 'u' || i % 2 FROM generate_series(0, 20) i;
INSERT INTO hits VALUES (now() - interval '10 days', 'old'), (NULL, 'never');
SELECT differ('last_hour', 'SELECT url, count(*) AS n FROM hits WHERE at > now() - interval ''59 minutes'' AND at <= now() GROUP BY url');
SELECT differ('kept', 'SELECT date_trunc(''day'', at, ''UTC'') AS day, count(*) AS n FROM hits WHERE at > now() - interval ''9 days'' OR at IS NULL GROUP BY 1');
SELECT late_events FROM millrace.views WHERE view = 'kept'::regclass;
SELECT millrace.set_retention('kept', NULL, NULL);
INSERT INTO hits VALUES (now() - interval '10 days', 'old');
SELECT late_events FROM millrace.views WHERE view = 'kept'::regclass;
SELECT fails('ALTER TABLE hits RENAME at TO since');
DROP TABLE hits CASCADE;

--
-- Changes
--
CREATE TABLE ticks (k int, v int);
SELECT millrace.attach_table('ticks');
INSERT INTO ticks VALUES (1, 1);
SELECT millrace.create_continuous_view('sums', 'SELECT k, sum(v) AS v FROM ticks GROUP BY k', changes => true);
SELECT millrace.create_continuous_view('sum', 'SELECT sum(v) AS v FROM ticks', changes => true);
INSERT INTO ticks VALUES (1, 2), (2, 2);
BEGIN;
INSERT INTO ticks VALUES (2, 5);
INSERT INTO ticks VALUES (2, 6);
COMMIT;
BEGIN;
INSERT INTO ticks VALUES (2, 100);
ROLLBACK;
SELECT id, batch, old, new, offsets FROM sums_changes ORDER BY id;
SELECT id, batch, old, new FROM sum_changes ORDER BY id;
DELETE FROM ticks WHERE k = 1;
SELECT millrace.rebuild('sums'), millrace.rebuild('sum');
SELECT old, new FROM sums_changes WHERE batch > 3 ORDER BY id;
SELECT old, new FROM sum_changes WHERE batch > 3 ORDER BY id;
SELECT * FROM sums ORDER BY k;
-- a view of a view's changes, and one of its changes
SELECT millrace.attach_table('sums_changes');
SELECT fails('INSERT INTO sums_changes DEFAULT VALUES');
SELECT millrace.create_continuous_view('raises', 'SELECT (new).k, count(*) AS n, max((new).v - (old).v) AS most FROM sums_changes WHERE old IS NOT NULL AND new IS NOT NULL GROUP BY 1', changes => true);
SELECT millrace.attach_table('raises_changes');
SELECT millrace.create_continuous_view('raised', 'SELECT (new).k, count(*) AS n, count(*) FILTER (WHERE old IS NULL) AS first FROM raises_changes GROUP BY 1');
SELECT millrace.create_continuous_view('ticked', 'SELECT source, count(*) AS n FROM (SELECT 1 AS source FROM ticks UNION ALL SELECT 2 FROM sums_changes) u GROUP BY source');
INSERT INTO ticks VALUES (2, 1), (3, 1);
BEGIN;
INSERT INTO ticks VALUES (2, 10), (3, 5);
SAVEPOINT s;
INSERT INTO ticks VALUES (3, 50);
ROLLBACK TO s;
INSERT INTO ticks VALUES (3, 7);
COMMIT;
INSERT INTO ticks SELECT 3, 1 FROM generate_series(1, 10);
BEGIN;
INSERT INTO ticks VALUES (2, 77);
ROLLBACK;
TABLE sums ORDER BY k;
SELECT differ('raises', 'SELECT (new).k, count(*) AS n, max((new).v - (old).v) AS most FROM sums_changes WHERE old IS NOT NULL AND new IS NOT NULL GROUP BY 1');
TABLE raises ORDER BY k;
SELECT differ('raised', 'SELECT (new).k, count(*) AS n, count(*) FILTER (WHERE old IS NULL) AS first FROM raises_changes GROUP BY 1');
TABLE raised ORDER BY k;
SELECT differ('ticked', 'SELECT source, count(*) AS n FROM (SELECT 1 AS source FROM ticks UNION ALL SELECT 2 FROM sums_changes) u GROUP BY source');
SELECT stream, format FROM millrace.streams ORDER BY stream::text;
SELECT fails('DROP VIEW sums');
SELECT fails('SELECT millrace.detach_table(''sums_changes'')');
DROP VIEW raised, ticked;
DROP VIEW raises;
SELECT millrace.detach_table('sums_changes');
INSERT INTO ticks VALUES (2, 1);
SELECT stream, format FROM millrace.streams ORDER BY stream::text;
DROP TABLE ticks CASCADE;

--
-- Privileges
--
CREATE ROLE regress_shop_owner;
CREATE ROLE regress_shop_analyst;
CREATE ROLE regress_shop_clerk;
GRANT USAGE ON SCHEMA shop TO PUBLIC;
GRANT CREATE ON SCHEMA shop TO regress_shop_analyst;
CREATE TABLE sales (id int, amount int, secret text);
ALTER TABLE sales OWNER TO regress_shop_owner;
SET ROLE regress_shop_clerk;
SELECT fails('SELECT millrace.attach_table(''sales'')');
SET ROLE regress_shop_owner;
SELECT millrace.attach_table('sales');
SET ROLE regress_shop_analyst;
SELECT fails('SELECT millrace.create_continuous_view(''v'', ''SELECT sum(amount) AS total FROM sales'')');
RESET ROLE;
GRANT SELECT (id, amount) ON sales TO regress_shop_analyst;
SET ROLE regress_shop_analyst;
-- a view can make an INSERT fail, as a trigger can
SELECT fails('SELECT millrace.create_continuous_view(''v'', ''SELECT sum(amount) AS total FROM sales'')');
RESET ROLE;
GRANT TRIGGER ON sales TO regress_shop_analyst;
SET ROLE regress_shop_analyst;
SELECT fails('SELECT millrace.create_continuous_view(''v'', ''SELECT max(secret) FROM sales'')');
CREATE FUNCTION who(text, int) RETURNS text LANGUAGE sql AS $$ SELECT current_user::text $$;
CREATE FUNCTION who(text, text) RETURNS text LANGUAGE sql AS 'SELECT $2';
CREATE AGGREGATE whose(int) (sfunc = who, stype = text, combinefunc = who);
SELECT millrace.create_continuous_view('v', 'SELECT sum(amount) AS total, whose(id) AS runs_as FROM sales');
SELECT fails('SELECT millrace.detach_table(''sales'')');
RESET ROLE;
GRANT INSERT ON sales TO regress_shop_clerk;
SET ROLE regress_shop_clerk;
INSERT INTO sales VALUES (1, 10, 'x'), (2, 20, 'y');
SELECT current_user;
RESET ROLE;
TABLE v;
-- the view's owner needs the privilege, too, when rows come; the table's owner can do without the view
REVOKE SELECT (id) ON sales FROM regress_shop_analyst;
INSERT INTO sales VALUES (3, 30);
SET ROLE regress_shop_owner;
SELECT millrace.deactivate('sales');
INSERT INTO sales VALUES (3, 30);
RESET ROLE;
TABLE v;
GRANT SELECT ON sales TO regress_shop_analyst;
SELECT millrace.activate('v');
TABLE v;
-- row security shows the view's owner what it shows him in a query
ALTER TABLE sales ENABLE ROW LEVEL SECURITY;
CREATE POLICY small ON sales FOR SELECT TO regress_shop_analyst USING (amount < 100 AND secret IS DISTINCT FROM 'hidden');
CREATE POLICY insert ON sales FOR INSERT WITH CHECK (true);
INSERT INTO sales VALUES (4, 400, NULL), (5, 50, NULL), (6, 60, 'hidden');
TABLE v;
SELECT millrace.rebuild('v');
TABLE v;
INSERT INTO sales VALUES (7, 700), (8, 80);
TABLE v;
SELECT fails('CREATE TRIGGER t AFTER INSERT ON names FOR EACH ROW EXECUTE FUNCTION millrace.stream_insert()');
INSERT INTO names VALUES (9, 'nine');
SET ROLE regress_shop_owner;
SELECT fails('CREATE TRIGGER t AFTER INSERT ON sales FOR EACH ROW EXECUTE FUNCTION millrace.stream_insert()');
RESET ROLE;

DROP SCHEMA shop CASCADE;
DROP SERVER nowhere;
DROP FOREIGN DATA WRAPPER nothing;
DROP ROLE regress_shop_owner, regress_shop_analyst, regress_shop_clerk;
SELECT (SELECT count(*) FROM millrace.table_stream), (SELECT count(*) FROM millrace.view_stream), (SELECT count(*) FROM millrace.continuous_view);
