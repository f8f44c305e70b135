--
-- UNION ALL over streams, and over one stream more than once.
--
\i sql/setup.inc

CREATE TABLE common.weights (k int, w numeric);
INSERT INTO common.weights SELECT i, i * 1.5 FROM generate_series(0, 5) i;
CREATE TABLE plain.clicks (id int, k int, amount numeric(8, 2), note varchar(10), at date);
CREATE TABLE plain.orders (order_id bigint, k bigint, total numeric, at timestamp);
CREATE TABLE plain.silent (id int, k int);
SELECT create_stream('clicks', partitions => 2), create_stream('orders'), create_stream('silent');
CREATE FUNCTION clicks(first int, last int) RETURNS text LANGUAGE sql RETURN format($$
  SELECT id, nullif(id %% 6, 0), id * 0.25, 'c' || id %% 4, date '2024-01-01' + id %% 3 FROM generate_series(%s, %s) id$$, first, last);
CREATE FUNCTION orders(first int, last int) RETURNS text LANGUAGE sql RETURN format($$
  SELECT id + 10000000000, id %% 7, id * 1.125, timestamp '2024-01-01' + id * interval '1 hour' FROM generate_series(%s, %s) id$$, first, last);

-- One row from the start, whichever stream comes first.
SELECT create_view('one', $$ SELECT count(*), sum(k) FROM (SELECT k FROM clicks UNION ALL SELECT k FROM orders) u $$);
TABLE live.one;
SELECT feed('orders', orders(1, 50));
SELECT check_views();
SELECT feed('clicks', clicks(1, 80));
SELECT check_views();

BEGIN;
SELECT create_view('two_streams', $$ SELECT k, count(*), sum(v) FROM (SELECT k, amount AS v FROM clicks UNION ALL SELECT k, total FROM orders) u GROUP BY k $$);
SELECT create_view('branches', $$ SELECT kind, count(*), max(v), min(at) FROM
  (SELECT 'click' AS kind, amount AS v, at::timestamp FROM clicks WHERE k > 1 UNION ALL SELECT 'order', total, at FROM orders WHERE total < 40) u GROUP BY kind $$);
SELECT create_view('same_stream', $$ SELECT k, side, count(*) FROM
  (SELECT k, 'a' AS side FROM clicks WHERE id % 2 = 0 UNION ALL SELECT id % 3, 'b' FROM clicks UNION ALL SELECT NULL, note FROM clicks) u GROUP BY k, side $$);
SELECT create_view('same_rows', $$ SELECT k, count(*) FROM (SELECT k FROM clicks UNION ALL SELECT k FROM clicks) u GROUP BY k $$);
SELECT create_view('three', $$ SELECT k, count(*) FROM (SELECT k FROM clicks UNION ALL SELECT k FROM orders UNION ALL SELECT k FROM silent) u GROUP BY k HAVING count(*) > 3 $$);
SELECT create_view('nested', $$ SELECT k, count(*) FROM (SELECT k + 1 AS k FROM (SELECT k FROM clicks UNION ALL (SELECT k FROM orders UNION ALL SELECT k FROM clicks)) i WHERE k > 1) u GROUP BY k $$);
SELECT create_view('in_cte', $$ WITH u AS (SELECT k, note FROM clicks UNION ALL SELECT k, order_id::text FROM orders) SELECT note, count(*) FROM u WHERE k < 4 GROUP BY note $$);
SELECT create_view('joined', $$ SELECT w, count(*), sum(w) AS s FROM (SELECT k FROM clicks UNION ALL SELECT k FROM orders) u LEFT JOIN weights USING (k) GROUP BY w $$);
SELECT create_view('joined_inside', $$ SELECT trim_scale(w) AS w, count(*) FROM (SELECT w FROM clicks JOIN weights USING (k) UNION ALL SELECT total FROM orders) u GROUP BY w $$);
SELECT create_view('appended', $$ SELECT id, note FROM clicks WHERE k = 1 UNION ALL SELECT order_id, 'order' FROM orders $$);
SELECT create_view('appended_ordered', $$ SELECT id FROM clicks UNION ALL SELECT order_id FROM orders ORDER BY id DESC LIMIT 5 $$, true);
SELECT create_view('distinct_rows', $$ SELECT DISTINCT k FROM (SELECT k FROM clicks UNION ALL SELECT k FROM orders) u $$);
SELECT create_view('types', $$ SELECT k, at, max(amount), sum(amount) FROM (SELECT k, amount, at FROM clicks UNION ALL SELECT k, total, at FROM orders) u GROUP BY 1, 2 $$);
SELECT create_view('empty_only', $$ SELECT count(*) FROM (SELECT k FROM silent UNION ALL SELECT id FROM silent) u $$);
COMMIT;
SELECT check_views();
SELECT feed('clicks', clicks(81, 130)), feed('orders', orders(51, 90));
SELECT check_views();
SELECT feed('silent', 'SELECT i, i % 4 FROM generate_series(1, 9) i'), feed('orders', orders(91, 100));
SELECT check_views();

\i sql/teardown.inc
