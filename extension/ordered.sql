
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
