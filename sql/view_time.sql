--
-- Windows in plain SQL: date_bin, date_trunc with time zones, hop().
--
\i sql/setup.inc

-- hop() by itself.
SELECT array_agg(w) FROM millrace.hop('2024-03-31 01:17+00'::timestamptz, '10 minutes', '30 minutes') w;
SELECT array_agg(w) FROM millrace.hop('2024-03-31 01:20'::timestamp, '10 minutes', '30 minutes') w;
SELECT array_agg(w) FROM millrace.hop('2024-03-31 01:17'::timestamp, '10 minutes', '25 minutes') w;
SELECT array_agg(w) FROM millrace.hop('1999-12-31 23:59:59.999999'::timestamp, '7 days', '14 days') w;
SELECT array_agg(w) FROM millrace.hop('2024-03-31 01:17'::timestamp, '1 hour', '10 minutes') w;
SELECT array_agg(w) FROM millrace.hop('2024-03-31 01:07'::timestamp, '1 hour', '10 minutes') w;
SELECT count(*) FROM millrace.hop(NULL::timestamp, '1 hour', '1 day');
SELECT count(*) FROM millrace.hop('infinity'::timestamptz, '1 hour', '1 day');
SELECT w FROM millrace.hop('290000-01-01'::timestamp, '104000000 days', '104000000 days') w LIMIT 3;
SELECT count(*) FROM millrace.hop('2024-03-31'::timestamptz, '1 hour', '1 day') a, millrace.hop('2024-03-31'::timestamptz, '1 microsecond', '1 microsecond') b;
-- All that begin in time and have not ended, and no other.
SELECT count(*) AS wrong FROM generate_series('1996-02-28'::timestamp, '2004-03-01', '123457 seconds 678901 microseconds') t,
  (VALUES ('7 minutes', '1 hour'), ('1 hour', '1 hour'), ('1 day', '7 days'), ('36 hours', '100 hours')) v (every, size),
  LATERAL (SELECT array_agg(w) AS a FROM millrace.hop(t, every::interval, size::interval) w) h,
  LATERAL (SELECT array_agg(w ORDER BY w) AS b FROM
    (SELECT date_bin(every::interval, t, '2001-01-01') - n * every::interval AS w FROM generate_series(0, 20) n) x WHERE w > t - size::interval) o
WHERE a IS DISTINCT FROM b;
\set VERBOSITY default
SELECT millrace.hop(now(), '1 month', '1 year');
SELECT millrace.hop(now(), '1 hour', '0');
SELECT millrace.hop(now(), '-1 hour', '1 hour');
SELECT millrace.hop('4713-01-01 BC'::timestamp, '1 day', '10000 days');
\set VERBOSITY terse
-- The planner knows how many rows there will be.
EXPLAIN SELECT * FROM (VALUES (now())) t (x), millrace.hop(x, '5 minutes', '1 hour');

CREATE TABLE plain.events (id int, ts timestamptz, t timestamp, x int);
SELECT create_stream('events', partitions => 2);
-- Around the two ends of summer time in Budapest, and elsewhere.
CREATE FUNCTION rows(first int, last int) RETURNS text LANGUAGE sql RETURN format($$
  SELECT id, s, s AT TIME ZONE 'UTC', id %% 7 FROM generate_series(%s, %s) id, LATERAL (SELECT CASE WHEN id %% 17 > 0 THEN
    (ARRAY['2024-03-30 20:00+00', '2024-10-26 20:00+00', '1999-12-31 12:00+00']::timestamptz[])[id %% 3 + 1] + id * interval '7 minutes 3 seconds' END AS s) x$$, first, last);
SELECT create_view('bins', $$ SELECT date_bin('15 minutes', ts, '2001-01-01 00:05+00') AS b, count(*) AS n, avg(x) AS a FROM events GROUP BY 1 $$);
SELECT create_view('days', $$ SELECT date_trunc('day', ts, 'Europe/Budapest') AS day, x, count(*) AS n FROM events GROUP BY 1, 2 $$);
SELECT create_view('local', $$ SELECT date_trunc('hour', ts AT TIME ZONE 'Europe/Budapest') AS hour, max(id) AS m FROM events GROUP BY 1 $$);
SELECT create_view('session', $$ SELECT date_trunc('day', ts) AS day, count(*) AS n, (ts AT TIME ZONE 'Asia/Kolkata')::date AS d FROM events GROUP BY 1, 3 $$);
SELECT create_view('hops', $$ SELECT w, count(*) AS n, sum(x) AS s FROM events, millrace.hop(ts, '10 minutes', '1 hour') AS w GROUP BY w $$);
SELECT create_view('hops in targets', $$ SELECT millrace.hop(t, '10 minutes', '25 minutes') AS w, x, count(*) AS n FROM events GROUP BY 1, 2 $$);
SELECT create_view('hops left', $$ SELECT w, count(*) AS n FROM events LEFT JOIN millrace.hop(ts, '1 hour', '10 minutes') AS w ON true GROUP BY w $$);
SELECT create_view('local hops', $$ SELECT w AT TIME ZONE 'Europe/Budapest' AS w, count(*) AS n FROM events, millrace.hop(ts AT TIME ZONE 'Europe/Budapest', '1 day', '2 days') w GROUP BY w $$);
SELECT feed('events', rows(1, 200));
SELECT check_views();
SELECT feed('events', rows(201, 300));
SELECT check_views();

\i sql/teardown.inc
