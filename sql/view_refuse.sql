--
-- What a continuous view cannot keep exactly is refused when it is created: the
-- construct named, with a hint. No broker is needed.
--
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
CREATE SCHEMA refuse;
SET search_path = refuse;

CREATE SERVER nowhere FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.servers" 'localhost:1');
CREATE FOREIGN TABLE s (id int, u int, t text, n numeric, f float8, b boolean, ts timestamptz, j jsonb, a int[])
  SERVER nowhere OPTIONS (topic 's');
CREATE FOREIGN TABLE s2 (id int, u int, n numeric) SERVER nowhere OPTIONS (topic 's2');
CREATE TABLE users (u int PRIMARY KEY, name text);
CREATE TEMP TABLE temp_users (u int);
CREATE VIEW s_counted AS SELECT u, count(*) FROM s GROUP BY u;
CREATE VIEW s_recent AS SELECT * FROM s WHERE ts > now();
CREATE VIEW s_numbered AS SELECT u, row_number() OVER () FROM s;
CREATE TABLE parent (id int, u int) PARTITION BY LIST (id);
CREATE FOREIGN TABLE child PARTITION OF parent DEFAULT SERVER nowhere OPTIONS (topic 'c');
CREATE FUNCTION moody(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION read_s() RETURNS SETOF s STABLE LANGUAGE sql AS 'SELECT * FROM refuse.s';
CREATE FUNCTION plus(int, int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + $2';
CREATE AGGREGATE uncombined(int) (sfunc = plus, stype = int, initcond = '0');
CREATE AGGREGATE json_total(int) (sfunc = plus, stype = int, initcond = '0');
CREATE AGGREGATE unserialized(numeric) (sfunc = numeric_avg_accum, stype = internal, finalfunc = numeric_avg,
                                        combinefunc = numeric_avg_combine);

-- What a query is refused with. It must not matter that the view would be dropped.
CREATE FUNCTION refused(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	state text;
	message text;
	detail text;
	hint text;
BEGIN
	PERFORM millrace.create_continuous_view('refuse.v', query);
	DROP VIEW refuse.v;
	RETURN NEXT 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN NEXT state || ': ' || message;
	IF detail <> '' THEN RETURN NEXT '    DETAIL: ' || detail; END IF;
	IF hint <> '' THEN RETURN NEXT '    HINT: ' || hint; END IF;
END
$$;

-- not one SELECT over a stream
SELECT refused('');
SELECT refused(' ; ');
SELECT refused('SELECT count(*) FROM s; SELECT 2');
SELECT refused('INSERT INTO users VALUES (1)');
SELECT refused('EXPLAIN SELECT count(*) FROM s');
SELECT refused('SELECT count(*) FROM users');
SELECT refused('VALUES (1)');
SELECT refused('WITH unused AS (SELECT * FROM s) SELECT 1');
SELECT refused('SELECT count(*) INTO counted FROM s');
SELECT refused('SELECT count(*) FROM s WHERE u = $1');
SELECT refused('SELECT FROM s');
SELECT refused('SELECT count(* FROM s');
SELECT refused('SELECT nothing FROM s');
SELECT refused('SELECT count(*), count(*) FROM s');

-- joins
SELECT refused('SELECT count(*) FROM s JOIN s2 USING (id)');
SELECT refused('SELECT count(*) FROM s x, s y');
SELECT refused('SELECT count(*) FROM users LEFT JOIN s USING (u)');
SELECT refused('SELECT count(*) FROM s RIGHT JOIN users USING (u)');
SELECT refused('SELECT count(*) FROM users x LEFT JOIN (users y JOIN s USING (u)) ON true');
SELECT refused('SELECT count(*) FROM s FULL JOIN users USING (u)');
SELECT refused('SELECT s.u FROM s JOIN (SELECT u, count(*) FROM s2 GROUP BY u) x USING (u)');
SELECT refused('SELECT x.n FROM users, LATERAL (SELECT count(*) AS n FROM s WHERE s.u = users.u) x');
SELECT refused('SELECT count(*) FROM s JOIN temp_users USING (u)');
SELECT refused('SELECT count(*) FROM parent');
SELECT refused('SELECT count(*) FROM s JOIN parent USING (u)');

-- aggregates
SELECT refused('SELECT uncombined(u) FROM s');
SELECT refused('SELECT unserialized(n) FROM s');
SELECT refused('SELECT json_agg(u) FROM s');
SELECT refused('SELECT array_agg(u) FROM s');
SELECT refused('SELECT array_agg(u ORDER BY id) FROM s');
SELECT refused($$ SELECT string_agg(t, ',') FROM s $$);
SELECT refused($$ SELECT string_agg(t, ',' ORDER BY id) FROM s $$);
SELECT refused('SELECT jsonb_object_agg(t, u) FROM s');
SELECT refused('SELECT count(DISTINCT u) FROM s');
SELECT refused('SELECT u, count(*) FROM s GROUP BY u HAVING count(DISTINCT b) > 1');
SELECT refused('SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY f) FROM s');
SELECT refused('SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY f) FROM s');
SELECT refused('SELECT mode() WITHIN GROUP (ORDER BY u) FROM s');
SELECT refused('SELECT dense_rank(5) WITHIN GROUP (ORDER BY u) FROM s');
SET millrace.allow_growing_states = on;
SELECT refused('SELECT json_agg(a) FROM s');
SELECT refused('SELECT json_total(id) FROM s');
SELECT refused('SELECT jsonb_object_agg(t, u ORDER BY id DESC) FROM s');
SELECT refused('SELECT array_agg(u ORDER BY id DESC) FROM s');
SELECT refused('SELECT count(DISTINCT (u, b)) FROM s');
SELECT refused('SELECT sum(DISTINCT u) FROM s');
SELECT refused('SELECT string_agg(DISTINCT t, $$,$$) FROM s');
SELECT refused('SELECT max(DISTINCT u) FROM s');
SELECT refused('SELECT sum(u ORDER BY id) FROM s');
SELECT refused('SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY a) FROM s');
SELECT refused('SELECT mode() WITHIN GROUP (ORDER BY a) FROM s');
SELECT refused('SELECT dense_rank(5, 0) WITHIN GROUP (ORDER BY u, f) FROM s');
RESET millrace.allow_growing_states;

-- groups
SELECT refused('SELECT 1 AS one FROM s GROUP BY ()');
SELECT refused('SELECT 1 AS one FROM s HAVING true');
SELECT refused('SELECT j::json AS j, count(*) FROM s GROUP BY 1');
SELECT refused('SELECT t::xid AS x, count(*) FROM s GROUP BY 1');
SELECT refused('SELECT ROW(u, b) AS r, count(*) FROM s GROUP BY 1');
SELECT refused('SELECT ROW(u, b) AS r FROM s');
SELECT refused('SELECT s FROM s');
SELECT refused('SELECT ' || string_agg('u + ' || i || ' AS c' || i, ', ') || ', count(*) FROM s GROUP BY '
               || string_agg(i::text, ', ')) FROM generate_series(1, 33) AS i;

-- subqueries, set operations, WITH
SELECT refused('SELECT u, (SELECT count(*) FROM s) FROM users');
SELECT refused('SELECT * FROM users WHERE u IN (SELECT u FROM s)');
SELECT refused('SELECT count(*) FROM s WHERE u IN (SELECT u FROM s2)');
SELECT refused('SELECT count(*) FROM (SELECT u FROM s LIMIT 10) x');
SELECT refused('SELECT count(*) FROM (SELECT u FROM s OFFSET 10) x');
SELECT refused('SELECT count(*) FROM (SELECT row_number() OVER () FROM s) x');
SELECT refused('SELECT sum(count) FROM s_counted');
SELECT refused('SELECT * FROM s_numbered');
SELECT refused('SELECT u FROM s UNION SELECT u FROM s2');
SELECT refused('SELECT u FROM s INTERSECT SELECT u FROM s2');
SELECT refused('SELECT u FROM s EXCEPT ALL SELECT u FROM s2');
SELECT refused('SELECT u FROM s EXCEPT SELECT u FROM users');
SELECT refused('SELECT u FROM s UNION ALL SELECT u FROM users');
SELECT refused('SELECT count(*) FROM s UNION ALL SELECT count(*) FROM s2');
SELECT refused('SELECT count(*) FROM (SELECT u FROM s UNION ALL SELECT max(u) FROM s2) x');
SELECT refused('SELECT x.n FROM (SELECT count(*) AS n FROM s) x, (SELECT count(*) AS n FROM s) y');
SELECT refused('WITH RECURSIVE r AS (SELECT id FROM s UNION ALL SELECT id + 1 FROM r WHERE id < 3) SELECT count(*) FROM r');
SELECT refused('WITH x AS (DELETE FROM users RETURNING *) SELECT count(*) FROM s JOIN x USING (u)');

-- locks, samples, system columns
SELECT refused('SELECT * FROM s FOR UPDATE');
SELECT refused('SELECT count(*) FROM (SELECT u FROM s FOR SHARE) x');
SELECT refused('SELECT count(*) FROM s JOIN users TABLESAMPLE system (10) USING (u)');
SELECT refused('SELECT ctid, u FROM s');

-- the clock, chance, the session
SELECT refused('SELECT count(*) FROM s WHERE ts > now() - interval ''1 hour''');
SELECT refused('SELECT count(*) FILTER (WHERE ts > transaction_timestamp()) FROM s');
SELECT refused('SELECT count(*) FROM s WHERE ts::date = current_date');
SELECT refused('SELECT max(current_timestamp(0) - ts) FROM s');
SELECT refused('SELECT localtime, localtimestamp FROM s');
SELECT refused('SELECT clock_timestamp() AS c, count(*) FROM s GROUP BY 1');
SELECT refused('SELECT DISTINCT statement_timestamp() - ts AS age FROM s');
SELECT refused('SELECT age(ts) FROM s');
SELECT refused('SELECT id, random() FROM s');
SELECT refused('SELECT sum(moody(u)) FROM s');
SELECT refused('SELECT count(*) FROM s JOIN (SELECT u FROM users WHERE moody(u) = 1) x USING (u)');
SELECT refused('SELECT count(*) FROM s WHERE t = current_user');
SELECT refused('SELECT count(*) FROM s WHERE t = current_setting(''a.b'')');
SELECT refused('SELECT count(*) FROM s_recent');
SELECT refused('SELECT count(*) FROM s JOIN read_s() x USING (u)');

-- at read they are fine
SELECT refused('SELECT u, count(*), now() AS n, moody(u) AS m, current_user AS c FROM s GROUP BY u HAVING max(ts) < now()');

-- errors point into the query, also behind characters of several bytes
SELECT millrace.create_continuous_view('v', $$SELECT u AS "ärger", count(*)
FROM s WHERE t = 'ű' AND ts > now() GROUP BY u$$);
SELECT millrace.create_continuous_view('v', 'SELECT count(*) FROM s GROUP BY v');

-- the other arguments
SELECT millrace.create_continuous_view(NULL, 'SELECT count(*) FROM s');
SELECT millrace.create_continuous_view('v', NULL);
SELECT millrace.create_continuous_view('v', 'SELECT count(*) FROM s', NULL);
SELECT millrace.create_continuous_view('v', 'SELECT count(*) FROM s', 'yesterday or so');
SELECT millrace.create_continuous_view('', 'SELECT count(*) FROM s');
SELECT millrace.create_continuous_view('users', 'SELECT count(*) FROM s');
SELECT millrace.create_continuous_view('nowhere.v', 'SELECT count(*) FROM s');
SELECT millrace.create_continuous_view('pg_temp.v', 'SELECT count(*) FROM s');
BEGIN READ ONLY;
SELECT millrace.create_continuous_view('v', 'SELECT count(*) FROM s');
ROLLBACK;

SELECT count(*) FROM millrace.continuous_view;
DROP SCHEMA refuse CASCADE;
DROP SERVER nowhere CASCADE;
