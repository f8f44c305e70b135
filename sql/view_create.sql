--
-- What creating a continuous view leaves behind, and what DDL does to it. No
-- broker is needed: views that begin at 'earliest' do not ask it.
--
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
CREATE ROLE regress_mr_owner;
CREATE ROLE regress_mr_other;
CREATE SCHEMA made;
CREATE SCHEMA moved;
GRANT ALL ON SCHEMA made, moved TO regress_mr_owner, regress_mr_other;
SET search_path = made;

CREATE SERVER nowhere FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.servers" 'localhost:1');
CREATE FOREIGN TABLE s (id int, u int, t text COLLATE "C", v varchar(7), n numeric(8, 2), b boolean, ts timestamptz, a int[])
  SERVER nowhere OPTIONS (topic 's');
CREATE FOREIGN TABLE s2 (id int, u int, n numeric) SERVER nowhere OPTIONS (topic 's2');
CREATE TABLE users (u int PRIMARY KEY, name text);

-- a view's relations in both schemas, with owners and other readers
CREATE VIEW public.parts AS
SELECT c.oid::regclass || ' ' || c.relkind::text || ' ' || c.relowner::regrole
       || coalesce(' ' || (SELECT string_agg(grantee::regrole || ' ' || privilege_type, ', ' ORDER BY 1)
                           FROM aclexplode(c.relacl) WHERE grantee <> c.relowner), '') AS part
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('made', 'moved') AND c.relkind IN ('v', 'r', 'i') AND c.relname NOT LIKE 'users%'
ORDER BY c.relname;

CREATE FUNCTION columns(relation text) RETURNS SETOF text LANGUAGE sql AS $$
  SELECT attname || ' ' || format_type(atttypid, atttypmod) || CASE attcollation WHEN 0 THEN '' ELSE ' ' || attcollation::regcollation END
  FROM pg_attribute WHERE attrelid = relation::regclass AND attnum > 0 ORDER BY attnum $$;

-- as text, without the qualifications that differ between releases
CREATE FUNCTION definition(relation regclass) RETURNS text LANGUAGE sql AS $$
  SELECT regexp_replace(pg_get_viewdef(relation), '\m(v_mrel|s)\.', '', 'g') $$;

-- groups, states, and what a reader sees
SELECT millrace.create_continuous_view('v', $$
  SELECT date_trunc('hour', ts) AS hour, t, v, count(*) AS hits, sum(n), avg(n) + 1 AS more, max(t) AS "Last"
  FROM s LEFT JOIN users USING (u) WHERE n > 1 GROUP BY 1, t, v HAVING count(*) > 2 ORDER BY count(*) DESC LIMIT 5 $$);
SELECT columns('v');
SELECT columns('v_mrel');
SELECT definition('v');
SELECT pg_get_indexdef('v_mrel_key'::regclass);
SELECT unnest(reloptions) FROM pg_class WHERE oid = 'v_mrel'::regclass;
SELECT part FROM public.parts;
SELECT * FROM v;
SELECT view, kind, matrel, definition, start_at, active, 'search_path=made' = ANY (settings)
FROM millrace.continuous_view;
SELECT view, stream, columns FROM millrace.view_stream;
SELECT stream FROM millrace.feed;
SELECT millrace.create_continuous_view('v', 'SELECT count(*) FROM s');
DROP VIEW v;
SELECT part FROM public.parts;
SELECT count(*) FROM millrace.continuous_view;

-- one row from the start
SELECT millrace.create_continuous_view('v', 'SELECT count(*), sum(n), avg(n), min(t), count(*) FILTER (WHERE b) AS f FROM s');
SELECT columns('v_mrel');
SELECT * FROM v;
DROP VIEW v;

-- rows
SELECT millrace.create_continuous_view('v', 'SELECT id, n * 2 AS n2, rank() OVER (PARTITION BY t ORDER BY n), $$x$$ AS x FROM s ORDER BY ts');
SELECT columns('v');
SELECT columns('v_mrel');
SELECT definition('v');
DROP VIEW v;

-- DISTINCT, two streams, only the columns that are needed
SELECT millrace.create_continuous_view('v', 'SELECT DISTINCT u FROM (SELECT * FROM s WHERE b UNION ALL SELECT id, u, NULL, NULL, n, NULL, NULL, NULL FROM s2) x');
SELECT definition('v');
SELECT view, stream, columns FROM millrace.view_stream;
DROP VIEW v;

-- the level that aggregates, with others around
SELECT millrace.create_continuous_view('v', $$
  WITH rows AS (SELECT u, n FROM s WHERE b), sums AS (SELECT u, sum(n) AS total FROM rows GROUP BY u)
  SELECT users.name, total, total > (SELECT avg(total) FROM sums) AS good FROM sums LEFT JOIN users USING (u) $$);
SELECT definition('v');
SELECT columns('v_mrel');
DROP VIEW v;

-- names
SELECT millrace.create_continuous_view('made."Odd ""name"', 'SELECT u AS "a b", u AS ctid, count(*) AS xmin FROM s GROUP BY u');
SELECT columns('"Odd ""name"');
SELECT columns('"Odd ""name_mrel"');
DROP VIEW "Odd ""name";
SELECT millrace.create_continuous_view(repeat('n', 70), 'SELECT u, count(*) FROM s GROUP BY u');
SELECT millrace.create_continuous_view(repeat('n', 62) || 'm', 'SELECT u, count(*) FROM s GROUP BY u');
SELECT part FROM public.parts;
SELECT format('DROP VIEW %I, %I', repeat('n', 63), repeat('n', 62) || 'm') \gexec
SELECT part FROM public.parts;

-- nobody writes or replaces it, or takes parts away
SELECT millrace.create_continuous_view('v', 'SELECT u, count(*) FROM s JOIN users USING (u) GROUP BY u');
INSERT INTO v VALUES (1, 1);
CREATE OR REPLACE VIEW v AS SELECT 1 AS u, 1::bigint AS count;
CREATE OR REPLACE VIEW v_def AS SELECT 1 AS u, 1::bigint AS count;
ALTER VIEW v_def RENAME TO w;
ALTER TABLE v_mrel RENAME TO w;
ALTER TABLE v_mrel ADD COLUMN more text;
ALTER TABLE v_mrel ALTER COLUMN u TYPE bigint;
ALTER TABLE v_mrel SET (fillfactor = 60);
ALTER SCHEMA millrace RENAME TO other;
ALTER SCHEMA millrace OWNER TO regress_mr_owner;
ALTER TABLE v_mrel OWNER TO regress_mr_owner;
ALTER TABLE v_mrel OWNER TO CURRENT_USER;
DROP VIEW v_def;
DROP TABLE v_mrel;
DROP TABLE users;
DROP FOREIGN TABLE s;
ALTER TABLE users RENAME u TO user_id;
SELECT definition('v_def');
BEGIN READ ONLY;
SELECT millrace.activate('v');
ROLLBACK;
BEGIN READ ONLY;
SELECT millrace.deactivate('s');
ROLLBACK;
BEGIN READ ONLY;
SELECT millrace.truncate_continuous_view('v');
ROLLBACK;
BEGIN READ ONLY;
SELECT millrace.create_topic('nowhere', 't');
ROLLBACK;

-- parts follow
ALTER VIEW v RENAME TO w;
ALTER TABLE w SET SCHEMA moved;
ALTER VIEW moved.w OWNER TO regress_mr_owner;
SELECT part FROM public.parts;
BEGIN;
REASSIGN OWNED BY regress_mr_owner TO regress_mr_other;   -- fires no event trigger, but the next does
ALTER VIEW moved.w RENAME COLUMN count TO n;
SELECT part FROM public.parts WHERE part NOT LIKE '%mrel r%';
COMMIT;
SELECT * FROM moved.w;

-- and go with it
BEGIN; DROP VIEW moved.w; SELECT part FROM public.parts; ROLLBACK;
DROP TABLE moved.w_mrel CASCADE;
BEGIN; DROP FOREIGN TABLE s CASCADE; SELECT part FROM public.parts; SELECT * FROM millrace.view_stream; ROLLBACK;
BEGIN; DROP SERVER nowhere CASCADE; SELECT part FROM public.parts; ROLLBACK;
BEGIN; DROP TABLE users CASCADE; SELECT part FROM public.parts; ROLLBACK;
BEGIN; DROP SCHEMA moved CASCADE; SELECT part FROM public.parts; ROLLBACK;
BEGIN; DROP OWNED BY regress_mr_other; SELECT part FROM public.parts; ROLLBACK;
SELECT part FROM public.parts;
SELECT count(*) FROM millrace.continuous_view;
DROP VIEW moved.w;
BEGIN; SELECT millrace.create_continuous_view('v', 'SELECT count(*) FROM s'); ROLLBACK;
SELECT part FROM public.parts;

-- views that read each other
SELECT millrace.create_continuous_view('v', 'SELECT u, count(*) FROM s GROUP BY u');
SELECT millrace.create_continuous_view('w', 'SELECT count(*) FROM s JOIN v USING (u)');
DROP VIEW v;
DROP VIEW v, w;

-- privileges
SET ROLE regress_mr_owner;
SELECT millrace.create_continuous_view('v', 'SELECT count(*) FROM s');
RESET ROLE;
GRANT SELECT ON s TO regress_mr_owner;
GRANT SELECT (user_id) ON users TO regress_mr_owner;
REVOKE CREATE ON SCHEMA moved FROM regress_mr_owner;
SET ROLE regress_mr_owner;
SELECT millrace.create_continuous_view('moved.v', 'SELECT count(*) FROM s');
SELECT millrace.create_continuous_view('v', 'SELECT name, count(*) FROM s JOIN users ON s.u = user_id GROUP BY name');
SELECT millrace.create_continuous_view('v', 'SELECT u, count(*) FROM s GROUP BY u');
DELETE FROM v_mrel;
DROP TABLE v_mrel;
SELECT * FROM v;
GRANT SELECT ON v TO regress_mr_other;
SET ROLE regress_mr_other;
SELECT * FROM v;
SELECT * FROM v_mrel;
DROP VIEW v;
SET ROLE regress_mr_owner;
SELECT replace(line, 's.u', 'u') FROM millrace.explain_view('v') AS line;
DROP VIEW v;
RESET ROLE;
SELECT part FROM public.parts;

-- states, finished by hand
SELECT millrace.finalize('avg(int)', '{4,10}'::bigint[], NULL::numeric);
SELECT millrace.finalize('avg(int)', NULL::bigint[], NULL::numeric) IS NULL;
SELECT millrace.finalize(a, state, NULL::numeric) FROM (VALUES ('avg(int)'::regprocedure, '{0,0}'::bigint[]), ('avg(int)', '{2,3}')) x (a, state);
SELECT millrace.finalize('max(anyarray)', '{1}'::int[], NULL::int[], NULL::int[]);
SELECT millrace.finalize('max(anyarray)', '{1}'::int[], NULL::text[], NULL::int[]);
SELECT millrace.finalize('max(anyarray)', '{1}'::int[], NULL::int[]);
SELECT millrace.finalize('avg(int)', '{4,10}'::int[], NULL::numeric);
SELECT millrace.finalize('avg(int)', '{4,10}'::bigint[], NULL::text);
SELECT millrace.finalize('avg(numeric)', '\x0102'::bytea, NULL::numeric);
SELECT millrace.finalize('now()', 1, NULL::numeric);

DROP VIEW public.parts;
DROP SCHEMA made, moved CASCADE;
DROP SERVER nowhere CASCADE;
DROP OWNED BY regress_mr_owner, regress_mr_other;
DROP ROLE regress_mr_owner, regress_mr_other;
SELECT count(*) FROM millrace.continuous_view;
