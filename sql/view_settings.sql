--
-- The settings that a view was created under hold where its rows are made,
-- whoever reads it and whatever the worker would think.
--
\i sql/setup.inc

CREATE TABLE plain.events (id int, tstz timestamptz, ts timestamp, d date, iv interval, f float8, y bytea, t text, m numeric);
SELECT create_stream('events');
CREATE FUNCTION rows(first int, last int) RETURNS text LANGUAGE sql RETURN format($$
  SELECT id, timestamptz '2024-03-29 00:00+00' + id * interval '37 minutes', timestamp '2024-10-25' + id * interval '41 minutes', date '2024-02-27' + id %% 5,
    make_interval(months => id %% 3, days => id %% 4, secs => id %% 5 * 0.5), id / 7.0, decode(lpad((id %% 3)::text, 2, '0'), 'hex'),
    lpad((id %% 12 + 1)::text, 2, '0') || '/' || lpad((id %% 11 + 2)::text, 2, '0') || '/2024', id * 1.5 FROM generate_series(%s, %s) id$$, first, last);
SELECT feed('events', rows(1, 60));

SELECT set_config('mr.query', $$
  SELECT date_trunc('day', tstz) AS day, extract(hour FROM tstz)::int / 6 AS quarter, tstz::date AS date, to_char(tstz, 'TZ') AS tz, tstz::text AS shown,
         ts::timestamptz AS local, count(*), max(ts::timestamptz) AS last
  FROM events GROUP BY 1, 2, 3, 4, 5, 6 $$, false) IS NOT NULL;
SELECT set_config('mr.styles', $$
  SELECT d::text AS d, iv::text AS iv, tstz::text AS tstz, round(f::numeric, 3) AS f, y::text AS y, t::date AS parsed, to_json(d)::text AS j, count(*), max(iv::text) AS longest
  FROM events GROUP BY 1, 2, 3, 4, 5, 6, 7 $$, false) IS NOT NULL;

-- Several time zones on one stream.
SET timezone = 'Europe/Budapest';
SELECT create_view('budapest', current_setting('mr.query'));
SET timezone = 'Asia/Kolkata';
SELECT create_view('kolkata', current_setting('mr.query'));
SET timezone = '-03:30';
SELECT create_view('numeric_zone', current_setting('mr.query'));
SET timezone = '<+05>-5';
SELECT create_view('posix_zone', current_setting('mr.query'));
SET timezone = 'UTC';
BEGIN;
SET LOCAL timezone = 'America/Sao_Paulo';
SELECT create_view('sao_paulo', current_setting('mr.query'));
COMMIT;
SET datestyle = 'German, DMY';
SET intervalstyle = 'iso_8601';
SET bytea_output = 'escape';
SELECT create_view('german', current_setting('mr.styles'));
SET datestyle = 'SQL, MDY';
SET intervalstyle = 'sql_standard';
SET bytea_output = 'hex';
SELECT create_view('sql_styles', current_setting('mr.styles'));
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres_verbose';
SET extra_float_digits = 0;
SELECT create_view('floats', $$ SELECT f::text AS f, f::float4::text AS f4, count(*) FROM events GROUP BY 1, 2 $$);
RESET extra_float_digits;
SET datestyle = 'ISO, MDY';
SET intervalstyle = 'postgres';
SET timezone = 'America/Los_Angeles';

-- The oracle's rows are made under the same settings, those of the continuous
-- views were; then both are read under others.
CREATE FUNCTION same_under(name text, VARIADIC settings text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
  IF millrace.wait_for_latest(format('live.%I', name)::regclass, tools.patience()) IS NOT TRUE THEN
    RETURN NEXT 'not there in time';
  END IF;
  FOR i IN 1 .. array_length(settings, 1) BY 2 LOOP
    PERFORM set_config(settings[i], settings[i + 1], true);
  END LOOP;
  EXECUTE format('CREATE TABLE tools.oracle AS TABLE plain.%I', name);
  FOR i IN 1 .. array_length(settings, 1) BY 2 LOOP
    PERFORM set_config(settings[i], CASE settings[i] WHEN 'timezone' THEN 'America/Los_Angeles' WHEN 'datestyle' THEN 'ISO, MDY'
      WHEN 'intervalstyle' THEN 'postgres' WHEN 'bytea_output' THEN 'hex' ELSE '1' END, true);
  END LOOP;
  RETURN QUERY SELECT format('%s: %s', name, d) FROM differences(format('live.%I', name), 'tools.oracle') d;
  IF NOT FOUND THEN
    RETURN QUERY SELECT format('%s: equal, %s rows', name, count(*)) FROM tools.oracle;
  END IF;
  DROP TABLE tools.oracle;
END $$;
CREATE FUNCTION all_same() RETURNS SETOF text LANGUAGE sql AS $$
  SELECT same_under('budapest', 'timezone', 'Europe/Budapest') UNION ALL
  SELECT same_under('kolkata', 'timezone', 'Asia/Kolkata') UNION ALL
  SELECT same_under('numeric_zone', 'timezone', '-03:30') UNION ALL
  SELECT same_under('posix_zone', 'timezone', '<+05>-5') UNION ALL
  SELECT same_under('sao_paulo', 'timezone', 'America/Sao_Paulo') UNION ALL
  SELECT same_under('german', 'timezone', 'UTC', 'datestyle', 'German, DMY', 'intervalstyle', 'iso_8601', 'bytea_output', 'escape') UNION ALL
  SELECT same_under('sql_styles', 'timezone', 'UTC', 'datestyle', 'SQL, MDY', 'intervalstyle', 'sql_standard') UNION ALL
  SELECT same_under('floats', 'extra_float_digits', '0')
$$;
SELECT all_same();
SELECT feed('events', rows(61, 130));
SELECT all_same();

-- A reader's own settings change nothing in the rows, only how they look.
CREATE TABLE tools.before AS SELECT day, quarter, shown, local, count FROM live.budapest;
SET timezone = 'Asia/Tokyo';
SET datestyle = 'SQL, DMY';
SELECT count(*) FROM (SELECT day, quarter, shown, local, count FROM live.budapest EXCEPT TABLE tools.before) d;
SET timezone = 'America/Los_Angeles';
SET datestyle = 'ISO, MDY';

-- Some settings can make a query slow, empty or wrong for others; not for a view.
SET statement_timeout = '10s';
SET lock_timeout = '5s';
SET default_transaction_read_only = off;
SET enable_hashagg = off;
SET work_mem = '64kB';
SET default_transaction_isolation = 'serializable';
SELECT create_view('odd_settings', $$ SELECT d, count(*), sum(m), avg(m) FROM events GROUP BY d $$);
RESET statement_timeout;
RESET lock_timeout;
RESET enable_hashagg;
RESET work_mem;
RESET default_transaction_isolation;
SELECT check_view('odd_settings');
SELECT feed('events', rows(131, 140));
SELECT check_view('odd_settings');

\i sql/teardown.inc
