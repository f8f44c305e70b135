--
-- The extension's aggregates in continuous views: incrementally, in windows, combined
-- further, and in all ways that a batch is aggregated.
--
\i sql/setup.inc
\i sql/aggregates.inc
\i sql/window.inc

-- Each call in a form that leaves nothing to chance: what has no order is sorted.
CREATE FUNCTION common.sorted(anyarray) RETURNS anyarray LANGUAGE sql IMMUTABLE AS $$ SELECT array_agg(x ORDER BY x) FROM unnest($1) x $$;
CREATE TABLE tools.call (id serial, name text, call text);
INSERT INTO tools.call (name, call) VALUES
  ('first', 'millrace.first(t, i4)%s'), ('first', 'millrace.first(i8, tstz)%s'), ('first', 'millrace.first(e, n)%s'), ('first', 'millrace.first(ta, u)%s'),
  ('last', 'millrace.last(t, id)%s'), ('last', 'millrace.last(n, f8)%s'), ('last', 'millrace.last(b, t)%s'), ('last', 'millrace.last(iv, iv)%s'),
  ('by', 'millrace.min_by(i4, t)%s'), ('by', 'millrace.max_by(mr, i2)%s'), ('by', 'millrace.min_by(id, x8)%s'), ('by', 'millrace.max_by(id, xn)%s'),
  ('first_n', 'millrace.first(t, i4, 3)%s'), ('first_n', 'millrace.last(u, id, 40)%s'), ('first_n', 'millrace.first(id, b, 5)%s'),
  ('array', 'sorted(millrace.array_agg(t)%s)'), ('array', 'millrace.array_agg(n, id)%s'), ('array', 'millrace.array_agg(e, t)%s'), ('array', 'millrace.array_agg(r, -id)%s'),
  ('string', $$sorted(string_to_array(millrace.string_agg(t, '|')%s, '|'))$$), ('string', $$millrace.string_agg(t, ', ', id)%s$$), ('string', $$millrace.string_agg(y, '\x00', -id)%s$$),
  ('object', $$millrace.jsonb_object_agg('k' || id %% 5, to_jsonb(t), id)%s$$), ('object', $$millrace.jsonb_object_agg('k' || id %% 5, to_jsonb(f8))%s$$),
  ('object', $$millrace.json_object_agg('k' || id %% 3, to_jsonb(t), -id)%s::text$$),
  ('set', 'millrace.set_agg(t)%s'), ('set', 'millrace.set_agg(n)%s'), ('set', 'millrace.set_agg(x8)%s'), ('set', 'millrace.set_agg(e)%s'), ('set', 'millrace.set_agg(c)%s'), ('set', 'millrace.set_agg(r)%s'),
  ('count_distinct', 'millrace.count_distinct(t)%s'), ('count_distinct', 'millrace.count_distinct(n)%s'), ('count_distinct', 'millrace.count_distinct(a)%s'), ('count_distinct', 'millrace.count_distinct(x8)%s'),
  ('count_distinct', 'millrace.count_distinct(i8)%s'), ('count_distinct', 'millrace.count_distinct(tz)%s'), ('count_distinct', 'millrace.count_distinct(e)%s'), ('count_distinct', 'millrace.count_distinct(lower(t) COLLATE nocase)%s'),
  ('hll', 'millrace.approx_count_distinct(t)%s'), ('hll', 'millrace.approx_count_distinct(n, 8)%s'), ('hll', 'millrace.hll_agg(i4)%s'), ('hll', 'millrace.hll_agg(id, 6)%s'),
  ('hll', 'millrace.hll_cardinality(millrace.hll_union_agg(millrace.hll_add(millrace.hll_empty(), t))%s)'),
  ('dist', 'millrace.approx_percentile(f8, 0.9)%s'), ('dist', 'millrace.approx_percentile(x8, 0.5, 0.1)%s'), ('dist', 'millrace.dist_agg(n)%s'),
  ('dist', 'millrace.dist_quantile(millrace.dist_agg(i4)%s, ARRAY[0.5, 0.99])'), ('dist', 'millrace.dist_cdf(millrace.dist_agg(f4)%s, 1)'),
  ('cmsketch', 'millrace.cmsketch_agg(t)%s'), ('cmsketch', 'millrace.cmsketch_frequency(millrace.cmsketch_agg(i2, 0.1, 0.9)%s, 7::smallint)'), ('cmsketch', 'millrace.cmsketch_total(millrace.cmsketch_agg(e)%s)'),
  ('bloom', 'millrace.bloom_agg(t)%s'), ('bloom', 'millrace.bloom_contains(millrace.bloom_agg(i4, 0.1, 100)%s, 5)'), ('bloom', 'millrace.bloom_cardinality(millrace.bloom_agg(u)%s)'),
  ('topk', 'millrace.topk(c, 3)%s'), ('topk', 'millrace.topk(e, 2)%s'), ('topk', 'millrace.topk(f8, 10)%s'), ('topk', 'millrace.topk(a, 5)%s'), ('topk', 'millrace.topk(lower(vc) COLLATE nocase, 4)%s');
CREATE COLLATION common.nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE VIEW tools.calls AS
  SELECT name, string_agg(format(call, '') || format(' AS c%s, ', id) || format(call, ' FILTER (WHERE id % 3 = 0)') || format(' AS f%s', id), ', ' ORDER BY id) AS columns,
    string_agg(format('millrace.combine(c%1$s) AS c%1$s, millrace.combine(f%1$s) AS f%1$s', id), ', ' ORDER BY id) AS combined
  FROM call GROUP BY name;

-- With groups, without, in a window, and in parts that are combined.
SELECT feed('events', rows(1, 250));
SELECT name, create_view('agg ' || name, format('SELECT g, %s FROM events GROUP BY g', columns)) ~ 'created$' AS g,
  create_view('one ' || name, format('SELECT %s FROM events', columns)) ~ 'created$' AS one,
  create_view('few ' || name, format('SELECT g, %s FROM events WHERE id < 0 OR id > 600 GROUP BY g', columns)) ~ 'created$' AS few,
  create_view('none ' || name, format('SELECT %s FROM events WHERE id < 0', columns)) ~ 'created$' AS none,
  create_view('part ' || name, format('SELECT g, id %% 5 AS part, id %% 3 AS third, %s FROM events GROUP BY 1, 2, 3', columns)) ~ 'created$' AS part,
  create_window('win ' || name, format('SELECT g, %s FROM events /*where*/ GROUP BY g', columns), :'in') ~ 'created$' AS win,
  create_window('win one ' || name, format('SELECT %s FROM events /*where*/', columns), :'in') ~ 'created$' AS win_one
FROM calls ORDER BY name;
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
SELECT feed('events', rows(251, 420));
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
SELECT feed('events', rows(421, 421));
SELECT feed('events', rows(422, 600));
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
SELECT c FROM calls, compare(name, format('SELECT g, part, %s FROM live.%I GROUP BY 1, 2', combined, 'part ' || name),
  format('SELECT g, id %% 5 AS part, %s FROM plain.events GROUP BY 1, 2', columns)) c WHERE c NOT LIKE '%: equal';
SELECT c FROM calls, compare(name, format('SELECT %s FROM live.%I', combined, 'part ' || name), format('SELECT %s FROM plain.events', columns)) c WHERE c NOT LIKE '%: equal';
SELECT c FROM calls, compare(name, format('SELECT %s FROM live.%I WHERE part > 10', combined, 'part ' || name),
  format('SELECT %s FROM plain.events WHERE id < 0', columns)) c WHERE c NOT LIKE '%: equal';
SELECT c FROM calls, compare(name, format('SELECT %s FROM live.%I', combined, 'win ' || name),
  format('SELECT %s FROM plain.events %s', columns, :'in')) c WHERE c NOT LIKE '%: equal';
SELECT count(*) > 50 AS many FROM made;

-- Messages that the view cannot take are left out, and only they.
SELECT create_view('careful', 'SELECT g, millrace.last(t, 100 / (id + 7)) AS l, millrace.count_distinct(10 / (id + 8)) AS n, millrace.set_agg(t) AS s FROM events GROUP BY g');
INSERT INTO live.events (id, g) VALUES (-7, 1), (-8, 2);
SELECT feed('events', rows(601, 607));
SELECT check_view('careful');
SELECT count(*), min(sqlstate) FROM millrace.dead_letters WHERE view = 'live.careful'::regclass;
-- Groups that are too old.
SELECT millrace.create_continuous_view('live.kept', $$ SELECT date_trunc('hour', event_time) AS h, millrace.set_agg(t) AS s, millrace.last(t, id) AS l, millrace.count_distinct(n) AS n
  FROM live.events GROUP BY 1 $$, retention => '6 hours', retention_column => 'h');
SELECT millrace.wait_for_latest('live.kept', timeout => tools.patience());
SELECT compare('kept', 'SELECT * FROM live.kept', $$ SELECT date_trunc('hour', event_time) AS h, millrace.set_agg(t) AS s, millrace.last(t, id) AS l, millrace.count_distinct(n) AS n
  FROM plain.events WHERE date_trunc('hour', event_time) >= now() - interval '6 hours' OR event_time IS NULL GROUP BY 1 $$);

-- A summary that is no longer exact keeps its bound over batches, steps and parts.
CREATE TABLE plain.clicks (k int, part int);
SELECT create_stream('clicks', partitions => 2);
SELECT millrace.create_continuous_view('live.top', 'SELECT part, millrace.topk(k, 10) AS top, count(k) AS n FROM live.clicks GROUP BY part');
SELECT feed('clicks', 'SELECT (i::bigint * i % 1009 * (i % 13))::int, i % 3 FROM generate_series(1, 3000) i'), feed('clicks', 'SELECT (i::bigint * i % 1009 * (i % 13))::int, i % 3 FROM generate_series(3001, 6000) i'),
  feed('clicks', 'SELECT (i::bigint * i % 1009 * (i % 13))::int, i % 3 FROM generate_series(6001, 9000) i');
SELECT millrace.wait_for_latest('live.top', timeout => tools.patience());
SELECT bool_and(r.n BETWEEN count AND count + error) AS within, bool_and(error <= t.n / 101) AS bounded, count(*) > 0 AS some FROM live.top t, jsonb_to_recordset(top) x (value int, count bigint, error bigint), LATERAL (SELECT count(*) AS n FROM plain.clicks c WHERE k = value AND c.part = t.part) r;
SELECT bool_and(r.n BETWEEN count AND count + error) AS within, bool_and(error <= 9000 / 101) AS bounded, count(*) > 0 AS some FROM (SELECT millrace.combine(top) AS top FROM live.top) t, jsonb_to_recordset(top) x (value int, count bigint, error bigint), LATERAL (SELECT count(*) AS n FROM plain.clicks c WHERE k = value) r;

-- Refused, with what to write instead.
SELECT refused($$ SELECT millrace.create_continuous_view('live.v', 'SELECT millrace.count_distinct((id, g)) FROM live.events') $$);
-- States of one aggregate are not those of another, nor of the same over another type.
SELECT refused($$ SELECT millrace.finalize('millrace.set_agg(anynonarray)'::regprocedure, c26, NULL::text[], NULL::text) IS NOT NULL FROM live."one set_mrel" $$);
SELECT refused($$ SELECT millrace.finalize('millrace.set_agg(anynonarray)'::regprocedure, c26, NULL::int[], NULL::int) FROM live."one set_mrel" $$);
SELECT refused($$ SELECT millrace.finalize('millrace.count_distinct(anyelement)'::regprocedure, c26, NULL::bigint, NULL::text) FROM live."one set_mrel" $$);
SELECT refused($$ SELECT millrace.finalize('millrace.count_distinct(anyelement)'::regprocedure, c26, NULL::bigint) FROM live."one set_mrel" $$);

-- Bytes of a state that somebody changed who may: an error, or something wrong, and never more than that.
CREATE FUNCTION tools.batter(state bytea, finalized text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  b bytea;
  seed bigint := 1;
BEGIN
  FOR n IN 1 .. 300 LOOP
    b := state;
    FOR j IN 0 .. n % 3 LOOP
      seed := seed * 48271 % 2147483647;
      b := set_byte(b, 8 + (seed % (length(b) - 8))::int, ((seed / 1000) % 256)::int);
    END LOOP;
    IF n % 4 = 0 THEN b := substr(b, 1, 8 + (seed % (length(b) - 8))::int); END IF;
    BEGIN
      EXECUTE format('SELECT ' || finalized, b);
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
  RETURN true;
END $$;
-- Types, kinds and numbers of columns that are not those of the aggregate.
CREATE FUNCTION tools.disguise(state bytea, finalized text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  b bytea;
BEGIN
  FOR kind IN 0 .. 5 LOOP
    FOR columns IN 0 .. 4 LOOP
      FOREACH b IN ARRAY ARRAY['\x00000017', '\x00000019', '\x00000014', '\x000003f1', '\x00000eda', '\x000006a4', '\x7fffffff']::bytea[] LOOP
        b := overlay(overlay(state PLACING b FROM 8 + 25) PLACING b FROM 8 + 29);
        b := set_byte(set_byte(b, 9, kind), 10, columns);
        BEGIN
          EXECUTE format('SELECT ' || finalized, b);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
      END LOOP;
    END LOOP;
  END LOOP;
  RETURN true;
END $$;
CREATE TABLE tools.state (name text, state bytea);
DO $$
DECLARE
  c record;
BEGIN
  FOR c IN SELECT attrelid, attname, relname FROM pg_attribute JOIN pg_class r ON r.oid = attrelid WHERE relname ~ '^agg (by|first_n|array|string|object|set|count_distinct|topk)_mrel$' AND attname ~ '^c[0-9]' LOOP
    EXECUTE format('INSERT INTO tools.state SELECT %L, millrace.state_send(%I) FROM %s WHERE g = 2', c.relname || ' ' || c.attname, c.attname, c.attrelid::regclass);
  END LOOP;
END $$;
SELECT count(*) > 20 AS many, bool_and(length(state) > 20) AS long FROM tools.state;
SELECT batter(state, $$ millrace.finalize('millrace.set_agg(anynonarray)'::regprocedure, %L::millrace.state, NULL::text[], NULL::text) $$) FROM tools.state WHERE name = (SELECT format('agg %s_mrel c%s', name, id) FROM tools.call WHERE strpos(call, 'set_agg(t)') > 0);
SELECT disguise(state, $$ millrace.finalize('millrace.set_agg(anynonarray)'::regprocedure, %L::millrace.state, NULL::text[], NULL::text) $$) FROM tools.state WHERE name = (SELECT format('agg %s_mrel c%s', name, id) FROM tools.call WHERE strpos(call, 'set_agg(t)') > 0);
SELECT batter(state, $$ millrace.finalize('millrace.count_distinct(anyelement)'::regprocedure, %L::millrace.state, NULL::bigint, NULL::int[]) $$) FROM tools.state WHERE name = (SELECT format('agg %s_mrel c%s', name, id) FROM tools.call WHERE strpos(call, 'count_distinct(a)') > 0);
SELECT disguise(state, $$ millrace.finalize('millrace.count_distinct(anyelement)'::regprocedure, %L::millrace.state, NULL::bigint, NULL::int[]) $$) FROM tools.state WHERE name = (SELECT format('agg %s_mrel c%s', name, id) FROM tools.call WHERE strpos(call, 'count_distinct(a)') > 0);
SELECT batter(state, $$ millrace.finalize('millrace.array_agg(anynonarray, anycompatible)'::regprocedure, %L::millrace.state, NULL::numeric[], NULL::numeric, NULL::int) $$) FROM tools.state WHERE name = (SELECT format('agg %s_mrel c%s', name, id) FROM tools.call WHERE strpos(call, 'array_agg(n, id)') > 0);
SELECT disguise(state, $$ millrace.finalize('millrace.array_agg(anynonarray, anycompatible)'::regprocedure, %L::millrace.state, NULL::numeric[], NULL::numeric, NULL::int) $$) FROM tools.state WHERE name = (SELECT format('agg %s_mrel c%s', name, id) FROM tools.call WHERE strpos(call, 'array_agg(n, id)') > 0);
SELECT batter(state, $$ millrace.finalize('millrace.jsonb_object_agg(text, jsonb, anycompatible)'::regprocedure, %L::millrace.state, NULL::jsonb, NULL::text, NULL::jsonb, NULL::int) $$) FROM tools.state WHERE name = (SELECT format('agg %s_mrel c%s', name, id) FROM tools.call WHERE strpos(call, 'to_jsonb(t), id)') > 0);
SELECT disguise(state, $$ millrace.finalize('millrace.jsonb_object_agg(text, jsonb, anycompatible)'::regprocedure, %L::millrace.state, NULL::jsonb, NULL::text, NULL::jsonb, NULL::int) $$) FROM tools.state WHERE name = (SELECT format('agg %s_mrel c%s', name, id) FROM tools.call WHERE strpos(call, 'to_jsonb(t), id)') > 0);
SELECT batter(state, $$ millrace.finalize('millrace.min_by(anyelement, anycompatible)'::regprocedure, %L::millrace.state, NULL::int, NULL::int, NULL::text) $$) FROM tools.state WHERE name = (SELECT format('agg %s_mrel c%s', name, id) FROM tools.call WHERE strpos(call, 'min_by(i4, t)') > 0);
SELECT disguise(state, $$ millrace.finalize('millrace.min_by(anyelement, anycompatible)'::regprocedure, %L::millrace.state, NULL::int, NULL::int, NULL::text) $$) FROM tools.state WHERE name = (SELECT format('agg %s_mrel c%s', name, id) FROM tools.call WHERE strpos(call, 'min_by(i4, t)') > 0);
SELECT batter(state, $$ millrace.finalize('millrace.topk(anyelement, integer)'::regprocedure, %L::millrace.state, NULL::jsonb, NULL::double precision, NULL::int) $$) FROM tools.state WHERE name = (SELECT format('agg %s_mrel c%s', name, id) FROM tools.call WHERE strpos(call, 'topk(f8, 10)') > 0);

\i sql/teardown.inc
