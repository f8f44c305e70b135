--
-- Retention: groups that are older than it are not shown, removed, and do not come back.
--
\i sql/setup.inc

CREATE TABLE plain.events (id int, g int, ts timestamptz, t timestamp, d date, x numeric);
SELECT create_stream('events', partitions => 2);
-- Messages of several times ago, and some without a time.
CREATE TABLE tools.base AS SELECT date_trunc('minute', now()) AS base;
CREATE FUNCTION rows(first int, last int) RETURNS text LANGUAGE sql RETURN format($$
  SELECT id, id %% 3, tstz, tstz::timestamp, base::date - (ARRAY[0, 0, 1, 2, 40])[id %% 6 + 1], id * 1.5
  FROM generate_series(%s, %s) id, tools.base, LATERAL (SELECT base - CASE id %% 6 WHEN 0 THEN interval '1 second' WHEN 1 THEN '50 minutes'
    WHEN 2 THEN '20 hours' WHEN 3 THEN '26 hours' WHEN 4 THEN '40 days' END AS tstz) x$$, first, last);
-- As setup.inc's, but the ordinary view has a condition for what is kept.
CREATE FUNCTION tools.create_kept(name text, query text, condition text, retention interval, retention_column text) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  PERFORM set_config('search_path', 'plain, common', true);
  EXECUTE format('CREATE VIEW plain.%I AS SELECT * FROM (%s) q WHERE %s', name, query, condition);
  PERFORM set_config('search_path', 'live, common', true);
  PERFORM millrace.create_continuous_view(format('live.%I', name), query, retention => retention, retention_column => retention_column);
  INSERT INTO tools.made (name) VALUES (name);
  RETURN name || ': created';
END $$;
CREATE FUNCTION tools.refused(query text) RETURNS text
LANGUAGE plpgsql SET search_path = live, common, tools AS $$
DECLARE
  detail text; hint text;
BEGIN
  EXECUTE query;
  RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  RETURN concat_ws(' | ', sqlstate, sqlerrm, nullif(detail, ''), nullif(hint, ''));
END $$;
CREATE FUNCTION tools.mrel_rows(name text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN EXECUTE format('SELECT count(*) FROM live.%I', name || '_mrel') INTO n; RETURN n; END $$;

SELECT feed('events', rows(1, 60));
SELECT create_kept('hours', $$ SELECT date_trunc('minute', ts) AS minute, g, count(*) AS n, avg(x) AS a FROM events GROUP BY 1, 2 $$,
  $$ (minute < now() - interval '2 hours') IS NOT TRUE $$, '2 hours', 'minute');
SELECT create_kept('Weird "Days"', $$ SELECT g, t AS "When", sum(x) AS s FROM events GROUP BY 1, 2 HAVING count(*) > 0 $$,
  $$ ("When" < localtimestamp - interval '1 day') IS NOT TRUE $$, '1 day', 'When');
SELECT create_kept('dates', $$ SELECT g, d, max(x) AS m FROM events GROUP BY g, d $$,
  $$ (d < localtimestamp - interval '1 month') IS NOT TRUE $$, '1 month', 'd');
SELECT create_kept('nested', $$ SELECT m2 AS m, n * 2 AS n2, rank() OVER (ORDER BY n, m2) AS r FROM
    (SELECT m1 AS m2, n FROM (SELECT ts AS m1, count(*) AS n FROM events GROUP BY 1) q) q $$,
  $$ true $$, '100 years', 'm');
SELECT create_kept('appended', 'SELECT id, ts FROM events', $$ (ts < now() - interval '2 hours') IS NOT TRUE $$, '2 hours', 'ts');
SELECT create_kept('distinct', 'SELECT DISTINCT g, ts FROM events', $$ (ts < now() - interval '2 hours') IS NOT TRUE $$, '2 hours', 'ts');
SELECT create_view('all', $$ SELECT date_trunc('minute', ts) AS minute, g, count(*) AS n FROM events GROUP BY 1, 2 $$);
SELECT check_views();
-- from 16 on without the relation's name where there is one only
SELECT regexp_replace(pg_get_viewdef('live.hours'::regclass), '\mhours_mrel\.', '', 'g');
SELECT view, retention, retention_column, late_events FROM millrace.views ORDER BY view::text;
-- What is too old is removed; messages for it are counted and do not bring it back.
SELECT wait_until($$ mrel_rows('appended') = (SELECT count(*) FROM live.appended) AND mrel_rows('hours') = (SELECT count(*) FROM live.hours) $$);
SELECT feed('events', rows(61, 120));
SELECT check_views();
SELECT wait_until($$ mrel_rows('appended') = (SELECT count(*) FROM live.appended) AND mrel_rows('hours') = (SELECT count(*) FROM live.hours) $$);
SELECT view, late_events FROM millrace.views WHERE retention IS NOT NULL ORDER BY view::text;
SELECT (SELECT millrace.combine(n) FROM live.hours) = (SELECT count(*) FROM plain.events WHERE (ts < now() - interval '2 hours') IS NOT TRUE) AS combined;

-- Set later, changed, ended.
SELECT millrace.set_retention('live.all', '1 day', 'minute');
CREATE OR REPLACE VIEW plain."all" AS SELECT date_trunc('minute', ts) AS minute, g, count(*) AS n FROM plain.events GROUP BY 1, 2
  HAVING (date_trunc('minute', ts) < now() - interval '1 day') IS NOT TRUE;
SELECT check_view('all');
SELECT wait_until($$ mrel_rows('all') = (SELECT count(*) FROM live.all) $$);
SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'live.all_mrel'::regclass;
-- What was too old stays away.
SELECT millrace.set_retention('live.all', '100 days', 'minute');
SELECT feed('events', rows(121, 180));
SELECT check_view('all');
SELECT millrace.set_retention('live.all', NULL, NULL);
SELECT feed('events', rows(181, 240));
SELECT check_view('all');
SELECT view, retention, retention_column, late_events FROM millrace.views WHERE view = 'live.all'::regclass;
-- By another column.
SELECT millrace.set_retention('live."Weird ""Days"""', NULL, NULL);
SELECT millrace.set_retention('live.dates', '3 hours', 'd');
SELECT check_view('Weird "Days"');
BEGIN;
SELECT millrace.set_retention('live.hours', '1 minute', 'minute');
SELECT count(minute) FROM live.hours;
ROLLBACK;
SELECT check_view('hours');
PREPARE p AS SELECT count(minute) > 0 AS some FROM live.hours;
EXECUTE p;
SELECT millrace.set_retention('live.hours', '1 minute', 'minute');
EXECUTE p;
ALTER VIEW live.hours RENAME TO hours2;
ALTER VIEW live.hours2 RENAME minute TO "The Minute";
SELECT view, retention, retention_column FROM millrace.views WHERE view = 'live.hours2'::regclass;
SELECT millrace.set_retention('live.hours2', '1 hour', 'The Minute');
SELECT view, retention, retention_column FROM millrace.views WHERE view = 'live.hours2'::regclass;

-- Refused.
SELECT refused($$ SELECT millrace.set_retention('dates', '1 day', 'no such') $$);
SELECT refused($$ SELECT millrace.set_retention('dates', '1 day', 'g') $$);
SELECT refused($$ SELECT millrace.set_retention('dates', '1 day', 'm') $$);
SELECT refused($$ SELECT millrace.set_retention('dates', '1 day', NULL) $$);
SELECT refused($$ SELECT millrace.set_retention('dates', NULL, 'd') $$);
SELECT refused($$ SELECT millrace.set_retention('dates', '0', 'd') $$);
SELECT refused($$ SELECT millrace.set_retention('dates', '-1 day', 'd') $$);
SELECT refused($$ SELECT millrace.set_retention('dates', '1000000 years', 'd') $$);
SELECT refused($$ SELECT millrace.set_retention('events', '1 day', 'ts') $$);
SELECT refused($$ SELECT millrace.set_retention(NULL, '1 day', 'd') $$);
SELECT refused($$ SELECT millrace.create_continuous_view('v', 'SELECT count(*) FROM events', retention => '1 day', retention_column => 'count') $$);
SELECT refused($$ SELECT millrace.create_continuous_view('v', 'SELECT max(ts) FROM events', retention => '1 day', retention_column => 'max') $$);
SELECT refused($$ SELECT millrace.create_continuous_view('v', 'SELECT ts + interval ''1 day'' AS u, count(*) FROM events GROUP BY ts', retention => '1 day', retention_column => 'u') $$);
SELECT refused($$ SELECT millrace.create_continuous_view('v', 'SELECT g, ts FROM events', retention => '1 day') $$);
SELECT refused($$ SELECT millrace.create_continuous_view('v', 'SELECT g, ts FROM events', retention_column => 'ts') $$);
CREATE ROLE test_other;
GRANT SELECT ON live.dates TO test_other;
GRANT USAGE ON SCHEMA live TO test_other;
SET ROLE test_other;
SELECT millrace.set_retention('live.dates', '1 day', 'd');
SELECT count(*) > 0 AS shown FROM live.dates;
SELECT count(*) FROM millrace.view_retention;
RESET ROLE;
DROP OWNED BY test_other;
DROP ROLE test_other;
DROP VIEW live.dates;
SELECT count(*) FROM millrace.view_retention r WHERE NOT EXISTS (SELECT FROM millrace.continuous_view v WHERE v.view = r.view);

\i sql/teardown.inc
