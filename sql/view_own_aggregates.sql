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
  ('count_distinct', 'millrace.count_distinct(i8)%s'), ('count_distinct', 'millrace.count_distinct(tz)%s'), ('count_distinct', 'millrace.count_distinct(e)%s'), ('count_distinct', 'millrace.count_distinct(lower(t) COLLATE nocase)%s');
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
SELECT millrace.wait_for_latest('live.kept', timeout => '60s');
SELECT compare('kept', 'SELECT * FROM live.kept', $$ SELECT date_trunc('hour', event_time) AS h, millrace.set_agg(t) AS s, millrace.last(t, id) AS l, millrace.count_distinct(n) AS n
  FROM plain.events WHERE date_trunc('hour', event_time) >= now() - interval '6 hours' OR event_time IS NULL GROUP BY 1 $$);

-- Refused, with what to write instead.
SELECT refused($$ SELECT millrace.create_continuous_view('live.v', 'SELECT millrace.count_distinct((id, g)) FROM live.events') $$);
SELECT refused($$ SELECT millrace.create_continuous_view('live.v', 'SELECT jsonb_object_agg(t, id) FROM live.events') $$);
-- States of one aggregate are not those of another, nor of the same over another type.
SELECT refused($$ SELECT millrace.finalize('millrace.set_agg(anynonarray)'::regprocedure, c26, NULL::text[], NULL::text) IS NOT NULL FROM live."one set_mrel" $$);
SELECT refused($$ SELECT millrace.finalize('millrace.set_agg(anynonarray)'::regprocedure, c26, NULL::int[], NULL::int) FROM live."one set_mrel" $$);
SELECT refused($$ SELECT millrace.finalize('millrace.count_distinct(anyelement)'::regprocedure, c26, NULL::bigint, NULL::text) FROM live."one set_mrel" $$);
SELECT refused($$ SELECT millrace.finalize('millrace.count_distinct(anyelement)'::regprocedure, c26, NULL::bigint) FROM live."one set_mrel" $$);

\i sql/teardown.inc
