--
-- Approximate aggregates: what is documented of their errors holds.
--
\set VERBOSITY terse
\pset format unaligned
\pset null NULL
SET client_min_messages = warning;
CREATE SCHEMA sketches;
SET search_path = sketches, millrace, pg_catalog;
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TYPE pair AS (a int, b text);
-- numbers of a skewed distribution, the same in each run
CREATE TABLE rows AS
  SELECT i, i % 7 AS g, CASE WHEN i % 11 > 0 THEN (i::bigint * i % 1009 * (i % 13))::int END AS k,
         CASE WHEN i % 13 > 0 THEN (CASE WHEN i % 5 = 0 THEN -1 ELSE 1 END) * exp(20 * ((i::bigint * 7919) % 10007) / 10007.0::float8 - 5) END AS f
  FROM generate_series(1, 20000) i;
ANALYZE rows;

-- HyperLogLog: over 200 sets the standard error is what it is said to be, for all sizes.
SELECT n, p, sqrt(avg(power(estimate::float8 / n - 1, 2))) < 1.2 * 1.04 / sqrt(2 ^ p) AS standard, abs(avg(estimate::float8 / n - 1)) < 0.3 * 1.04 / sqrt(2 ^ p) AS unbiased
FROM (VALUES (100, 8), (500, 8), (700, 8), (1000, 8), (5000, 8), (2000, 10), (3000, 10), (4000, 10)) c (n, p),
  LATERAL (SELECT s, approx_count_distinct(s * 100000 + x, p) AS estimate FROM generate_series(1, 200) s, generate_series(1, n) x GROUP BY s) q
GROUP BY n, p ORDER BY p, n;
SELECT n, abs(approx_count_distinct(x) / n::float8 - 1) < 3 * 0.0082 AS within FROM (VALUES (10), (1000), (20000), (50000), (100000)) c (n), generate_series(1, n) x GROUP BY n ORDER BY n;
SELECT approx_count_distinct(i % 10) AS ten, approx_count_distinct(NULL::int) AS nulls, approx_count_distinct(k) FILTER (WHERE i < 0) AS none, hll_agg(k) FILTER (WHERE i < 0) AS no_sketch,
  hll_cardinality(hll_agg(NULL::int)) AS sketch_of_nulls, approx_count_distinct(i, 18) BETWEEN 19850 AND 20150 AS p18, approx_count_distinct(i, 4) BETWEEN 9000 AND 35000 AS p4 FROM rows;
SELECT approx_count_distinct(v) AS numeric, approx_count_distinct(v::float8) AS float, approx_count_distinct(ROW(v, 'x')::pair) AS pair, approx_count_distinct(ARRAY[v]) AS array
  FROM (VALUES (1.0), (1.00), (2), (2.5), (-0.0), (0)) x (v);
SELECT approx_count_distinct(v) AS float FROM (VALUES ('-0'::float8), ('0'), ('NaN'), ('NaN'), ('Infinity')) x (v);
SELECT approx_count_distinct(v COLLATE nocase) AS nocase, approx_count_distinct(v) AS n FROM (VALUES ('a'), ('A'), ('b')) x (v);
SELECT approx_count_distinct(point(i, 1)) FROM rows;
SELECT approx_count_distinct(i, 3) FROM rows;
SELECT approx_count_distinct(i, i) FROM rows WHERE i > 10;
SELECT hll_cardinality(hll_add(hll_add(hll_add(hll_empty(), 'a'::text), 'b'::text), NULL::text)) AS two, hll_add(NULL, 1) AS n, hll_cardinality(hll_empty(5)) AS zero,
  hll_cardinality(hll_union(hll_add(hll_empty(), 1), hll_add(hll_empty(), 2))) AS both;
SELECT hll_union(hll_empty(5), hll_empty(6));
-- Parts are united to what the whole would be, to the last bit; stored, and read back.
CREATE TABLE parts AS SELECT g, hll_agg(k) AS h, hll_agg(i) AS many, dist_agg(f) AS d, cmsketch_agg(k) AS c, bloom_agg(k) AS b FROM rows GROUP BY g;
SELECT hll_union_agg(h)::text = hll_agg(k)::text AS hll, hll_union_agg(many)::text = hll_agg(i)::text AS many, dist_union_agg(d)::text = dist_agg(f)::text AS dist,
  cmsketch_merge_agg(c)::text = cmsketch_agg(k)::text AS cmsketch, bloom_union_agg(b)::text = bloom_agg(k)::text AS bloom
FROM parts p FULL JOIN rows r ON false;
SELECT bool_and(h::text::hll::text = h::text AND many::text::hll::text = many::text AND d::text::dist::text = d::text AND c::text::cmsketch::text = c::text AND b::text::bloom::text = b::text) AS io FROM parts;
COPY parts TO '/dev/null' WITH (FORMAT binary);

-- Quantiles: within 1% of percentile_disc()'s, or what was asked for.
CREATE FUNCTION quantile_errors(accuracy float8) RETURNS float8 LANGUAGE sql AS $$
  SELECT max(abs(dist_quantile(d, q) - p) / abs(p)) FROM (SELECT g, dist_agg(f, accuracy) AS d FROM rows GROUP BY g) x,
    generate_series(0, 1, 0.01::numeric) s (n), LATERAL (SELECT n::float8 AS q) qq,
    LATERAL (SELECT percentile_disc(n::float8) WITHIN GROUP (ORDER BY f) AS p FROM rows r WHERE r.g = x.g) pp $$;
SELECT quantile_errors(0.01) BETWEEN 0.005 AND 0.01 + 1e-9 AS "1%", quantile_errors(0.001) BETWEEN 0.0005 AND 0.001 + 1e-9 AS "0.1%", quantile_errors(0.2) BETWEEN 0.05 AND 0.2 + 1e-9 AS "20%";
SELECT bool_and(abs(approx - exact) <= abs(exact) * 0.01 + 1e-9) AS within, count(*) FROM (SELECT g, approx_percentile(f, 0.9) AS approx, percentile_disc(0.9) WITHIN GROUP (ORDER BY f) AS exact FROM rows GROUP BY g) x;
-- A value's share lies between its own and that of a value which is larger by a bucket.
SELECT bool_and(share >= low AND share <= high) AS within, count(*) FROM (SELECT dist_agg(f) AS d FROM rows) x, LATERAL (SELECT f AS v FROM rows WHERE i % 997 = 0 AND f IS NOT NULL) y,
  LATERAL (SELECT dist_cdf(d, v) AS share, count(*) FILTER (WHERE f <= v) / count(f)::float8 AS low, count(*) FILTER (WHERE f <= v + abs(v) * 0.0203) / count(f)::float8 AS high FROM rows) z;
SELECT dist_quantile(d, ARRAY[0, 0.1, 0.3, 0.5, 0.8, 0.9, 1, NULL]) AS q, dist_cdf(d, 0) AS zero, dist_cdf(d, '-Infinity') AS low, dist_cdf(d, 'NaN') AS high, dist_cdf(d, -1.75e308) AS below, dist_count(d) AS n
  FROM (SELECT dist_agg(v) AS d FROM (VALUES ('NaN'::float8), ('Infinity'), ('-Infinity'), (0), (-0.0), (1e-320), (1.7e308), (-1.7e308), (NULL)) x (v)) y;
SELECT approx_percentile(f, 0.5) AS n, dist_agg(f) AS d FROM rows WHERE false;
SELECT approx_percentile(NULL, 0.5) AS n, dist_count(dist_agg(NULL)) AS zero, dist_quantile(dist_agg(NULL), 0.5) AS q, dist_cdf(dist_agg(NULL), 1) AS c FROM rows;
SELECT approx_percentile(5, 0.5) AS same, approx_percentile(i, 0) AS least, approx_percentile(i, 1) AS greatest FROM rows;
SELECT round(dist_quantile(dist_add(dist_union(dist_agg(1), dist_agg(2)), 3), 1)) AS three, dist_quantile(dist_agg(4), '{{0,1},{0.5,NULL}}'::float8[]) AS shape;
-- a null value adds nothing, to whichever
SELECT dist_count(dist_add(dist_agg(1), NULL)) AS d, hll_cardinality(hll_add(hll_agg(1), NULL::int)) AS h, cmsketch_total(cmsketch_add(cmsketch_agg(1), NULL::int)) AS c, bloom_cardinality(bloom_add(bloom_agg(1), NULL::int)) AS b;
SELECT dist_add(NULL, 1) IS NULL AND hll_add(NULL, 1) IS NULL AND cmsketch_add(NULL, 1) IS NULL AND bloom_add(NULL, 1) IS NULL AS nothing;
SELECT approx_percentile(f, 2) FROM rows;
SELECT approx_percentile(f, NULL) FROM rows;
SELECT approx_percentile(f, i / 100000.0) FROM rows;
SELECT dist_agg(f, 0) FROM rows;
SELECT dist_agg(f, 0.0001) FROM rows;
SELECT dist_union(dist_agg(f), dist_agg(f, 0.1)) FROM rows;
SELECT dist_quantile(dist_agg(f), 1.5) FROM rows;
SELECT dist_quantile(dist_agg(f), '{1.5}'::float8[]) FROM rows;

-- Count-min: never too low; too high by more than epsilon times all for few only.
SELECT bool_and(estimate >= n) AS never_low, (count(*) FILTER (WHERE estimate > n + 0.002 * total))::float8 / count(*) <= 0.005 AS rarely_high, bool_and(total = (SELECT count(k) FROM rows)) AS total
FROM (SELECT cmsketch_agg(k) AS c FROM rows) x, LATERAL (SELECT k, count(*) AS n, cmsketch_frequency(c, k) AS estimate, cmsketch_total(c) AS total FROM rows WHERE k IS NOT NULL GROUP BY k) y;
SELECT bool_and(estimate >= n) AS never_low, (count(*) FILTER (WHERE estimate > n + 0.05 * total))::float8 / count(*) <= 0.2 AS rarely_high
FROM (SELECT cmsketch_agg(k, 0.05, 0.8) AS c FROM rows) x, LATERAL (SELECT k, count(*) AS n, cmsketch_frequency(c, k) AS estimate, cmsketch_total(c) AS total FROM rows WHERE k IS NOT NULL GROUP BY k) y;
SELECT cmsketch_frequency(c, 'a'::text) AS a, cmsketch_frequency(c, 'x'::text) AS x, cmsketch_frequency(c, NULL::text) AS n, cmsketch_norm_frequency(c, 'a'::text) AS part, cmsketch_total(cmsketch_merge(c, cmsketch_add(c, 'a'::text))) AS merged
  FROM (SELECT cmsketch_agg(v) AS c FROM (VALUES ('a'), ('a'), ('b'), (NULL), ('c')) x (v)) y;
SELECT cmsketch_agg(k) AS c FROM rows WHERE false;
SELECT cmsketch_agg(k, 0.0000001, 0.9) FROM rows;
SELECT cmsketch_agg(k, 0, 0.9) FROM rows;
SELECT cmsketch_agg(k, 0.1 / i, 0.9) FROM rows;
SELECT cmsketch_merge(cmsketch_agg(k, 0.1, 0.9), cmsketch_agg(k)) FROM rows;

-- Bloom: whatever came is there; of 20,000 values that did not, no more than p.
SELECT p, (SELECT count(*) FROM generate_series(1, n) i WHERE NOT bloom_contains(b, i)) AS missing,
  (SELECT count(*) FROM generate_series(n + 1, n + 20000) i WHERE bloom_contains(b, i)) / 20000.0 < 1.15 * p AS rarely_false, abs(bloom_cardinality(b) / n::float8 - 1) < 0.02 AS cardinality
FROM (VALUES (0.02, 16384), (0.1, 1000), (0.001, 5000)) c (p, n), LATERAL (SELECT bloom_agg(x, p, n) AS b FROM generate_series(1, n) x) y;
SELECT bloom_contains(b, 'a'::text) AS a, bloom_contains(b, 'x'::text) AS x, bloom_contains(b, NULL::text) AS n, bloom_cardinality(b) AS two, bloom_contains(bloom_add(b, 'x'::text), 'x'::text) AS added,
  bloom_cardinality(bloom_union(b, bloom_add(b, 'y'::text))) AS three, bloom_cardinality(bloom_intersection(b, bloom_add(b, 'y'::text))) AS common
  FROM (SELECT bloom_agg(v) AS b FROM (VALUES ('a'), ('a'), ('b'), (NULL)) x (v)) y;
SELECT bloom_agg(k) AS b FROM rows WHERE false;
SELECT bloom_cardinality(bloom_agg(k, 0.5, 1)) AS "full" FROM rows;
SELECT bloom_agg(k, 0, 10) FROM rows;
SELECT bloom_agg(k, 0.5, 0) FROM rows;
SELECT bloom_agg(k, 0.0000001, 100000000) FROM rows;
SELECT bloom_agg(k, 0.1, i) FROM rows;
SELECT bloom_union(bloom_agg(k), bloom_agg(k, 0.1, 100)) FROM rows;

-- Top: counts are at least, and with the error at most; whatever came more often than n / (m + 1) times is there.
CREATE VIEW top AS SELECT x.*, r.n, all_rows FROM (SELECT topk(k, 30) AS t, count(k) AS all_rows FROM rows) y, LATERAL jsonb_to_recordset(t) x (value int, count bigint, error bigint)
  LEFT JOIN LATERAL (SELECT count(*) AS n FROM rows WHERE k = value) r ON true;
SELECT count(*), bool_and(n BETWEEN count AND count + error) AS within, bool_and(error <= all_rows / 301) AS bounded, max(error) > 0 AS approximate FROM top;
SELECT count(*) AS missing FROM (SELECT topk(k, 100) AS t, count(k) AS n FROM rows) y, LATERAL (SELECT k FROM rows WHERE k IS NOT NULL GROUP BY k HAVING count(*) > n / 1001) f WHERE NOT t @> jsonb_build_array(jsonb_build_object('value', k)) AND (SELECT count(*) FROM (SELECT FROM rows WHERE rows.k IS NOT NULL GROUP BY rows.k HAVING count(*) > n / 1001) z) <= 100;
SELECT topk(i % 3, 2) AS t, topk('v' || i % 2, 5) AS v, topk(NULL::int, 3) AS nulls, topk(ROW(i % 2, 'x')::pair, 1) AS pair FROM rows;
SELECT topk(i, 3) AS none FROM rows WHERE false;
SELECT topk(v, 3) AS t FROM (VALUES (1.0), (1.00), (2), (NULL), (2.5), (2.50)) x (v);
SELECT topk(v COLLATE nocase, 3) AS t FROM (VALUES ('a'), ('A'), ('b')) x (v);
SELECT topk(i, 0) FROM rows;
SELECT topk(i, i) FROM rows;
SELECT topk(point(i, 1), 1) FROM rows;
SELECT count(*) AS wrong FROM (SELECT i, topk(k, 3) OVER (ORDER BY i ROWS 5 PRECEDING) AS t, approx_count_distinct(k) OVER (ORDER BY i ROWS 5 PRECEDING) AS h FROM rows WHERE i < 300) x
  WHERE abs(h - (SELECT count(DISTINCT k) FROM rows r WHERE r.i BETWEEN x.i - 5 AND x.i)) > 1
    OR t IS DISTINCT FROM (SELECT coalesce(jsonb_agg(jsonb_build_object('value', k, 'count', n, 'error', 0) ORDER BY n DESC, k), '[]')
      FROM (SELECT k, count(*) AS n FROM rows r WHERE r.i BETWEEN x.i - 5 AND x.i AND k IS NOT NULL GROUP BY k ORDER BY n DESC, k LIMIT 3) y);

-- By parallel workers.
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET parallel_leader_participation = off;
EXPLAIN (costs off) SELECT approx_count_distinct(k), dist_agg(f), cmsketch_agg(k), bloom_agg(k), topk(k, 3) FROM rows;
SELECT hll_agg(k)::text = (SELECT hll_union_agg(h)::text FROM parts) AS hll, dist_agg(f)::text = (SELECT dist_union_agg(d)::text FROM parts) AS dist,
  cmsketch_agg(k)::text = (SELECT cmsketch_merge_agg(c)::text FROM parts) AS cmsketch, bloom_agg(k)::text = (SELECT bloom_union_agg(b)::text FROM parts) AS bloom,
  topk(i % 5, 2) AS topk FROM rows;
SELECT count(*), bool_and(n BETWEEN count AND count + error) AS within, bool_and(error <= all_rows / 301) AS bounded FROM top;
RESET ALL;
SET search_path = sketches, millrace, pg_catalog;

-- Bytes that somebody made up: an error, or a wrong number, and never more than that.
SELECT '\x48'::hll;
SELECT 'xyz'::hll;
SELECT '\x480102'::hll;
SELECT '\x44010e01'::hll;
SELECT '\x48020e01'::hll;
SELECT '\x48010e01ff'::hll;
SELECT '\x48010e02ffffffffffffffffffffff'::hll;
SELECT '\x48010e0200ff'::hll;
SELECT '\x4401'::dist;
SELECT '\x4301ffffffff7f0100'::cmsketch;
SELECT '\x42010101ff7f'::bloom;
-- a few bytes may speak of 2^31 bits: they take no more than they are, in input, output and what only looks
SET statement_timeout = '60s';
SELECT count(*) FROM generate_series(1, 20000) i, LATERAL (SELECT ('\x4201808080800801020' || i % 8)::bloom AS b) f
  WHERE bloom_cardinality(b) = 1 AND NOT bloom_contains(b, i) AND b::text::bloom::text = b::text;
-- or in what changes them
SELECT count(*) FROM generate_series(1, 20000) i, LATERAL (SELECT ('\x4201808080800801020' || i % 8)::bloom AS b) f
  WHERE bloom_contains(bloom_add(b, i), i) AND bloom_cardinality(bloom_union(b, bloom_add(b, i))) = 2 AND bloom_intersection(bloom_add(b, i), b)::text = b::text;
SELECT count(b) FROM (SELECT bloom_union_agg(('\x4201808080800801020' || i % 8)::bloom) AS b FROM generate_series(1, 20000) i GROUP BY i) f;
RESET statement_timeout;
-- few bits are listed, many are not: in any pair
SELECT count(*) AS pairs, bool_and(bloom_contains(bloom_union(a, b), x + y)) AS added, bool_and(bloom_union(a, b)::text = bloom_union(b, a)::text) AS both,
  bool_and(bloom_union(a, b)::text = (SELECT bloom_agg(v, 0.01, 200)::text FROM generate_series(1, x + y) v)) AS union,
  bool_and(bloom_intersection(a, b)::text = bloom_intersection(b, a)::text AND bloom_intersection(a, bloom_union(a, b))::text = a::text AND bloom_intersection(bloom_union(a, b), b)::text = b::text) AS common
FROM generate_series(0, 280, 20) x, generate_series(0, 280, 70) y,
  LATERAL (SELECT bloom_agg(v, 0.01, 200) AS a FROM generate_series(1, x) v) l, LATERAL (SELECT bloom_agg(v, 0.01, 200) AS b FROM generate_series(x / 2 + 1, x + y) v) r
WHERE x + y > 0 AND x > 0;
SELECT '\x4201808080800801030000'::bloom;
SELECT '\x42018080808008010100'::bloom;
CREATE FUNCTION batter(sketch bytea, type text, expression text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  b bytea;
  state bigint := 1;
BEGIN
  FOR n IN 1 .. 400 LOOP
    b := sketch;
    FOR j IN 0 .. n % 3 LOOP
      state := state * 48271 % 2147483647;
      b := set_byte(b, (state % length(b))::int, ((state / 1000) % 256)::int);
    END LOOP;
    IF n % 4 = 0 THEN b := substr(b, 1, (state % length(b))::int); END IF;
    BEGIN
      EXECUTE format('SELECT %s FROM (SELECT %L::millrace.%I AS s) x', expression, b, type);
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
  RETURN true;
END $$;
SELECT batter(hll_send(hll_agg(i % 30)), 'hll', 'hll_cardinality(hll_union(s, s))'), batter(hll_send(hll_agg(i, 7)), 'hll', 'hll_cardinality(hll_add(s, 1))'),
  batter(dist_send(dist_agg(f, 0.2)), 'dist', 'dist_quantile(dist_union(s, dist_add(s, 1)), 0.5) + dist_cdf(s, 5)'), batter(cmsketch_send(cmsketch_agg(i % 10, 0.1, 0.9)), 'cmsketch', 'cmsketch_frequency(cmsketch_merge(s, s), 5)'),
  batter(bloom_send(bloom_agg(i % 5)), 'bloom', 'bloom_contains(bloom_union(s, s), 5), bloom_cardinality(s)'), batter(bloom_send(bloom_agg(i, 0.1, 20)), 'bloom', 'bloom_contains(bloom_intersection(s, s), 5)') FROM rows;

DROP SCHEMA sketches CASCADE;
