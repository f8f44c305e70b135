--
-- The extension's aggregates as ordinary ones: what they give, in any query.
--
\set VERBOSITY terse
\pset format unaligned
\pset null NULL
SET client_min_messages = warning;
CREATE SCHEMA aggregates;
SET search_path = aggregates, millrace, pg_catalog;
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TYPE pair AS (a int, b text);
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE rows AS
  SELECT i, i % 7 AS g, CASE WHEN i % 11 > 0 THEN (i * 7919) % 1009 END AS k, CASE WHEN i % 13 > 0 THEN 'v' || i % 50 END AS t,
         (i % 20)::numeric / 2 + CASE WHEN i % 2 = 0 THEN 0.00 ELSE 0 END AS n, ('{sad,ok,happy}'::mood[])[i % 3 + 1] AS m,
         ROW(i % 4, 'x' || i % 3)::pair AS p, ARRAY[i % 3, i % 2] AS a,
         CASE i % 5 WHEN 0 THEN '-0' WHEN 1 THEN 'NaN' WHEN 2 THEN '0' ELSE (i % 4)::text END::float8 AS f
  FROM generate_series(1, 3000) i;
ANALYZE rows;
-- first, last, min_by, max_by: against a sort.  Of rows with equal keys the least value is first.
SELECT count(*) AS wrong FROM
  (SELECT g, first(t, k), last(t, k), min_by(i, k), max_by(p, t), first(t, k, 5) AS first5, last(t, k, 5) AS last5, first(m, t) AS fm, last(a, f) AS la FROM rows GROUP BY g) x
  FULL JOIN
  (SELECT g, (array_agg(t ORDER BY k, t) FILTER (WHERE k IS NOT NULL))[1] AS first,
     (array_agg(t ORDER BY k DESC, t DESC NULLS LAST) FILTER (WHERE k IS NOT NULL))[1] AS last,
     (array_agg(i ORDER BY k, i) FILTER (WHERE k IS NOT NULL))[1] AS min_by,
     (array_agg(p ORDER BY t DESC, p DESC) FILTER (WHERE t IS NOT NULL))[1] AS max_by,
     (array_agg(t ORDER BY k, t) FILTER (WHERE k IS NOT NULL))[1:5] AS first5,
     (array_agg(t ORDER BY k DESC, t DESC NULLS LAST) FILTER (WHERE k IS NOT NULL))[1:5] AS last5,
     (array_agg(m ORDER BY t, m) FILTER (WHERE t IS NOT NULL))[1] AS fm,
     (SELECT a FROM rows r WHERE r.g = rows.g ORDER BY f DESC, a DESC LIMIT 1) AS la
   FROM rows GROUP BY g) y USING (g) WHERE x IS DISTINCT FROM y;
SELECT first(v, k), last(v, k), first(v, k, 3) AS f3, last(v, k, 3) AS l3
  FROM (VALUES (1, 2), (NULL, 1), (3, NULL), (4, 1), (5, 2)) x (v, k);
SELECT first(i, k) AS first, first(i, k, 2) AS n, max_by(i, k) AS max_by FROM rows WHERE false;
SELECT first(i, NULL::int) AS first, last(i, NULL::int, 2) AS n FROM rows;
SELECT first(i, point(1, 2)) FROM rows;
SELECT first(i, k, 0) FROM rows;
SELECT first(i, k, i) FROM rows;
SELECT first(i, k, NULL) FROM rows;
-- Values that are equal, but not the same; any order of rows gives the same one.
SELECT DISTINCT first(n, g), last(n, g), set_agg(n)
  FROM (VALUES (1), (2), (3), (4)) o (o), LATERAL (SELECT * FROM (VALUES (1.0, 1), (1.00, 1), (1.000, 1)) v (n, g) ORDER BY n::text COLLATE "C" = '1.0', o * length(n::text) % 5 OFFSET 0) q GROUP BY o;

-- array_agg, string_agg, jsonb_object_agg
SELECT count(*) AS wrong FROM
  (SELECT g, array_agg(t, i) AS a, string_agg(t, ', ', -i) AS s, string_agg(t::bytea, '\x00', i) AS b, array_agg(i, t) AS ti, array_agg(m, i) AS m, array_agg(p, -i) AS p,
     jsonb_object_agg('k' || i % 9, to_jsonb(t), i) AS j, jsonb_object_agg('k' || i % 9, to_jsonb(i)) AS jm FROM rows GROUP BY g) x
  FULL JOIN
  (SELECT g, pg_catalog.array_agg(t ORDER BY i) AS a, pg_catalog.string_agg(t, ', ' ORDER BY -i) AS s,
     pg_catalog.string_agg(t::bytea, '\x00' ORDER BY i) AS b, pg_catalog.array_agg(i ORDER BY t, i) AS ti, pg_catalog.array_agg(m ORDER BY i) AS m,
     pg_catalog.array_agg(p ORDER BY -i) AS p,
     pg_catalog.jsonb_object_agg('k' || i % 9, t ORDER BY i) AS j, pg_catalog.jsonb_object_agg('k' || i % 9, i ORDER BY i) AS jm
   FROM rows GROUP BY g) y USING (g) WHERE x IS DISTINCT FROM y;
SELECT millrace.array_agg(v) AS a, millrace.string_agg(v, '-') AS s, millrace.string_agg(v, d, o) AS sd, millrace.string_agg(NULL, ',') AS none
  FROM (VALUES ('a', '-', 3), (NULL, '+', 2), ('c', '*', 1), ('b', NULL, NULL)) x (v, d, o);
SELECT millrace.array_agg(i) AS a, millrace.string_agg(t, ',') AS s, millrace.jsonb_object_agg(t, '1') AS j, millrace.json_object_agg(t, '1', 1) AS js FROM rows WHERE false;
SELECT millrace.jsonb_object_agg(k, v, o) AS j, millrace.json_object_agg(k, v) AS js, pg_typeof(millrace.json_object_agg(k, v)) AS t
  FROM (VALUES ('a', '1'::jsonb, 1), ('a', '2', NULL), ('b', NULL, 1), ('"c', '{"x": [1, "y", null, true]}', 1), ('b', '[]', 0)) x (k, v, o);
SELECT millrace.jsonb_object_agg(NULL, '1') FROM rows;
SELECT millrace.array_agg(i, point(1, 2)) FROM rows;
SELECT millrace.array_agg(a) FROM rows;

-- count_distinct, set_agg
SELECT g, count_distinct(i) = count(DISTINCT i) AS i, count_distinct(k) = count(DISTINCT k) AS k, count_distinct(t) = count(DISTINCT t) AS t,
  count_distinct(n) = count(DISTINCT n) AS n, count_distinct(f) = count(DISTINCT f) AS f, count_distinct(p) = count(DISTINCT p) AS p,
  count_distinct(m) = count(DISTINCT m) AS m, count_distinct(a) = count(DISTINCT a) AS a, count_distinct(i) FILTER (WHERE i < 0) AS none,
  set_agg(t) = pg_catalog.array_agg(DISTINCT t) AS st, set_agg(k) = pg_catalog.array_agg(DISTINCT k) AS sk, set_agg(f) = pg_catalog.array_agg(DISTINCT f) AS sf,
  set_agg(m) = pg_catalog.array_agg(DISTINCT m) AS sm, set_agg(p) = pg_catalog.array_agg(DISTINCT p) AS sp, set_agg(n) = pg_catalog.array_agg(DISTINCT n) AS sn
FROM rows GROUP BY g ORDER BY g;
SELECT count_distinct(v COLLATE nocase) AS nocase, count_distinct(v COLLATE "C") AS c, set_agg(v COLLATE nocase) AS set, set_agg(v COLLATE "und-x-icu") AS icu
  FROM (VALUES ('a'), ('A'), ('b'), ('B'), ('B')) x (v);
SELECT count_distinct(v) AS c, set_agg(v) AS s FROM (VALUES ('-0'::float8), ('0'), ('NaN'), ('NaN'), ('Infinity'), (NULL), ('-1')) x (v);
SELECT count_distinct(NULL::int) AS c, set_agg(NULL::int) AS s FROM rows;
SELECT count_distinct(i) AS c, set_agg(i) AS s FROM rows WHERE false;
SELECT count_distinct((i, t)) FROM rows;
SELECT count_distinct(point(i, 1)) FROM rows;
SELECT count_distinct(v::json) FROM (VALUES ('1')) x (v);

-- In a window, whose final function is called again and again; and what leaves it.
SELECT count(*) AS wrong FROM
  (SELECT i, count_distinct(t) OVER w AS c, set_agg(t) OVER w AS s, last(t, i) OVER w AS l, millrace.array_agg(t, -i) OVER w AS a,
     (SELECT count(DISTINCT r.t) FROM rows r WHERE r.i BETWEEN q.i - 3 AND q.i) AS c1, pg_catalog.array_agg(t) OVER w AS a1
   FROM rows q WHERE i < 200 WINDOW w AS (ORDER BY i ROWS 3 PRECEDING)) x
  WHERE c <> c1 OR s IS DISTINCT FROM (SELECT pg_catalog.array_agg(DISTINCT u) FROM unnest(a1) u)
    OR l IS DISTINCT FROM a1[cardinality(a1)] OR a IS DISTINCT FROM (SELECT pg_catalog.array_agg(u ORDER BY o DESC) FROM unnest(a1) WITH ORDINALITY y (u, o));
SELECT count(*) AS wrong FROM (SELECT i, count_distinct(k) OVER (ORDER BY i) AS c, set_agg(t) OVER (ORDER BY i) AS s FROM rows WHERE i < 300) x
  WHERE c <> (SELECT count(DISTINCT k) FROM rows r WHERE r.i <= x.i) OR s IS DISTINCT FROM (SELECT pg_catalog.array_agg(DISTINCT t) FROM rows r WHERE r.i <= x.i);

-- By parallel workers, whose states are combined.
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
SET parallel_leader_participation = off;
EXPLAIN (costs off) SELECT count_distinct(t), first(i, k) FROM rows;
SELECT count_distinct(n) = count(DISTINCT n) AS n, set_agg(t) = pg_catalog.array_agg(DISTINCT t) AS t FROM rows;
SELECT count_distinct(k), count_distinct(t COLLATE nocase) AS t, count_distinct(p) AS p, count_distinct(f) AS f, set_agg(n) AS n, set_agg(m) AS m, first(t, k, 3), last(p, t), max_by(t, n) AS by_n,
  md5(millrace.array_agg(t, i)::text) = (SELECT md5(pg_catalog.array_agg(t ORDER BY i)::text) FROM rows) AS a,
  millrace.jsonb_object_agg('k' || i % 3, to_jsonb(i), i) AS j, md5(millrace.string_agg(t, ',', i)) = (SELECT md5(pg_catalog.string_agg(t, ',' ORDER BY i)) FROM rows) AS s
FROM rows;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;

-- Bounded.
SET millrace.state_memory = '64kB';
SELECT count_distinct(x) FROM generate_series(1, 8200) x;
SELECT count_distinct(repeat('x', i)) FROM rows;
SELECT length(millrace.string_agg(repeat('x', 1000), '')) FROM rows;
SELECT count_distinct(i % 500) AS fits, first(repeat(t, 10), i) IS NOT NULL AS first, cardinality(first(i, i, 100)) AS first100 FROM rows;
\set VERBOSITY default
SELECT set_agg(x) FROM generate_series(1, 8200) x;
\set VERBOSITY terse
RESET millrace.state_memory;

-- All of them are documented, safe in parallel, and can be combined.
SELECT p.oid::regprocedure FROM pg_proc p LEFT JOIN pg_aggregate a ON a.aggfnoid = p.oid
WHERE pronamespace = 'millrace'::regnamespace AND prokind = 'a' AND proname NOT IN ('combine', 'merge_states')
  AND (proparallel <> 's' OR aggcombinefn = 0 OR aggtranstype = 'internal'::regtype AND (aggserialfn = 0 OR aggdeserialfn = 0) OR obj_description(p.oid, 'pg_proc') IS NULL);
SELECT p.oid::regprocedure FROM pg_proc p WHERE pronamespace = 'millrace'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;

DROP SCHEMA aggregates CASCADE;
