--
-- Every clause of SELECT around the aggregation, and views without one.
--
\i sql/setup.inc

SELECT count(*) > 0 AS icu FROM pg_collation WHERE collprovider = 'i' \gset
\if :icu
CREATE COLLATION common.nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
\else
CREATE COLLATION common.nocase FROM "C";
\endif
CREATE TYPE common.mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN common.percent AS numeric(5, 1) CHECK (VALUE BETWEEN 0 AND 100);
CREATE TYPE common.point3 AS (x int, y numeric, label text);
CREATE TABLE common.names (g int, name text);
INSERT INTO common.names SELECT g, 'name ' || g FROM generate_series(0, 8, 2) g;
CREATE TABLE plain.events (
  id int, g int, x bigint, n numeric, f float8, b boolean, d date, ts timestamp, tstz timestamptz, tm time, u uuid,
  e mood, p percent, a int[], pt point3, t text, tn text COLLATE nocase, tc text COLLATE "C", c char(5), iv interval,
  r int4range, j jsonb, y bytea, bits bit(4), ip inet, m money);
SELECT create_stream('events', partitions => 3);
CREATE FUNCTION rows(first int, last int) RETURNS text LANGUAGE sql RETURN format($$
  SELECT id, nullif(id %% 9, 0), (id * 7919) %% 1009 - 400, ((id %% 7)::text || repeat('0', id %% 3))::numeric / 2, (id %% 6) * 0.5,
    CASE id %% 3 WHEN 1 THEN true WHEN 2 THEN false END, date '2023-12-30' + id %% 5, timestamp '2023-12-31 22:00' + id * interval '31 minutes',
    timestamptz '2024-03-30 22:00+00' + id * interval '31 minutes', time '00:00' + (id %% 5) * interval '1 hour', md5((id %% 5)::text)::uuid,
    (enum_range(NULL::mood))[id %% 4], nullif(id %% 4, 0) * 11.1, CASE WHEN id %% 4 > 0 THEN ARRAY[id %% 3, NULL, id %% 2] END,
    CASE WHEN id %% 5 > 0 THEN (nullif(id %% 3, 0), 1.5 * (id %% 2), 'l,"' || id %% 2)::point3 END,
    (ARRAY['a', 'B', 'b', '', 'ü', 'a b', NULL, '"', '\'])[id %% 9 + 1], (ARRAY['x', 'X', 'yy', 'YY', 'yY', NULL])[id %% 6 + 1],
    (ARRAY['a', 'A', 'ä', NULL])[id %% 4 + 1], (ARRAY['a', 'a ', 'b', NULL])[id %% 4 + 1],
    (ARRAY['1 day', '1 month 3 days', '-2 hours', NULL]::interval[])[id %% 4 + 1],
    int4range(id %% 3, 5), jsonb_build_object('k', id %% 3, 'l', ARRAY[id %% 2]), decode(lpad((id %% 4)::text, 2, '0'), 'hex'),
    (id %% 5)::bit(4), inet '10.0.0.0/8' + id %% 3, (id %% 4)::money
  FROM generate_series(%s, %s) id$$, first, last);

-- One row from the start, in the creating transaction already.
BEGIN;
SELECT create_view('one', $$ SELECT count(*) AS n, sum(x) AS s, max(t) AS t, count(*) FILTER (WHERE b) > 0 AS some FROM events $$);
SELECT create_view('one_having', $$ SELECT count(*) AS n, sum(x) AS s FROM events HAVING count(*) > 0 $$);
SELECT create_view('one_never', $$ SELECT count(*) FROM events HAVING false $$);
SELECT create_view('one_limit', $$ SELECT count(*) FROM events LIMIT 0 $$);
SELECT create_view('one_distinct', $$ SELECT DISTINCT sum(x) FROM events $$);
SELECT create_view('one_where_false', $$ SELECT count(*), min(d) FROM events WHERE false $$);
SELECT * FROM live.one;
SELECT * FROM live.one_having;
COMMIT;
SELECT * FROM live.one;
SELECT check_views();
SELECT feed('events', rows(1, 40));
SELECT check_views();

BEGIN;
SELECT create_view('having', $$ SELECT g, count(*) FROM events GROUP BY g HAVING count(*) > 11 $$);
SELECT create_view('having_other', $$ SELECT g FROM events GROUP BY g HAVING sum(x) > 2000 AND g IS NOT NULL OR max(d) IS NULL $$);
SELECT create_view('having_key', $$ SELECT g + 1 AS g1, max(x) FROM events GROUP BY g HAVING g IN (1, 3, 5) OR g IS NULL $$);
SELECT create_view('having_subquery', $$ SELECT g, count(*) FROM events GROUP BY g HAVING count(*) > (SELECT count(*) FROM names) AND g IN (SELECT g FROM names) $$);
SELECT create_view('ordered', $$ SELECT g, count(*), sum(x) FROM events GROUP BY g ORDER BY sum(x) DESC, g NULLS FIRST $$, true);
SELECT create_view('ordered_hidden', $$ SELECT g FROM events GROUP BY g ORDER BY max(x) - min(x), g $$, true);
SELECT create_view('ordered_ordinal', $$ SELECT g, count(*) AS n FROM events GROUP BY 1 ORDER BY 2 DESC, 1 $$, true);
SELECT create_view('limited', $$ SELECT g, sum(x) AS s FROM events GROUP BY g ORDER BY s DESC NULLS LAST, g LIMIT 3 OFFSET 1 $$, true);
SELECT create_view('limited_expression', $$ SELECT g, sum(x) AS s FROM events GROUP BY g ORDER BY s, g LIMIT (SELECT count(*) FROM names) OFFSET 1 + 1 $$, true);
SELECT create_view('with_ties', $$ SELECT g, count(*) / 4 AS n FROM events GROUP BY g ORDER BY n DESC FETCH FIRST 2 ROWS WITH TIES $$);
SELECT create_view('distinct', $$ SELECT DISTINCT count(*) / 3 AS n, max(b::int) FROM events GROUP BY g, d $$);
SELECT create_view('distinct_on', $$ SELECT DISTINCT ON (b) b, d, sum(x) AS s FROM events GROUP BY b, d ORDER BY b, s DESC, d $$, true);
SELECT create_view('ranked', $$ SELECT g, sum(x), rank() OVER (ORDER BY sum(x) DESC, g), sum(sum(x)) OVER (ORDER BY g ROWS UNBOUNDED PRECEDING) AS running,
  count(*) * 100.0 / sum(count(*)) OVER () AS share FROM events GROUP BY g $$);
SELECT create_view('windows', $$ SELECT b, d, count(*), lag(sum(x), 1, -1) OVER w AS before, first_value(d) OVER w, ntile(2) OVER w,
  max(count(*)) FILTER (WHERE b) OVER (PARTITION BY d) FROM events GROUP BY b, d WINDOW w AS (PARTITION BY b ORDER BY d) $$);
SELECT create_view('window_above', $$ SELECT * FROM (SELECT g, x, row_number() OVER (PARTITION BY g ORDER BY x, n) AS r
  FROM (SELECT g, max(x) AS x, n FROM events GROUP BY g, n) s) w WHERE r <= 2 $$);
SELECT create_view('cte', $$ WITH e AS (SELECT g, x * 2 AS x2, b FROM events WHERE x > 0) SELECT g, sum(x2), count(*) FROM e WHERE b GROUP BY g $$);
SELECT create_view('cte_chain', $$ WITH a AS (SELECT id, g, x FROM events), b AS (SELECT g % 2 AS odd, x FROM a WHERE id % 2 = 0) SELECT odd, sum(x) FROM b GROUP BY odd $$);
SELECT create_view('below', $$ SELECT k, count(*), max(s.x) FROM (SELECT coalesce(g, -1) AS k, x FROM events e WHERE b IS NOT FALSE) s WHERE k <> 4 GROUP BY k $$);
SELECT create_view('below_twice', $$ SELECT k, count(*) FROM (SELECT k + 1 AS k FROM (SELECT g * 2 AS k FROM events) i WHERE k > 4) o GROUP BY k $$);
SELECT create_view('above', $$ SELECT k, s / c AS mean FROM (SELECT g AS k, sum(x) AS s, count(*) AS c FROM events GROUP BY g) a WHERE c > 10 $$);
SELECT create_view('above_cte', $$ WITH a AS (SELECT g, sum(x) AS s FROM events GROUP BY g) SELECT g, s FROM a WHERE s > 0 ORDER BY s, g $$, true);
SELECT create_view('subquery_in_list', $$ SELECT g, (SELECT max(name) FROM names) AS top, (SELECT name FROM names n WHERE n.g = events.g) AS name, sum(x) FROM events GROUP BY g $$);
SELECT create_view('subquery_below', $$ SELECT (SELECT name FROM names n WHERE n.g = e.g) AS name, sum(x + (SELECT count(*) FROM names)) FROM events e GROUP BY 1 $$);
SELECT create_view('sets_above', $$ SELECT g, generate_series(1, count(*)::int % 3) AS i, count(*) FROM events GROUP BY g $$);
COMMIT;
BEGIN;
SELECT create_view('by_expression', $$ SELECT date_trunc('hour', ts) AS hour, x % 3 AS m, count(*) FROM events GROUP BY date_trunc('hour', ts), x % 3 $$);
SELECT create_view('by_alias', $$ SELECT date_trunc('day', tstz) AS day, extract(hour FROM ts) AS h, sum(n) FROM events GROUP BY day, h $$);
SELECT create_view('by_ordinal', $$ SELECT upper(t), coalesce(g, 0) / 2, count(*) FROM events GROUP BY 2, 1 $$);
SELECT create_view('by_case', $$ SELECT CASE WHEN x < 0 THEN 'neg' WHEN x < 300 THEN 'low' ELSE 'high' END AS class, CASE g WHEN 1 THEN b END AS one, avg(x) FROM events GROUP BY class, one $$);
SELECT create_view('by_hidden', $$ SELECT count(*), min(id) FROM events GROUP BY g, b $$);
SELECT create_view('by_same', $$ SELECT g AS a, g AS b, g + 1 AS c, sum(x), sum(x) AS again FROM events GROUP BY g, g $$);
SELECT create_view('by_constant', $$ SELECT 'all' AS k, count(*) FROM events GROUP BY k $$);
SELECT create_view('by_constant_none', $$ SELECT 'all' AS k, count(*) FROM events WHERE id < 0 GROUP BY k $$);
SELECT create_view('by_part_of_expression', $$ SELECT (g * 2)::text || '!' AS shown, g * 2 + count(*) AS n FROM events GROUP BY g * 2 $$);
SELECT create_view('by_row', $$ SELECT (pt).x, (pt).label AS l, count(*), a[1] AS a1, j ->> 'k' AS k FROM events GROUP BY (pt).x, (pt).label, a[1], j ->> 'k' $$);
SELECT create_view('by_many', $$ SELECT g, b, d, t, tc, e, count(*), sum(x) FROM events GROUP BY g, b, d, t, tc, e $$);
SELECT create_view('by_boolean', $$ SELECT b, count(*) FROM events GROUP BY b $$);
SELECT create_view('by_date', $$ SELECT d, count(*) FROM events GROUP BY d $$);
SELECT create_view('by_time', $$ SELECT tm, tstz, ts, count(*) FROM events GROUP BY tm, tstz, ts $$);
SELECT create_view('by_uuid', $$ SELECT u, count(*) FROM events GROUP BY u $$);
SELECT create_view('by_numeric', $$ SELECT trim_scale(n) AS n, count(*) FROM events GROUP BY n $$);
SELECT create_view('by_float', $$ SELECT f, -f AS minus, count(*) FROM events WHERE f <> 0 GROUP BY f, -f $$);
SELECT create_view('by_enum', $$ SELECT e, count(*) FROM events GROUP BY e $$);
SELECT create_view('by_domain', $$ SELECT p, count(*), max(p) FROM events GROUP BY p $$);
SELECT create_view('by_array', $$ SELECT a, count(*) FROM events GROUP BY a $$);
SELECT create_view('by_composite', $$ SELECT pt, count(*) FROM events GROUP BY pt $$);
SELECT create_view('by_text', $$ SELECT t, count(*) FROM events GROUP BY t $$);
SELECT create_view('by_nocase', $$ SELECT upper(tn COLLATE "C") AS tn, count(*), max(upper(tn)) AS m FROM events GROUP BY tn $$);
SELECT create_view('by_nocase_column', $$ SELECT tn, tn AS again FROM events GROUP BY tn HAVING tn = 'Yy' AND count(*) < 0 $$);
SELECT create_view('by_c', $$ SELECT tc, t COLLATE "C" AS t, count(*), min(tc) FROM events GROUP BY tc, t COLLATE "C" $$);
SELECT create_view('by_char', $$ SELECT c, length(c) AS l, count(*) FROM events GROUP BY c $$);
SELECT create_view('by_interval', $$ SELECT iv, count(*) FROM events GROUP BY iv $$);
SELECT create_view('by_others', $$ SELECT r, j, y, bits, ip, m, count(*) FROM events GROUP BY r, j, y, bits, ip, m $$);
SELECT create_view('by_cast', $$ SELECT t::varchar(1) AS v, d::timestamp(0) AS s, n::numeric(6, 1) AS n1, count(*) FROM events GROUP BY 1, 2, 3 $$);
COMMIT;
BEGIN;
SELECT create_view('append', $$ SELECT id, x * 2 AS x2, t, pt, j FROM events WHERE b $$);
SELECT create_view('append_all', $$ SELECT * FROM events $$);
SELECT create_view('append_duplicates', $$ SELECT 'same' AS s, g FROM events $$);
SELECT create_view('append_ordered', $$ SELECT id, x FROM events WHERE g = 2 ORDER BY x DESC, id LIMIT 5 OFFSET 2 $$, true);
SELECT create_view('append_window', $$ SELECT id, g, row_number() OVER (PARTITION BY g ORDER BY id), sum(x) OVER (ORDER BY id) AS total FROM events $$);
SELECT create_view('append_sets', $$ SELECT id, unnest(a) AS e, generate_series(1, id % 3) AS i FROM events $$);
SELECT create_view('append_subquery', $$ SELECT s.k, t FROM (SELECT id + 1 AS k, t FROM events WHERE x > 0) s WHERE k % 2 = 0 $$);
SELECT create_view('append_nothing', $$ SELECT id FROM events WHERE false $$);
SELECT create_view('append_constant', $$ SELECT 1 AS one, NULL AS nothing, 'x' AS unknown FROM events $$);
SELECT create_view('select_distinct', $$ SELECT DISTINCT g, b FROM events $$);
SELECT create_view('select_distinct_order', $$ SELECT DISTINCT coalesce(g, 0) * 10 AS k, t COLLATE "C" AS t FROM events ORDER BY k DESC, t LIMIT 7 $$, true);
SELECT create_view('select_distinct_on', $$ SELECT DISTINCT ON (g) g, id, x FROM events ORDER BY g, x, id $$, true);
COMMIT;
SELECT check_views();
SELECT feed('events', rows(41, 200));
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
SELECT feed('events', rows(201, 230)), feed('events', rows(100, 120));
SELECT check_views();

\i sql/teardown.inc
