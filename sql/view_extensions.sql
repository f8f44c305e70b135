--
-- Aggregates of other extensions in continuous views: hll and tdigest, where they are installed.
--
SELECT count(*) < 2 AS missing FROM pg_available_extensions WHERE name IN ('hll', 'tdigest') \gset
\if :missing
\q
\endif
\i sql/setup.inc
\i sql/aggregates.inc
\i sql/window.inc
CREATE EXTENSION hll SCHEMA common;
CREATE EXTENSION tdigest SCHEMA common;

-- hll: the same sketch in whichever batches the values come.
SELECT create_view('hll', $$ SELECT g, hll_cardinality(hll_add_agg(hll_hash_text(t))) AS t, hll_add_agg(hll_hash_integer(i4)) AS i4, hll_add_agg(hll_hash_bigint(i8), 10, 4) FILTER (WHERE id % 3 = 0) AS f,
  hll_cardinality(hll_union_agg(hll_add(hll_empty(), hll_hash_any(n)))) AS n FROM events GROUP BY g $$);
SELECT create_view('hll of all', $$ SELECT #hll_add_agg(hll_hash_text(t)) AS t, hll_add_agg(hll_hash_text(t)) FILTER (WHERE id < 0) AS none FROM events $$);
SELECT create_view('hll parts', $$ SELECT g, id % 5 AS part, hll_add_agg(hll_hash_text(t)) AS t, hll_cardinality(hll_add_agg(hll_hash_integer(i4))) AS i4 FROM events GROUP BY 1, 2 $$);
SELECT create_window('hll window', $$ SELECT g, hll_cardinality(hll_add_agg(hll_hash_text(t))) AS t FROM events /*where*/ GROUP BY g $$, :'in');

-- tdigest: an estimate that depends on the order, so what is checked is how many values really lie below it.
SET search_path = live, common, tools;
SELECT millrace.create_continuous_view('live.digest', $$ SELECT g, id % 5 AS part, tdigest_percentile(f8, 100, 0.9) AS p90, tdigest(f8, 100) AS d, tdigest_percentile(f8, 100, ARRAY[0.25, 0.5]) FILTER (WHERE id % 2 = 0) AS list
  FROM live.events GROUP BY 1, 2 $$);
SELECT millrace.create_continuous_view('live.recent', $$ SELECT g, tdigest_percentile(f8, 100, 0.9) AS p90 FROM live.events GROUP BY g $$, sliding_window => '1 hour', time_column => 'event_time');
SET search_path = tools, common;

SELECT feed('events', rows(1, 250));
SELECT feed('events', rows(251, 420));
SELECT feed('events', rows(421, 600));
SELECT check_views();
SELECT millrace.wait_for_latest('live.digest', timeout => tools.patience()), millrace.wait_for_latest('live.recent', timeout => tools.patience());
SELECT compare('hll combined', 'SELECT g, millrace.combine(t) AS t, millrace.combine(i4) AS i4 FROM live."hll parts" GROUP BY g',
  'SELECT g, hll_add_agg(hll_hash_text(t)) AS t, hll_cardinality(hll_add_agg(hll_hash_integer(i4))) AS i4 FROM plain.events GROUP BY g');
SELECT compare('hll combined of all', 'SELECT millrace.combine(t) AS t, millrace.combine(i4) AS i4 FROM live."hll parts"',
  'SELECT hll_add_agg(hll_hash_text(t)) AS t, hll_cardinality(hll_add_agg(hll_hash_integer(i4))) AS i4 FROM plain.events');
-- of the values, those below the estimate are 90%, give or take one value and 2%
CREATE FUNCTION tools.fits(estimate float8, below bigint, notabove bigint, n bigint, fraction float8) RETURNS boolean LANGUAGE sql
  AS $$ SELECT CASE WHEN n = 0 THEN estimate IS NULL ELSE below <= n * (fraction + 0.02) + 1 AND notabove >= n * (fraction - 0.02) - 1 END $$;
SELECT bool_and(fits(p90, below, notabove, n, 0.9)) AS parts, count(*) FROM live.digest d, LATERAL
  (SELECT count(*) FILTER (WHERE f8 < p90) AS below, count(*) FILTER (WHERE f8 <= p90) AS notabove, count(f8) AS n FROM plain.events e WHERE e.g IS NOT DISTINCT FROM d.g AND e.id % 5 = part) r;
SELECT bool_and(fits(p90, below, notabove, n, 0.9)) AS combined, bool_and(tdigest_count(d) IS NOT DISTINCT FROM nullif(n, 0)) AS counts, count(*)
FROM (SELECT g, millrace.combine(p90) AS p90, millrace.combine(d) AS d FROM live.digest GROUP BY g) d, LATERAL
  (SELECT count(*) FILTER (WHERE f8 < p90) AS below, count(*) FILTER (WHERE f8 <= p90) AS notabove, count(f8) AS n FROM plain.events e WHERE e.g IS NOT DISTINCT FROM d.g) r;
SELECT bool_and(fits(p90, below, notabove, n, 0.9)) AS "window", count(*) FROM live.recent d, LATERAL
  (SELECT count(*) FILTER (WHERE f8 < p90) AS below, count(*) FILTER (WHERE f8 <= p90) AS notabove, count(f8) AS n FROM plain.events e
   WHERE e.g IS NOT DISTINCT FROM d.g AND event_time > now() - interval '1 hour' AND event_time <= now()) r;

-- A sketch of ours beside one of theirs.
SELECT abs(hll_cardinality(h) - millrace.hll_cardinality(m)) < 0.05 * n AS alike FROM
  (SELECT hll_add_agg(hll_hash_text(t)) AS h, millrace.hll_agg(t) AS m, count(DISTINCT t) AS n FROM plain.events) x;

DROP VIEW live.digest, live.recent;
\i sql/teardown.inc
