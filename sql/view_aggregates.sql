--
-- Every aggregate that can be combined, over every common type.
--
\i sql/setup.inc

CREATE TYPE common.mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE plain.events (
  id int, g int, i2 smallint, i4 int, i8 bigint, n numeric, f4 real, f8 float8, x8 float8, xn numeric,
  iv interval, t text, c char(4), vc varchar(9), b boolean, m money, d date, tm time, tz timetz,
  ts timestamp, tstz timestamptz, bits bit(8), ip inet, o oid, td tid, lsn pg_lsn, x xid8,
  e mood, a int[], ta text[], r int4range, mr int4multirange, u uuid, y bytea);
SELECT create_stream('events', partitions => 2);

-- Every column is NULL now and then; in group 3 all of them always are.
CREATE FUNCTION rows(first int, last int) RETURNS text LANGUAGE sql RETURN format($$
  SELECT id, g, v.* FROM (SELECT id, nullif(id %% 7, 0) AS g FROM generate_series(%s, %s) id) i
  LEFT JOIN LATERAL (SELECT
    CASE WHEN id %% 11 > 0 THEN id %% 300 - 150 END,
    CASE WHEN id %% 5 > 0 THEN (id * 7919) %% 100003 - 50000 END,
    CASE WHEN id %% 6 > 0 THEN (id - 300) * 30000000000000000 END,
    CASE WHEN id %% 4 > 0 THEN ((id * 37) %% 1000 - 500)::numeric / 10 ^ (id %% 5) END,
    CASE WHEN id %% 13 > 0 THEN (id %% 40 - 20) * 0.25 END,
    CASE WHEN id %% 8 > 0 THEN (id %% 100 - 50) * 0.125 END,
    CASE id %% 60 WHEN 8 THEN 'Infinity' WHEN 15 THEN '-Infinity' WHEN 29 THEN 'NaN' WHEN 30 THEN '-0' ELSE id * 0.5 END,
    CASE id %% 60 WHEN 8 THEN 'Infinity' WHEN 15 THEN '-Infinity' WHEN 29 THEN 'NaN' ELSE id * 1e30 END::numeric,
    CASE WHEN id %% 9 > 0 THEN make_interval(months => id %% 5, days => id %% 40 - 20, secs => id * 0.25) END,
    CASE WHEN id %% 10 > 0 THEN chr(97 + (id * 7) %% 26) || 'é"\' || id END,
    CASE WHEN id %% 3 > 0 THEN (id %% 50)::text END,
    CASE WHEN id %% 3 > 0 THEN (id %% 51)::text END,
    CASE WHEN id %% 5 > 0 THEN id %% 20 > g END,
    (id * 0.35)::numeric::money,
    date '2024-02-28' + id %% 400, time '00:00' + id * interval '7 minutes', timetz '00:00+02' + id * interval '7 minutes',
    timestamp '2024-02-28' + id * interval '7 hours', timestamptz '2024-02-28 00:00+00' + id * interval '7 hours',
    (id %% 256)::bit(8), inet '10.0.0.0' + (id * 31) %% 997, id + 3000000000, format('(%%s,1)', id)::tid,
    format('1/%%s', id)::pg_lsn, id::text::xid8,
    (enum_range(NULL::mood))[id %% 4], ARRAY[id %% 10, NULL, id %% 3], ARRAY['x' || id %% 9, 'NULL', NULL, ''],
    int4range(id %% 5, 100 + id %% 50), int4multirange(int4range(id %% 5, 100 + id %% 50)),
    md5(id::text)::uuid, decode(md5(id::text), 'hex')
  ) v(i2, i4, i8, n, f4, f8, x8, xn, iv, t, c, vc, b, m, d, tm, tz, ts, tstz, bits, ip, o, td, lsn, x, e, a, ta, r, mr, u, y)
  ON g IS DISTINCT FROM 3$$, first, last);
SELECT feed('events', rows(1, 250));

-- One view for each aggregate's name, with and without groups: all its
-- variants, all with FILTER once more.  What depends on the order of its input,
-- and records, which no table can hold, are left out.
CREATE VIEW tools.variant AS
  SELECT proname, a.aggfnoid,
    format(CASE WHEN prorettype = 'float8'::regtype AND proname !~ '^(sum|avg|min|max)$'
                THEN 'round(%s%%1$s::numeric, 9)' ELSE '%s%%1$s' END,
           format('%s(%s)', proname, coalesce(arguments, '*'))) AS call
  FROM pg_aggregate a JOIN pg_proc p ON p.oid = a.aggfnoid
  LEFT JOIN LATERAL
    (SELECT string_agg(coalesce(column_name, '?'), ', ' ORDER BY ordinality) AS arguments
     FROM unnest(proargtypes) WITH ORDINALITY u(type, ordinality)
     LEFT JOIN (VALUES ('int2', 'i2'), ('int4', 'i4'), ('int8', 'i8'), ('numeric', 'n'), ('float4', 'f4'), ('float8', 'f8'),
       ('interval', 'iv'), ('text', 't'), ('bpchar', 'c'), ('bool', 'b'), ('money', 'm'), ('date', 'd'), ('time', 'tm'),
       ('timetz', 'tz'), ('timestamp', 'ts'), ('timestamptz', 'tstz'), ('bit', 'bits'), ('inet', 'ip'), ('oid', 'o'),
       ('tid', 'td'), ('pg_lsn', 'lsn'), ('xid8', 'x'), ('anyenum', 'e'), ('anyarray', 'a'), ('anyrange', 'r'),
       ('anymultirange', 'mr'), ('"any"', 't'), ('uuid', 'u'), ('bytea', 'y')) k(type_name, column_name)
       ON k.type_name::regtype = u.type) x ON true
  WHERE aggcombinefn <> 0 AND aggkind = 'n' AND pronamespace = 'pg_catalog'::regnamespace
    AND proname NOT IN ('array_agg', 'string_agg', 'any_value') AND NOT 'record'::regtype = ANY (proargtypes);
SELECT count(*) > 100 AS many, count(*) FILTER (WHERE call LIKE '%?%') AS without_column FROM variant;
SELECT DISTINCT left(regexp_replace(create_view('agg ' || proname, format('SELECT g, %s FROM events GROUP BY g', columns)), '.*: ', ''), 200)
FROM (SELECT proname, string_agg(format(call, '') || format(' AS c%s, ', aggfnoid::oid) ||
        format(call, ' FILTER (WHERE id % 3 = 0)') || format(' AS f%s', aggfnoid::oid), ', ' ORDER BY aggfnoid::oid) AS columns
      FROM variant GROUP BY proname) v;
SELECT DISTINCT left(regexp_replace(create_view('one ' || proname, format('SELECT %s FROM events', columns)), '.*: ', ''), 200)
FROM (SELECT proname, string_agg(format(call, '') || format(' AS c%s, ', aggfnoid::oid) ||
        format(call, ' FILTER (WHERE id % 30 = 0 AND id > 300)') || format(' AS f%s', aggfnoid::oid), ', ' ORDER BY aggfnoid::oid) AS columns
      FROM variant GROUP BY proname) v;
-- Lists of values can be combined from PostgreSQL 16 on.
CREATE FUNCTION common.sorted(anyarray) RETURNS anyarray LANGUAGE sql IMMUTABLE AS $$ SELECT array_agg(x ORDER BY x) FROM unnest($1) x $$;
SELECT current_setting('server_version_num')::int >= 160000 AS lists \gset
\if :lists
SELECT c FROM create_view('agg lists', $$
  SELECT g, sorted(array_agg(i4)) AS i4, sorted(array_agg(t)) AS t, sorted(array_agg(n) FILTER (WHERE id % 3 = 0)) AS n, array_length(array_agg(a) FILTER (WHERE a IS NOT NULL), 1) AS a,
         sorted(string_to_array(string_agg(t, '|'), '|')) AS s, length(string_agg(y, '\x00')) AS y, any_value(g) AS any
  FROM events GROUP BY g $$) c WHERE c NOT LIKE '%: created';
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
SELECT create_view('no_rows', $$ SELECT g, count(*), sum(n), max(t) FROM events WHERE id < 0 GROUP BY g $$);
SELECT create_view('no_rows_one', $$ SELECT count(*), sum(n), max(t), regr_count(f8, f8), bool_and(b), stddev(i4) FROM events WHERE id < 0 $$);
SELECT create_view('null_group', $$ SELECT count(*) AS n, count(i4), sum(i4), avg(n), max(t), bool_or(b), var_samp(f8), bit_xor(i8) FROM events WHERE g = 3 $$);
SELECT create_view('one_value', $$ SELECT id, stddev(n), var_pop(i8), corr(f8, f8) IS NULL AS none, avg(iv) FROM events WHERE id % 50 = 1 GROUP BY id $$);
COMMIT;

-- Aggregates of one's own: strict or not, with a final function that wants the
-- arguments' types, with state types of all kinds.
CREATE FUNCTION common.longer(text, text) RETURNS text LANGUAGE sql IMMUTABLE STRICT
  AS $$ SELECT CASE WHEN length($2) > length($1) OR length($2) = length($1) AND $2 > $1 THEN $2 ELSE $1 END $$;
CREATE AGGREGATE common.longest(text) (sfunc = longer, stype = text, combinefunc = longer);
CREATE FUNCTION common.null_count(bigint, anyelement) RETURNS bigint LANGUAGE sql IMMUTABLE
  AS $$ SELECT coalesce($1, 0) + ($2 IS NULL)::int $$;
CREATE AGGREGATE common.count_nulls(anyelement) (sfunc = null_count, stype = bigint, combinefunc = int8pl, initcond = '0');
CREATE FUNCTION common.shown(anycompatiblearray) RETURNS text LANGUAGE sql IMMUTABLE
  AS $$ SELECT string_agg(x::text, ',' ORDER BY x) FROM unnest($1) x $$;
CREATE AGGREGATE common.collected(anycompatiblearray)
  (sfunc = array_cat, stype = anycompatiblearray, combinefunc = array_cat, initcond = '{}');
CREATE AGGREGATE common.collected_text(anycompatiblearray)
  (sfunc = array_cat, stype = anycompatiblearray, combinefunc = array_cat, finalfunc = shown);
CREATE AGGREGATE common.my_avg(numeric) (sfunc = numeric_avg_accum, stype = internal, finalfunc = numeric_avg,
  combinefunc = numeric_avg_combine, serialfunc = numeric_avg_serialize, deserialfunc = numeric_avg_deserialize);
CREATE TYPE common.extent AS (low int, high int, note text);
CREATE FUNCTION common.extend(extent, int, text) RETURNS extent LANGUAGE sql IMMUTABLE
  AS $$ SELECT (least(($1).low, $2), greatest(($1).high, $2), coalesce(($1).note, $3))::extent $$;
CREATE FUNCTION common.extend(extent, extent) RETURNS extent LANGUAGE sql IMMUTABLE
  AS $$ SELECT (least(($1).low, ($2).low), greatest(($1).high, ($2).high), coalesce(($1).note, ($2).note))::extent $$;
CREATE FUNCTION common.extent_width(extent, int, text) RETURNS text LANGUAGE sql IMMUTABLE
  AS $$ SELECT (($1).high - ($1).low) || ($1).note || coalesce($2::text, ' no argument') $$;
CREATE AGGREGATE common.width(int, text) (sfunc = extend, stype = extent, combinefunc = extend,
  finalfunc = extent_width, finalfunc_extra);
CREATE AGGREGATE common.extent(int, text) (sfunc = extend, stype = extent, combinefunc = extend);
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
