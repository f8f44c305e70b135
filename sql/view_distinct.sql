--
-- DISTINCT and DISTINCT ON over a stream's rows.
--
\i sql/setup.inc

SELECT count(*) > 0 AS icu FROM pg_collation WHERE collprovider = 'i' \gset
\if :icu
CREATE COLLATION common.nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
\else
CREATE COLLATION common.nocase FROM "C";
\endif
CREATE TABLE common.names (g int PRIMARY KEY, name text);
INSERT INTO common.names SELECT g, nullif('name ' || g, 'name 3') FROM generate_series(0, 5) g;
CREATE TABLE plain.events (id int, g int, h text, tn text COLLATE nocase, b boolean, x bigint, n numeric, ts timestamptz, j json, a int[]);
CREATE TABLE plain.more (LIKE plain.events);
SELECT create_stream('events', partitions => 2), create_stream('more');
-- in an order that jumps about
CREATE FUNCTION rows(first int, last int) RETURNS text LANGUAGE sql RETURN format($$
  SELECT id, nullif(id %% 7, 0), (ARRAY['a', 'B', 'b', NULL])[id %% 4 + 1], (ARRAY['x', 'X', 'y', NULL])[id %% 4 + 1],
    CASE id %% 3 WHEN 1 THEN true WHEN 2 THEN false END, (id * 7919) %% 1009 - 400, nullif(id %% 11, 4) / 2.0,
    timestamptz '2024-03-30 22:00+00' + id * interval '11 minutes', json_build_object('id', id), ARRAY[id %% 2, id]
  FROM generate_series(%s, %s) id ORDER BY id * 7919 %% 101$$, first, last);

BEGIN;
SELECT create_view('latest', $$ SELECT DISTINCT ON (g) g, id, ts, j, a FROM events ORDER BY g, ts DESC $$, true);
SELECT create_view('first', $$ SELECT DISTINCT ON (g) * FROM events ORDER BY g, ts $$, true);
SELECT create_view('several_keys', $$ SELECT DISTINCT ON (g, h) h, g, x, id FROM events ORDER BY h, g DESC, x DESC NULLS LAST, id $$, true);
SELECT create_view('several_orders', $$ SELECT DISTINCT ON (b) b, n, h, id FROM events ORDER BY b NULLS FIRST, n DESC NULLS LAST, h COLLATE "C" NULLS FIRST, id DESC $$, true);
SELECT create_view('nulls_first', $$ SELECT DISTINCT ON (g) g, n, id FROM events ORDER BY g, n NULLS FIRST, id $$, true);
SELECT create_view('nulls_last', $$ SELECT DISTINCT ON (g) g, n, id FROM events ORDER BY g, n DESC NULLS LAST, id $$, true);
SELECT create_view('using_operator', $$ SELECT DISTINCT ON (g) g, x FROM events ORDER BY g, x USING > $$, true);
SELECT create_view('hidden', $$ SELECT DISTINCT ON (g % 3, upper(h)) id FROM events ORDER BY g % 3, upper(h), x % 10, id $$, true);
SELECT create_view('expressions', $$ SELECT DISTINCT ON (k) coalesce(g, -1) AS k, x * 2 AS x2, 'const' AS c, NULL AS nothing, j ->> 'id' AS i FROM events ORDER BY k, abs(x), id $$, true);
SELECT create_view('no_order', $$ SELECT DISTINCT ON (g) g FROM events $$);
SELECT create_view('keys_only', $$ SELECT DISTINCT ON (g, h) g, h FROM events ORDER BY g, h $$, true);
SELECT create_view('one_group', $$ SELECT DISTINCT ON (1) 1 AS one, id, h FROM events ORDER BY 1, id DESC $$);
SELECT create_view('by_ordinal', $$ SELECT DISTINCT ON (2, 1) g, b, id FROM events ORDER BY 1, 2, 3 DESC $$, true);
SELECT create_view('nocase', $$ SELECT DISTINCT ON (tn) tn, id FROM events ORDER BY tn, id DESC $$);
SELECT create_view('nocase_order', $$ SELECT DISTINCT ON (g) g, tn, id FROM events ORDER BY g, tn DESC, id $$, true);
SELECT create_view('by_numeric', $$ SELECT DISTINCT ON (k) CASE WHEN b THEN trunc(n)::numeric(9,3) ELSE trunc(n) END::text AS shown, trunc(n) AS k, id FROM events ORDER BY k, id DESC $$, true);
SELECT create_view('filtered', $$ SELECT DISTINCT ON (h) h, x FROM events WHERE b AND x > 0 ORDER BY h, x, id $$, true);
SELECT create_view('nothing', $$ SELECT DISTINCT ON (h) h, x FROM events WHERE id < 0 ORDER BY h, x $$, true);
SELECT create_view('limited', $$ SELECT DISTINCT ON (g) g, id FROM events ORDER BY g, id DESC LIMIT 3 OFFSET 1 $$, true);
SELECT create_view('joined', $$ SELECT DISTINCT ON (name) name, e.id, e.h FROM events e JOIN names USING (g) ORDER BY name, e.id DESC $$, true);
SELECT create_view('left_joined', $$ SELECT DISTINCT ON (e.h) e.h, name, e.id FROM events e LEFT JOIN names ON names.g = e.g + 1 ORDER BY e.h, name DESC NULLS LAST, e.id $$, true);
SELECT create_view('over_union', $$ SELECT DISTINCT ON (g) g, s, id FROM (SELECT g, 'events' AS s, id FROM events UNION ALL SELECT g, 'more', id FROM more) u ORDER BY g, id DESC, s $$, true);
SELECT create_view('sets_returning', $$ SELECT DISTINCT ON (g) g, id, unnest(a) AS e FROM events ORDER BY g, e DESC, id $$, true);
SELECT create_view('counted', $$ SELECT h, count(*), max(x), avg(n) FROM (SELECT DISTINCT ON (g) g, h, x, n FROM events ORDER BY g, id DESC) l GROUP BY h $$);
SELECT create_view('filtered_above', $$ WITH l AS (SELECT DISTINCT ON (g) g, h, x FROM events ORDER BY g, id DESC) SELECT l.*, name FROM l JOIN names USING (g) WHERE h IS NOT NULL $$);
SELECT create_view('ranked_above', $$ SELECT g, x, rank() OVER (ORDER BY x, g) FROM (SELECT DISTINCT ON (g) g, x FROM events ORDER BY g, id) f $$);
SELECT create_view('of_groups', $$ SELECT DISTINCT ON (h) h, g, count(*) FROM events GROUP BY h, g ORDER BY h, count(*) DESC, g $$, true);
SELECT create_view('of_windows', $$ SELECT DISTINCT ON (h) h, id, row_number() OVER (ORDER BY id) AS r FROM events ORDER BY h, r DESC $$, true);
SELECT create_view('plain_distinct', $$ SELECT DISTINCT g, h, n FROM events $$);
SELECT create_view('distinct_expressions', $$ SELECT DISTINCT upper(h) AS u, x % 5 AS m FROM events ORDER BY m, u $$, true);
SELECT create_view('distinct_counted', $$ SELECT h, count(g) FROM (SELECT DISTINCT h, g FROM events) d GROUP BY h $$);
SELECT create_view('distinct_of_windows', $$ SELECT DISTINCT g, count(*) OVER (PARTITION BY g) AS n FROM events $$);
SELECT create_view('distinct_of_groups', $$ SELECT DISTINCT count(*) AS n FROM events GROUP BY g, h $$);
SELECT create_view('distinct_of_choice', $$ SELECT DISTINCT h FROM (SELECT DISTINCT ON (g) g, h FROM events ORDER BY g, id DESC) l $$);
SELECT create_view('choice_of_distinct', $$ SELECT DISTINCT ON (h) h, g FROM (SELECT DISTINCT h, g FROM events) d ORDER BY h, g DESC $$, true);
COMMIT;
SELECT check_views();
SELECT feed('events', rows(1, 40)), feed('more', rows(30, 45));
SELECT check_views();
SELECT feed('events', rows(41, 300)), feed('more', rows(290, 310));
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
SELECT feed('events', rows(301, 320)), feed('events', rows(150, 160)), feed('events', rows(-20, -10));
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
SELECT c FROM check_view('latest', true) c;
-- One row for each group is kept, nothing else.
SELECT count(*) FROM live.latest_mrel;

-- Emptied, and made anew.
SELECT millrace.truncate_continuous_view('live.latest');
SELECT * FROM live.latest;
SELECT millrace.rebuild('live.latest'), millrace.rebuild('live.nocase');
SELECT check_view('latest', true), check_view('nocase');

-- What is not told apart by ORDER BY is chosen by the other columns, in any order of messages.
CREATE TABLE plain.ties (k int, t int, v text, w int);
SELECT create_stream('ties');
SELECT create_view('tied', $$ SELECT DISTINCT ON (k) k, t, v, w FROM ties ORDER BY k, t DESC $$);
INSERT INTO live.ties VALUES (1, 1, 'b', 1), (1, 1, 'a', 2), (1, 0, 'a', 0), (2, 5, NULL, 1), (2, 5, 'z', 9);
SELECT millrace.wait_for_latest('live.tied', timeout => tools.patience());
TABLE live.tied;
INSERT INTO live.ties VALUES (1, 1, 'a', 1), (2, 5, 'z', 8);
SELECT millrace.wait_for_latest('live.tied', timeout => tools.patience());
INSERT INTO live.ties VALUES (1, 1, 'b', 0), (1, 1, 'a', 3), (2, 5, NULL, 0);
SELECT millrace.wait_for_latest('live.tied', timeout => tools.patience());
TABLE live.tied;

-- Retention: by a key, or by the time whose latest is kept.
CREATE TABLE plain.timed (t timestamptz, k int, v int);
SELECT create_stream('timed');
CREATE FUNCTION keeps(query text, retention_column text) RETURNS text LANGUAGE plpgsql SET search_path = live, common, tools AS $$
BEGIN
  PERFORM millrace.create_continuous_view('live.keeps', query, retention => '5 hours', retention_column => retention_column);
  DROP VIEW live.keeps;
  RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
  RETURN concat_ws(' | ', sqlstate, sqlerrm);
END $$;
SELECT keeps('SELECT DISTINCT ON (k) k, t FROM timed ORDER BY k, t', 't');
SELECT keeps('SELECT DISTINCT ON (k) k, t FROM timed ORDER BY k, t DESC NULLS LAST', 't');
SELECT keeps('SELECT DISTINCT ON (k) k, t FROM timed ORDER BY k, v, t DESC', 't');
SELECT keeps('SELECT DISTINCT ON (t) k, t FROM timed ORDER BY t, k', 't');
SELECT millrace.create_continuous_view('live.current', 'SELECT DISTINCT ON (k) k, t, v FROM live.timed ORDER BY k, t DESC', retention => '5 hours', retention_column => 't') IS NOT NULL AS made;
INSERT INTO live.timed SELECT now() - i * interval '1 hour' - interval '30 minutes', i % 3, i FROM generate_series(0, 9) i;
INSERT INTO live.timed SELECT now() - i * interval '1 hour', 4, i FROM generate_series(6, 9) i;
SELECT millrace.wait_for_latest('live.current', timeout => tools.patience());
SELECT k, v FROM live.current ORDER BY k;
SELECT millrace.set_retention('live.current', '80 minutes', 't');
SELECT k, v FROM live.current ORDER BY k;
SELECT wait_until('(SELECT count(*) FROM live.current_mrel) = 1');
INSERT INTO live.timed SELECT now() - i * interval '1 hour', 1, -i FROM generate_series(1, 3) i;
SELECT millrace.wait_for_latest('live.current', timeout => tools.patience());
SELECT k, v FROM live.current ORDER BY k;

-- Sliding windows: the rows are kept, and chosen among at read.
SELECT millrace.create_continuous_view('live.sliding', 'SELECT DISTINCT ON (k) k, v FROM live.timed ORDER BY k, t', sliding_window => '4 hours', time_column => 't') IS NOT NULL AS made;
SELECT millrace.wait_for_latest('live.sliding', timeout => tools.patience());
SELECT k, v FROM live.sliding ORDER BY k;

-- A message that cannot be taken.
SELECT create_view('divided', $$ SELECT DISTINCT ON (g) g, 100 / x AS q, id FROM events WHERE id > 400 ORDER BY g, id DESC $$, true);
INSERT INTO live.events (id, g, x) SELECT 400 + i, i % 3, i - 6 FROM generate_series(1, 8) i;
INSERT INTO plain.events (id, g, x) SELECT 400 + i, i % 3, i - 6 FROM generate_series(1, 8) i WHERE i <> 6;
SELECT check_view('divided', true);
SELECT count(*), min(error) FROM millrace.dead_letters WHERE view = 'live.divided'::regclass;

\i sql/teardown.inc
