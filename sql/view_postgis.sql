--
-- PostGIS's aggregates in continuous views, where it is installed.
--
SELECT count(*) = 0 AS missing FROM pg_available_extensions WHERE name = 'postgis' \gset
\if :missing
\q
\endif
\i sql/setup.inc
\i sql/window.inc
CREATE EXTENSION postgis SCHEMA common;
CREATE TABLE plain.events (id int, g int, x float8, y float8, event_time timestamptz);
SELECT create_stream('events', partitions => 2);
CREATE FUNCTION rows(first int, last int) RETURNS text LANGUAGE sql RETURN format($$
  SELECT id, nullif(id %% 5, 0), CASE WHEN id %% 7 > 0 AND id %% 5 <> 3 THEN (id * 7919) %% 101 / 4.0 END, (id * 31) %% 97 / 4.0,
    now() - (ARRAY['4 minutes', '50 minutes', '2 hours', '-10 minutes'])[(id / 7) %% 4 + 1]::interval
  FROM generate_series(%s, %s) id $$, first, last);
-- the same geometry, whatever the order of its points
CREATE FUNCTION common.shape(geometry) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = common AS $$ SELECT ST_AsText(ST_Normalize($1)) $$;
SELECT create_view('union', $$ SELECT g, ST_Extent(ST_Point(x, y)) AS extent, ST_3DExtent(ST_MakePoint(x, y, x - y)) AS extent3, shape(ST_Union(ST_Point(x, y))) AS points,
  shape(ST_MemUnion(ST_Point(x, y))) AS mem, ST_Area(ST_Union(ST_Buffer(ST_Point(x, y), 1, 2))) > 3 * count(x) / 100 AS area, ST_Extent(ST_Point(x, y)) FILTER (WHERE id % 3 = 0) AS f FROM events GROUP BY g $$);
SELECT create_view('union of all', $$ SELECT ST_Extent(ST_Point(x, y)) AS extent, shape(ST_Union(ST_Point(x, y))) AS points, shape(ST_Union(ST_Point(x, y)) FILTER (WHERE id < 0)) AS none FROM events $$);
SELECT create_view('parts', $$ SELECT g, id % 4 AS part, ST_Extent(ST_Point(x, y)) AS extent, shape(ST_Union(ST_Point(x, y))) AS points FROM events GROUP BY 1, 2 $$);
SELECT create_window('recent', $$ SELECT g, ST_Extent(ST_Point(x, y)) AS extent, shape(ST_Union(ST_Point(x, y))) AS points FROM events /*where*/ GROUP BY g $$, :'in');
SELECT feed('events', rows(1, 120));
SELECT check_views();
SELECT feed('events', rows(121, 300));
SELECT check_views();
SELECT compare('combined', 'SELECT g, millrace.combine(extent) AS extent, millrace.combine(points) AS points FROM live.parts GROUP BY g',
  'SELECT g, ST_Extent(ST_Point(x, y)) AS extent, shape(ST_Union(ST_Point(x, y))) AS points FROM plain.events GROUP BY g');
SELECT compare('combined of all', 'SELECT millrace.combine(extent) AS extent, millrace.combine(points) AS points FROM live.parts',
  'SELECT ST_Extent(ST_Point(x, y)) AS extent, shape(ST_Union(ST_Point(x, y))) AS points FROM plain.events');
\i sql/teardown.inc
