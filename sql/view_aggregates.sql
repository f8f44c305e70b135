--
-- Every aggregate that can be combined, over every common type.
--
\i sql/setup.inc

\i sql/aggregates.inc
SELECT feed('events', rows(1, 250));
SELECT count(*) > 100 AS many, count(*) FILTER (WHERE call LIKE '%?%') AS without_column FROM variant;
-- One view for each aggregate's name, with and without groups: all its
-- variants, all with FILTER once more.
SELECT DISTINCT left(regexp_replace(create_view('agg ' || proname, format('SELECT g, %s FROM events GROUP BY g', columns)), '.*: ', ''), 200)
FROM (SELECT proname, string_agg(format(call, '') || format(' AS c%s, ', aggfnoid::oid) ||
        format(call, ' FILTER (WHERE id % 3 = 0)') || format(' AS f%s', aggfnoid::oid), ', ' ORDER BY aggfnoid::oid) AS columns
      FROM variant GROUP BY proname) v;
SELECT DISTINCT left(regexp_replace(create_view('one ' || proname, format('SELECT %s FROM events', columns)), '.*: ', ''), 200)
FROM (SELECT proname, string_agg(format(call, '') || format(' AS c%s, ', aggfnoid::oid) ||
        format(call, ' FILTER (WHERE id % 30 = 0 AND id > 300)') || format(' AS f%s', aggfnoid::oid), ', ' ORDER BY aggfnoid::oid) AS columns
      FROM variant GROUP BY proname) v;
-- Arrays can be collected, and any value chosen, from PostgreSQL 16 on.
SELECT current_setting('server_version_num')::int >= 160000 AS later \gset
\if :later
SELECT c FROM create_view('agg later', $$
  SELECT g, array_length(array_agg(a) FILTER (WHERE a IS NOT NULL), 1) AS a, any_value(g) AS any FROM events GROUP BY g $$) c WHERE c NOT LIKE '%: created';
\endif
SELECT count(*) > 50 AS many FROM made;
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
SELECT feed('events', rows(251, 420));
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';

-- And what is made of aggregates.
BEGIN;
SELECT create_view('plain_types', $$
  SELECT g, sum(f8), avg(f8) AS average, sum(f4) AS sf4, min(vc) AS vc, max(c) AS c, max(ta) AS ta, min(e), max(u::text) AS u,
         min(n)::numeric(10, 2) AS n2, max(t COLLATE "C") AS tc
  FROM events GROUP BY g $$);
SELECT create_view('infinite', $$
  SELECT g, sum(x8), avg(x8), max(x8), min(x8), stddev(x8) AS sd, sum(xn) AS sn, avg(xn) AS an, max(xn) AS mn, var_pop(xn) AS vn
  FROM events GROUP BY g $$);
SELECT create_view('expressions', $$
  SELECT sum(i4) * 100 / nullif(count(*), 0) AS ratio, g + 1 AS g1, coalesce(max(t), 'none') || ' ' || count(*) AS shown,
         CASE WHEN bool_or(b) THEN sum(n) ELSE -count(n) END AS cond, ARRAY[min(i4), max(i4)] AS range, (min(d), max(d))::text AS span,
         greatest(max(i2), min(i4), g), max(i8) / 2 - min(i8) / 2 AS width, count(*) = count(i4) AS full, sum(i4) IS NULL AS none,
         sum(i4 + coalesce(i2, 0)) + sum(i4) + sum(i4) FILTER (WHERE i4 > 0) AS sums, 42 AS constant, sum(1) AS ones, now() > max(tstz) AS past
  FROM events GROUP BY g $$);
SELECT create_view('whole_rows', $$ SELECT g, count(events), count(events.*) AS n, count((i2, i4)) AS m, max(length(events.t)) FROM events GROUP BY g $$);
SELECT create_view('filters', $$
  SELECT g, count(*) FILTER (WHERE b) AS yes, count(*) FILTER (WHERE NOT b) AS no, count(*) FILTER (WHERE b IS NULL) AS unknown,
         sum(i4) FILTER (WHERE false) AS never, avg(n) FILTER (WHERE id % 2 = 0 AND n > 0), max(t) FILTER (WHERE t < 'm')
  FROM events GROUP BY g $$);
SELECT create_view('guarded', $$
  SELECT g, sum(1000 / (id % 5)) FILTER (WHERE id % 5 <> 0) AS quotients, max(ln(i8)) FILTER (WHERE i8 > 0) AS logs, sum(1000 / (id % 3)) FILTER (WHERE id % 3 <> 0 AND b) AS both,
         sum(1000 / (id % 3)) FILTER (WHERE CASE WHEN b THEN id % 3 = 1 END) AS nulls, max(1000 / (id % 3)) FILTER (WHERE id % 3 > 0) AS most
  FROM events GROUP BY g $$);
SELECT create_view('guarded_join', $$
  SELECT e.g, sum(e.id / (e.id % 5 + more)) FILTER (WHERE e.id % 5 + more <> 0) AS quotients,
         sum(1000 / (e.id % 3)) FILTER (WHERE EXISTS (SELECT FROM generate_series(1, 2) v WHERE v = e.id % 3)) AS found
  FROM events e JOIN generate_series(0, 1) more ON true GROUP BY e.g $$);
SELECT create_view('no_rows', $$ SELECT g, count(*), sum(n), max(t) FROM events WHERE id < 0 GROUP BY g $$);
SELECT create_view('no_rows_one', $$ SELECT count(*), sum(n), max(t), regr_count(f8, f8), bool_and(b), stddev(i4) FROM events WHERE id < 0 $$);
SELECT create_view('null_group', $$ SELECT count(*) AS n, count(i4), sum(i4), avg(n), max(t), bool_or(b), var_samp(f8), bit_xor(i8) FROM events WHERE g = 3 $$);
SELECT create_view('one_value', $$ SELECT id, stddev(n), var_pop(i8), corr(f8, f8) IS NULL AS none, avg(iv) FROM events WHERE id % 50 = 1 GROUP BY id $$);
COMMIT;

BEGIN;
SELECT create_view('own', $$
  SELECT g, longest(t), count_nulls(i4), count_nulls(t) AS nt, my_avg(n), width(i4, 'x'), extent(i4, 'y'), (extent(i4, 'y')).high,
         longest(t) FILTER (WHERE i4 > 0) AS f
  FROM events GROUP BY g $$);
SELECT create_view('own_sorted', $$ SELECT g, shown(collected(a)) AS c, collected_text(ta) AS t FROM events GROUP BY g $$);
SELECT create_view('own_one', $$ SELECT longest(t), count_nulls(i4), my_avg(n), width(i4, 'x'), collected(a) IS NULL AS n FROM events WHERE id > 450 $$);
COMMIT;
SELECT c FROM check_views() c WHERE c !~ '^(agg|one) ';
SELECT feed('events', rows(421, 450));
SELECT c FROM check_views() c WHERE c !~ '^(agg|one) ';
SELECT feed('events', rows(451, 600));
SELECT c FROM check_views() c WHERE c !~ '^(agg|one) ';
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';

\i sql/teardown.inc
