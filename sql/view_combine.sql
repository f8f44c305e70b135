--
-- combine(): states of a continuous view aggregated further, in any query.
--
\i sql/setup.inc
\i sql/aggregates.inc

-- A query over continuous views with combine(), and one over the raw rows that must
-- give the same.
CREATE FUNCTION tools.compare(label text, live_query text, plain_query text) RETURNS SETOF text
LANGUAGE plpgsql SET search_path = live, common, tools AS $$
DECLARE
  n bigint;
BEGIN
  EXECUTE 'CREATE TEMP VIEW compared_live AS ' || live_query;
  PERFORM set_config('search_path', 'plain, common, tools', true);
  EXECUTE 'CREATE TEMP VIEW compared_plain AS ' || plain_query;
  RETURN QUERY SELECT label || ': ' || d FROM differences('pg_temp.compared_live', 'pg_temp.compared_plain') d;
  IF NOT FOUND THEN
    EXECUTE 'SELECT count(*) FROM pg_temp.compared_live' INTO n;
    RETURN NEXT format('%s: equal, %s rows', label, n);
  END IF;
  DROP VIEW compared_live, compared_plain;
EXCEPTION WHEN OTHERS THEN
  RETURN NEXT format('%s: %s %s', label, sqlstate, sqlerrm);
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
  RETURN concat_ws(' | ', sqlstate, sqlerrm, detail, hint);
END $$;

-- Every aggregate, by two of the three group columns, by none, and over no rows.
SELECT feed('events', rows(1, 400));
SELECT DISTINCT left(regexp_replace(create_view('agg ' || proname,
    format('SELECT g, id %% 5 AS part, id %% 3 AS third, %s FROM events GROUP BY 1, 2, 3', columns)), '.*: ', ''), 200)
FROM (SELECT proname, string_agg(format(call, '') || format(' AS c%s, ', aggfnoid::oid) ||
        format(call, ' FILTER (WHERE id % 2 = 0)') || format(' AS f%s', aggfnoid::oid), ', ' ORDER BY aggfnoid::oid) AS columns
      FROM variant GROUP BY proname) v;
SELECT bool_and(millrace.wait_for_latest(format('live.%I', name)::regclass, timeout => tools.patience())) FROM made;
CREATE VIEW tools.compared AS
  SELECT proname,
    string_agg(format('millrace.combine(c%1$s) AS c%1$s, millrace.combine(f%1$s) AS f%1$s', aggfnoid::oid), ', ' ORDER BY aggfnoid::oid) AS live,
    string_agg(format(call, '') || format(' AS c%s, ', aggfnoid::oid) ||
        format(call, ' FILTER (WHERE id % 2 = 0)') || format(' AS f%s', aggfnoid::oid), ', ' ORDER BY aggfnoid::oid) AS plain
  FROM variant GROUP BY proname;
SELECT count(*) > 20 AS many FROM compared;
SELECT c FROM compared,
  compare(proname, format('SELECT g, part, %s FROM %I GROUP BY 1, 2', live, 'agg ' || proname),
                   format('SELECT g, id %% 5 AS part, %s FROM events GROUP BY 1, 2', plain)) c WHERE c NOT LIKE '%: equal, %';
SELECT c FROM compared,
  compare(proname, format('SELECT %s FROM %I', live, 'agg ' || proname), format('SELECT %s FROM events', plain)) c WHERE c NOT LIKE '%: equal, 1 rows';
SELECT c FROM compared,
  compare(proname, format('SELECT %s FROM %I WHERE part > 10', live, 'agg ' || proname),
                   format('SELECT %s FROM events WHERE id < 0', plain)) c WHERE c NOT LIKE '%: equal, 1 rows';

-- Own aggregates, expressions over aggregates, names, text with collations.
SELECT create_view('own', $$
  SELECT g, id % 4 AS part, longest(t) AS longest, count_nulls(i4) AS nulls, my_avg(n), width(i4, 'x'), extent(i4, 'y'), (extent(i4, 'y')).high,
         shown(collected(a)) AS c, collected_text(ta) AS t, max(t COLLATE "C") AS "Max ""C""", min(n)::numeric(10, 2) AS n2,
         sum(i4) * 100 / nullif(count(*), 0) AS ratio, coalesce(max(t), 'none') || ' ' || count(*) AS described, count(*) AS hits
  FROM events GROUP BY 1, 2 $$);
SELECT check_view('own');
SELECT compare('own', $$
  SELECT g, millrace.combine(longest) AS longest, millrace.combine(nulls) AS nulls, millrace.combine(my_avg) AS my_avg, millrace.combine(width) AS width,
         millrace.combine(extent) AS extent, millrace.combine(high) AS high, millrace.combine(c) AS c, millrace.combine(t) AS t,
         millrace.combine("Max ""C""") AS "Max ""C""", millrace.combine(n2) AS n2, millrace.combine(ratio) AS ratio,
         millrace.combine(described) AS described, millrace.combine(hits) AS hits, count(*) AS parts
  FROM own GROUP BY g $$, $$
  SELECT g, longest(t), count_nulls(i4) AS nulls, my_avg(n), width(i4, 'x'), extent(i4, 'y'), (extent(i4, 'y')).high,
         shown(collected(a)) AS c, collected_text(ta) AS t, max(t COLLATE "C") AS "Max ""C""", round(min(n), 2) AS n2,
         sum(i4) * 100 / nullif(count(*), 0) AS ratio, coalesce(max(t), 'none') || ' ' || count(*) AS described, count(*) AS hits,
         count(DISTINCT id % 4) AS parts
  FROM events GROUP BY g $$);

-- Any query around it.
SELECT create_view('v', $$ SELECT g, id % 4 AS part, count(*) AS hits, avg(n) AS average, max(i4) AS worst, sum(i4) AS total FROM events GROUP BY 1, 2 $$);
SELECT create_view('busy', $$ SELECT g, id % 4 AS part, count(*) AS hits, avg(n) AS average FROM events GROUP BY 1, 2 HAVING count(*) > 14 AND g > 1 $$);
SELECT create_view('top', $$ SELECT g, id % 4 AS part, count(*) AS hits, avg(n) AS average FROM events GROUP BY 1, 2 ORDER BY sum(i4) DESC NULLS LAST LIMIT 7 $$);
SELECT create_view('nested', $$ SELECT part + 1 AS p, hits * 2 AS twice, average, row_number() OVER () > 0 AS numbered
  FROM (SELECT id % 4 AS part, g, count(*) AS hits, avg(n) AS average FROM events GROUP BY 1, 2) q WHERE hits > 14 $$);
SELECT create_view('rows', $$ SELECT g, n FROM events $$);
SELECT c FROM check_views() c WHERE c !~ '^agg ';
CREATE TABLE common.names (g int, name text);
INSERT INTO common.names SELECT g, 'name ' || g % 2 FROM generate_series(0, 8, 2) g;
SELECT compare('filter, having, order by', $$
    SELECT g, millrace.combine(average) FILTER (WHERE part < 2) AS a, round(millrace.combine(average), 3) AS r FROM v GROUP BY g
    HAVING millrace.combine(hits) > 50 ORDER BY millrace.combine(average) LIMIT 3 $$, $$
    SELECT g, avg(n) FILTER (WHERE id % 4 < 2) AS a, round(avg(n), 3) AS r FROM events GROUP BY g HAVING count(*) > 50 ORDER BY avg(n) LIMIT 3 $$);
SELECT compare('joins', $$
    SELECT name, millrace.combine(average) AS a, millrace.combine(hits) AS h FROM names LEFT JOIN v USING (g) GROUP BY name $$, $$
    SELECT name, avg(n) AS a, count(events.id) AS h FROM names LEFT JOIN events USING (g) GROUP BY name $$);
SELECT compare('alias of a join', $$
    SELECT j.part, millrace.combine(j.average) AS a FROM (v JOIN names n ON n.g = v.g) AS j (g, part, hits, average) GROUP BY j.part $$, $$
    SELECT id % 4 AS part, avg(events.n) AS a FROM events JOIN names USING (g) GROUP BY 1 $$);
SELECT compare('subqueries, with', $$
    WITH x AS (SELECT * FROM (SELECT part AS p, average AS a, hits FROM v WHERE g > 2 ORDER BY part LIMIT 1000) q WHERE p < 3)
    SELECT x1.p, millrace.combine(x1.a) AS a, (SELECT millrace.combine(hits) FROM x) AS h, (SELECT max(a) IS NULL FROM x) AS n
    FROM x AS x1 GROUP BY x1.p $$, $$
    SELECT id % 4 AS p, avg(n) AS a, (SELECT count(*) FROM events WHERE g > 2 AND id % 4 < 3) AS h, false AS n
    FROM events WHERE g > 2 AND id % 4 < 3 GROUP BY 1 $$);
SELECT compare('an outer query''s', $$
    SELECT g, (SELECT name || ' ' || millrace.combine(hits) FROM names WHERE names.g = v.g) AS s FROM v GROUP BY g $$, $$
    SELECT g, (SELECT name || ' ' || count(events.id) FROM names WHERE names.g = events.g) AS s FROM events GROUP BY g $$);
SELECT compare('union, lateral', $$
    SELECT 1 AS i, millrace.combine(hits) AS h FROM v UNION ALL SELECT g, l.h FROM names, LATERAL (SELECT millrace.combine(hits) AS h FROM v WHERE v.g = names.g) l $$, $$
    SELECT 1 AS i, count(*) AS h FROM events UNION ALL SELECT g, (SELECT count(*) FROM events WHERE events.g = names.g) FROM names $$);
SELECT compare('grouping sets', $$
    SELECT g, part, millrace.combine(average) AS a FROM v GROUP BY ROLLUP (g, part) $$, $$
    SELECT g, id % 4 AS part, avg(n) AS a FROM events GROUP BY ROLLUP (g, 2) $$);
SELECT compare('windows', $$
    SELECT g, part, millrace.combine(hits) OVER (PARTITION BY g ORDER BY part ROWS BETWEEN 2 PRECEDING AND 1 PRECEDING) AS h,
      millrace.combine(average) OVER (PARTITION BY g) AS a FROM v $$, $$
    SELECT g, part, coalesce(sum(hits) OVER (PARTITION BY g ORDER BY part ROWS BETWEEN 2 PRECEDING AND 1 PRECEDING), 0)::bigint AS h,
      (SELECT avg(n) FROM events e WHERE e.g IS NOT DISTINCT FROM v.g) AS a FROM v $$);
-- Only the rows that the view shows count.
SELECT compare('a view with HAVING', $$ SELECT g, millrace.combine(average) AS a, millrace.combine(hits) AS h FROM busy GROUP BY g $$, $$
    SELECT g, avg(n) AS a, count(*) AS h FROM events e WHERE g > 1 AND (SELECT count(*) FROM events f WHERE f.g = e.g AND f.id % 4 = e.id % 4) > 14 GROUP BY g $$);
SELECT compare('a view with LIMIT', $$ SELECT millrace.combine(hits) AS h, millrace.combine(average) AS a FROM top $$, $$
    SELECT count(*) AS h, avg(n) AS a FROM events e WHERE EXISTS (SELECT FROM top t WHERE t.g IS NOT DISTINCT FROM e.g AND t.part = e.id % 4) $$);
SELECT compare('a view with levels', $$ SELECT millrace.combine(twice) AS h, millrace.combine(average) AS a FROM nested $$, $$
    SELECT count(*) * 2 AS h, avg(n) AS a FROM events e WHERE (SELECT count(*) FROM events f WHERE f.g IS NOT DISTINCT FROM e.g AND f.id % 4 = e.id % 4) > 14 $$);
-- In ordinary views, and again over them; they keep the call as it was typed.
CREATE VIEW live.by_g AS SELECT g, millrace.combine(average) AS average, millrace.combine(hits) + 1 AS hits1 FROM live.v GROUP BY g;
-- from 16 on without the relation's name where there is one only
SELECT regexp_replace(pg_get_viewdef('live.by_g'::regclass), '\mv\.', '', 'g');
SELECT compare('ordinary views', $$ SELECT g % 2 AS odd, millrace.combine(average) AS a FROM by_g GROUP BY 1 $$, $$ SELECT g % 2 AS odd, avg(n) AS a FROM events GROUP BY 1 $$);
SELECT compare('over what is combined', $$ SELECT millrace.combine(a) AS a, max(a) AS m FROM (SELECT part, millrace.combine(average) AS a FROM v GROUP BY part) q $$, $$
    SELECT (SELECT avg(n) FROM events) AS a, max(a) AS m FROM (SELECT avg(n) AS a FROM events GROUP BY id % 4) q $$);
CREATE FUNCTION tools.total(int) RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT millrace.combine(hits) FROM live.v WHERE part = $1 $$;
SELECT total(1) = (SELECT count(*) FROM plain.events WHERE id % 4 = 1) AS in_function;
PREPARE p(int) AS SELECT millrace.combine(hits) FROM live.v WHERE part = $1;
EXECUTE p(1);
SELECT feed('events', rows(401, 600));
SELECT check_view('v');
EXECUTE p(1);
ALTER VIEW live.v RENAME TO "v ""2""";
ALTER VIEW live."v ""2""" RENAME hits TO "the hits";
SELECT sum(hits1 - 1) FROM live.by_g;
SELECT millrace.combine("the hits") FROM live."v ""2""";
ALTER VIEW live."v ""2""" RENAME "the hits" TO hits;
ALTER VIEW live."v ""2""" RENAME TO v;
CREATE MATERIALIZED VIEW live.kept AS SELECT part, millrace.combine(average) AS average FROM live.v GROUP BY part;
SELECT count(*) FROM live.kept;

-- What cannot be combined.
SELECT refused('SELECT millrace.combine(g) FROM v');
SELECT refused('SELECT millrace.combine(part + 1) FROM v');
SELECT refused('SELECT millrace.combine(hits + 1) FROM v');
SELECT refused('SELECT millrace.combine(average::float8) FROM v');
SELECT refused('SELECT millrace.combine(1)');
SELECT refused('SELECT millrace.combine(n) FROM events');
SELECT refused('SELECT millrace.combine(g) FROM names');
SELECT refused('SELECT millrace.combine(average) FROM kept');
SELECT refused('SELECT millrace.combine(v) FROM v');
SELECT refused('SELECT millrace.combine(hits) FROM v_mrel');
SELECT refused('SELECT millrace.combine(average) FROM (SELECT average FROM v_mrel) q');
SELECT refused('SELECT millrace.combine(n) FROM rows');
SELECT refused('SELECT millrace.combine(numbered) FROM nested');
SELECT refused('SELECT millrace.combine(hits) FROM (SELECT DISTINCT hits FROM v) q');
SELECT refused('SELECT millrace.combine(hits) FROM (SELECT hits FROM v UNION ALL SELECT hits FROM v) q');
SELECT refused('SELECT millrace.combine(hits) FROM (SELECT hits FROM v GROUP BY hits) q');
SELECT refused('SELECT millrace.combine(h) FROM (SELECT sum(hits) AS h FROM v) q');
SELECT refused('SELECT millrace.combine(h) FROM (SELECT sum(hits) OVER () AS h FROM v) q');
SELECT refused('SELECT millrace.combine(h) FROM (SELECT hits + g AS h FROM v) q');
SELECT refused('SELECT millrace.combine(h) FROM (SELECT (SELECT hits) AS h FROM v) q');
SELECT refused('SELECT millrace.combine(h) FROM (SELECT 1 AS h FROM v) q');
SELECT refused('SELECT millrace.combine(hits) FROM v FULL JOIN (SELECT 1::bigint AS hits) w USING (hits)');
SELECT refused('SELECT millrace.combine(DISTINCT hits) FROM v');
SELECT refused('SELECT millrace.combine(hits ORDER BY part) FROM v');
SELECT refused($$ SELECT millrace.create_continuous_view('live.w', 'SELECT millrace.combine(g) FROM live.events') $$);
SELECT refused($$ SELECT millrace.merge_states('count()'::regprocedure, hits) FROM v $$);
SELECT refused($$ SELECT millrace.merge_states('count()'::regprocedure, g) FROM v $$);
SELECT refused($$ SELECT millrace.merge_states(a, hits) FROM v, (VALUES ('count()'::regprocedure), ('sum(integer)'::regprocedure)) w (a) $$);
SELECT refused($$ SELECT millrace.merge_states('now()'::regprocedure, hits) FROM v $$);
-- A function that the planner takes apart by itself.
CREATE FUNCTION tools.inlined() RETURNS TABLE (h bigint) LANGUAGE sql STABLE AS $$ SELECT millrace.combine(hits) FROM live.v $$;
SELECT refused('SELECT * FROM inlined()');
ALTER FUNCTION inlined() VOLATILE;
SELECT * FROM inlined();
\set VERBOSITY default
SELECT g, millrace.combine(g) FROM live.v GROUP BY g;
\set VERBOSITY terse

-- Rights are those on the view.
CREATE ROLE test_reader;
GRANT USAGE ON SCHEMA live TO test_reader;
SET ROLE test_reader;
SELECT millrace.combine(hits) FROM live.v;
RESET ROLE;
GRANT SELECT ON live.v TO test_reader;
SET ROLE test_reader;
SELECT millrace.combine(hits) = sum(hits) AS allowed FROM live.v;
SELECT count(*) FROM live.v_mrel;
RESET ROLE;
REVOKE SELECT ON live.v FROM test_reader;
GRANT SELECT (part) ON live.v TO test_reader;
SET ROLE test_reader;
SELECT part, millrace.combine(hits) FROM live.v GROUP BY part;
RESET ROLE;
DROP OWNED BY test_reader;
DROP ROLE test_reader;

\i sql/teardown.inc
