
/* what continuous views show instead of aggregates that cannot be combined: see view/substitute.c */

CREATE FUNCTION millrace.rank_after(before bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN before + 1;
COMMENT ON FUNCTION millrace.rank_after(bigint) IS 'rank() of a row, from how many rows come before it';
CREATE FUNCTION millrace.percent_rank_after(before bigint, rows bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN rows = 0 THEN 0 ELSE before::double precision / rows END;
COMMENT ON FUNCTION millrace.percent_rank_after(bigint, bigint)
  IS 'percent_rank() of a row, from how many rows come before it and how many there are';
CREATE FUNCTION millrace.cume_dist_after(before bigint, rows bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (before + 1)::double precision / (rows + 1);
COMMENT ON FUNCTION millrace.cume_dist_after(bigint, bigint)
  IS 'cume_dist() of a row, from how many rows come before it or are its peers and how many there are';
CREATE FUNCTION millrace.dense_rank_after("distinct" bigint, nulls bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN "distinct" + CASE WHEN nulls > 0 THEN 2 ELSE 1 END;
COMMENT ON FUNCTION millrace.dense_rank_after(bigint, bigint)
  IS 'dense_rank() of a row, from how many distinct values, and how many nulls, come before it';
CREATE FUNCTION millrace.rank_after(before bigint, of_group boolean) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN millrace.rank_after(before);
COMMENT ON FUNCTION millrace.rank_after(bigint, boolean) IS 'rank() of a row that its group gives';
CREATE FUNCTION millrace.percent_rank_after(before bigint, rows bigint, of_group boolean) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN millrace.percent_rank_after(before, rows);
COMMENT ON FUNCTION millrace.percent_rank_after(bigint, bigint, boolean) IS 'percent_rank() of a row that its group gives';
CREATE FUNCTION millrace.cume_dist_after(before bigint, rows bigint, of_group boolean) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN millrace.cume_dist_after(before, rows);
COMMENT ON FUNCTION millrace.cume_dist_after(bigint, bigint, boolean) IS 'cume_dist() of a row that its group gives';
CREATE FUNCTION millrace.dense_rank_after("distinct" bigint, nulls bigint, of_group boolean) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN millrace.dense_rank_after("distinct", nulls);
COMMENT ON FUNCTION millrace.dense_rank_after(bigint, bigint, boolean) IS 'dense_rank() of a row that its group gives';
CREATE FUNCTION millrace.percentile_cont_of("values" double precision[], descending boolean, fraction double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN $2 THEN (SELECT pg_catalog.percentile_cont($3) WITHIN GROUP (ORDER BY v DESC) FROM pg_catalog.unnest($1) v)
              ELSE (SELECT pg_catalog.percentile_cont($3) WITHIN GROUP (ORDER BY v) FROM pg_catalog.unnest($1) v) END $$;
COMMENT ON FUNCTION millrace.percentile_cont_of(double precision[], boolean, double precision) IS 'percentile_cont() of an array';
CREATE FUNCTION millrace.percentile_cont_of("values" double precision[], descending boolean, fractions double precision[]) RETURNS double precision[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN $2 THEN (SELECT pg_catalog.percentile_cont($3) WITHIN GROUP (ORDER BY v DESC) FROM pg_catalog.unnest($1) v)
              ELSE (SELECT pg_catalog.percentile_cont($3) WITHIN GROUP (ORDER BY v) FROM pg_catalog.unnest($1) v) END $$;
COMMENT ON FUNCTION millrace.percentile_cont_of(double precision[], boolean, double precision[]) IS 'percentile_cont() of an array';
CREATE FUNCTION millrace.percentile_cont_of("values" interval[], descending boolean, fraction double precision) RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN $2 THEN (SELECT pg_catalog.percentile_cont($3) WITHIN GROUP (ORDER BY v DESC) FROM pg_catalog.unnest($1) v)
              ELSE (SELECT pg_catalog.percentile_cont($3) WITHIN GROUP (ORDER BY v) FROM pg_catalog.unnest($1) v) END $$;
COMMENT ON FUNCTION millrace.percentile_cont_of(interval[], boolean, double precision) IS 'percentile_cont() of an array';
CREATE FUNCTION millrace.percentile_cont_of("values" interval[], descending boolean, fractions double precision[]) RETURNS interval[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN $2 THEN (SELECT pg_catalog.percentile_cont($3) WITHIN GROUP (ORDER BY v DESC) FROM pg_catalog.unnest($1) v)
              ELSE (SELECT pg_catalog.percentile_cont($3) WITHIN GROUP (ORDER BY v) FROM pg_catalog.unnest($1) v) END $$;
COMMENT ON FUNCTION millrace.percentile_cont_of(interval[], boolean, double precision[]) IS 'percentile_cont() of an array';
CREATE FUNCTION millrace.percentile_disc_of("values" anyarray, descending boolean, fraction double precision) RETURNS anyelement
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN $2 THEN (SELECT pg_catalog.percentile_disc($3) WITHIN GROUP (ORDER BY v DESC) FROM pg_catalog.unnest($1) v)
              ELSE (SELECT pg_catalog.percentile_disc($3) WITHIN GROUP (ORDER BY v) FROM pg_catalog.unnest($1) v) END $$;
COMMENT ON FUNCTION millrace.percentile_disc_of(anyarray, boolean, double precision) IS 'percentile_disc() of an array';
CREATE FUNCTION millrace.percentile_disc_of("values" anyarray, descending boolean, fractions double precision[]) RETURNS anyarray
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN $2 THEN (SELECT pg_catalog.percentile_disc($3) WITHIN GROUP (ORDER BY v DESC) FROM pg_catalog.unnest($1) v)
              ELSE (SELECT pg_catalog.percentile_disc($3) WITHIN GROUP (ORDER BY v) FROM pg_catalog.unnest($1) v) END $$;
COMMENT ON FUNCTION millrace.percentile_disc_of(anyarray, boolean, double precision[]) IS 'percentile_disc() of an array';
CREATE FUNCTION millrace.mode_of("values" anyarray, descending boolean) RETURNS anyelement
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN $2 THEN (SELECT pg_catalog.mode() WITHIN GROUP (ORDER BY v DESC) FROM pg_catalog.unnest($1) v)
              ELSE (SELECT pg_catalog.mode() WITHIN GROUP (ORDER BY v) FROM pg_catalog.unnest($1) v) END $$;
COMMENT ON FUNCTION millrace.mode_of(anyarray, boolean) IS 'mode() of an array';
CREATE FUNCTION millrace.json_agg_of("values" anyarray) RETURNS json
LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT pg_catalog.json_agg(v) FROM (SELECT pg_catalog.unnest($1)) q (v) $$;
COMMENT ON FUNCTION millrace.json_agg_of(anyarray) IS 'json_agg() of an array''s elements';
CREATE FUNCTION millrace.jsonb_agg_of("values" anyarray) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT pg_catalog.jsonb_agg(v) FROM (SELECT pg_catalog.unnest($1)) q (v) $$;
COMMENT ON FUNCTION millrace.jsonb_agg_of(anyarray) IS 'jsonb_agg() of an array''s elements';
CREATE FUNCTION millrace.json_object_agg_of(objects text[]) RETURNS json
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT ('{ ' || string_agg(substr(o, 2, length(o) - 2), ', ' ORDER BY n) || ' }')::json
        FROM unnest(objects) WITH ORDINALITY u(o, n));
COMMENT ON FUNCTION millrace.json_object_agg_of(text[]) IS 'json_object_agg() of what objects of one field each hold';
CREATE FUNCTION millrace.jsonb_object_agg_of(objects text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN millrace.json_object_agg_of(objects)::jsonb;
COMMENT ON FUNCTION millrace.jsonb_object_agg_of(text[]) IS 'jsonb_object_agg() of what objects of one field each hold';
