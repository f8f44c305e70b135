--
-- A row's tableoid is its stream, whoever fetches it: the executor, or ingest itself.
--
\i sql/setup.inc

CREATE TABLE plain.clicks (id int, k int);
CREATE TABLE plain.taps (id int, k int);
SELECT create_stream('clicks', partitions => 2);
SELECT create_stream('taps');
CREATE FUNCTION common.called(oid) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT relname FROM pg_class WHERE oid = $1); END $$;
CREATE TABLE common.names (k int, name text);
INSERT INTO common.names VALUES (0, 'zero'), (1, 'one');

SELECT create_view('key', $$ SELECT called(tableoid) AS src, count(*) FROM clicks GROUP BY 1 $$);
SELECT create_view('bare_key', $$ SELECT called(min(t)) AS src, sum(n) AS n FROM (SELECT tableoid AS t, count(*) AS n FROM clicks GROUP BY tableoid) i $$);
SELECT create_view('argument', $$ SELECT k, max(called(tableoid)) AS src, called(min(tableoid)) AS least, count(*) FILTER (WHERE tableoid > 0) AS n FROM clicks GROUP BY k $$);
SELECT create_view('condition', $$ SELECT k, count(*) FROM clicks WHERE called(tableoid) = 'clicks' GROUP BY k $$);
SELECT create_view('joined', $$ SELECT called(c.tableoid) AS src, called(n.tableoid) AS other, name, count(*) FROM clicks c JOIN names n USING (k) GROUP BY c.tableoid, n.tableoid, name $$);
SELECT create_view('united', $$ SELECT called(t) AS src, count(*), sum(id) FROM (SELECT tableoid AS t, id FROM clicks UNION ALL SELECT tableoid, id FROM taps) u GROUP BY 1 $$);
SELECT create_view('rows', $$ SELECT id, called(tableoid) AS src FROM clicks $$);
SELECT create_view('first', $$ SELECT DISTINCT ON (k) k, called(tableoid) AS src, id FROM clicks ORDER BY k, id $$);
SELECT create_view('totals', $$ SELECT called(tableoid) AS src, k, count(*) FROM clicks GROUP BY ROLLUP (1, 2) $$);
-- some messages cannot be taken
SELECT create_view('careful', $$ SELECT called(tableoid) AS src, count(*), sum(12 / k) FROM clicks WHERE k <> 7 OR 1 / (k - 7) > 0 GROUP BY 1 $$);
CREATE TABLE live.sink (id int, src text);
SELECT millrace.create_continuous_transform('live.sunk', 'SELECT id, common.called(tableoid) AS src FROM live.clicks', 'live.sink');

SELECT feed('clicks', 'SELECT i, i % 5 + 1 FROM generate_series(1, 20) i');
SELECT feed('taps', 'SELECT i, i % 5 FROM generate_series(1, 7) i');
SELECT check_views();
-- from here on each message of k 7 is a dead letter of one view
INSERT INTO live.clicks VALUES (21, 1), (22, 7), (23, 2), (24, 7);
INSERT INTO plain.clicks VALUES (21, 1), (23, 2);
SELECT check_view('careful');
INSERT INTO plain.clicks VALUES (22, 7), (24, 7);
DELETE FROM made WHERE name = 'careful';
SELECT check_views();
SELECT view::regclass, count(*) FROM millrace.dead_letters GROUP BY 1;
SELECT millrace.wait_for_latest('live.sunk', patience());
SELECT src, count(*), sum(id) FROM live.sink GROUP BY 1;

\i sql/teardown.inc
