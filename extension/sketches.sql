------------------------------------------------------------------------------
-- Sketches: aggregates that are approximate, with a bound on the error; see README.md
------------------------------------------------------------------------------

-- distinct values: HyperLogLog

CREATE TYPE millrace.hll;
CREATE FUNCTION millrace.hll_in(cstring) RETURNS millrace.hll
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_hll_in';
COMMENT ON FUNCTION millrace.hll_in(cstring) IS 'I/O';
CREATE FUNCTION millrace.hll_out(millrace.hll) RETURNS cstring
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_sketch_out';
COMMENT ON FUNCTION millrace.hll_out(millrace.hll) IS 'I/O';
CREATE FUNCTION millrace.hll_recv(internal) RETURNS millrace.hll
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_hll_recv';
COMMENT ON FUNCTION millrace.hll_recv(internal) IS 'I/O';
CREATE FUNCTION millrace.hll_send(millrace.hll) RETURNS bytea
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_sketch_send';
COMMENT ON FUNCTION millrace.hll_send(millrace.hll) IS 'I/O';
CREATE TYPE millrace.hll (INPUT = millrace.hll_in, OUTPUT = millrace.hll_out,
  RECEIVE = millrace.hll_recv, SEND = millrace.hll_send, STORAGE = extended);
COMMENT ON TYPE millrace.hll IS 'which values came, for how many distinct ones there are: HyperLogLog';

CREATE FUNCTION millrace.hll_combine(internal, internal) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_hll_combine';
COMMENT ON FUNCTION millrace.hll_combine(internal, internal) IS 'aggregate combine function';
CREATE FUNCTION millrace.hll_write(internal) RETURNS bytea
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_hll_write';
COMMENT ON FUNCTION millrace.hll_write(internal) IS 'aggregate serial function';
CREATE FUNCTION millrace.hll_read(bytea, internal) RETURNS internal
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_hll_read';
COMMENT ON FUNCTION millrace.hll_read(bytea, internal) IS 'aggregate deserial function';
CREATE FUNCTION millrace.hll_final(internal) RETURNS millrace.hll
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_hll_write';
COMMENT ON FUNCTION millrace.hll_final(internal) IS 'aggregate final function';

CREATE FUNCTION millrace.hll_transition(internal, anyelement) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_hll_transition';
COMMENT ON FUNCTION millrace.hll_transition(internal, anyelement) IS 'aggregate transition function';
CREATE FUNCTION millrace.hll_transition(internal, anyelement, integer) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_hll_transition';
COMMENT ON FUNCTION millrace.hll_transition(internal, anyelement, integer) IS 'aggregate transition function';
CREATE FUNCTION millrace.hll_union_transition(internal, millrace.hll) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_hll_union_transition';
COMMENT ON FUNCTION millrace.hll_union_transition(internal, millrace.hll) IS 'aggregate transition function';
CREATE FUNCTION millrace.hll_count_final(internal) RETURNS bigint
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_hll_count_final';
COMMENT ON FUNCTION millrace.hll_count_final(internal) IS 'aggregate final function';

CREATE AGGREGATE millrace.approx_count_distinct(value anyelement) (
  SFUNC = millrace.hll_transition, STYPE = internal, FINALFUNC = millrace.hll_count_final,
  COMBINEFUNC = millrace.hll_combine, SERIALFUNC = millrace.hll_write,
  DESERIALFUNC = millrace.hll_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.approx_count_distinct(anyelement)
  IS 'about how many distinct values there are that are not null; standard error 0.8%';
CREATE AGGREGATE millrace.approx_count_distinct(value anyelement, p integer) (
  SFUNC = millrace.hll_transition, STYPE = internal, FINALFUNC = millrace.hll_count_final,
  COMBINEFUNC = millrace.hll_combine, SERIALFUNC = millrace.hll_write,
  DESERIALFUNC = millrace.hll_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.approx_count_distinct(anyelement, integer)
  IS 'about how many distinct values there are that are not null; standard error 1.04 / sqrt(2 ^ p)';
CREATE AGGREGATE millrace.hll_agg(value anyelement) (
  SFUNC = millrace.hll_transition, STYPE = internal, FINALFUNC = millrace.hll_final,
  COMBINEFUNC = millrace.hll_combine, SERIALFUNC = millrace.hll_write,
  DESERIALFUNC = millrace.hll_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.hll_agg(anyelement)
  IS 'a sketch of the distinct values, for hll_cardinality()';
CREATE AGGREGATE millrace.hll_agg(value anyelement, p integer) (
  SFUNC = millrace.hll_transition, STYPE = internal, FINALFUNC = millrace.hll_final,
  COMBINEFUNC = millrace.hll_combine, SERIALFUNC = millrace.hll_write,
  DESERIALFUNC = millrace.hll_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.hll_agg(anyelement, integer)
  IS 'a sketch of the distinct values, of 2 ^ p registers';
CREATE AGGREGATE millrace.hll_union_agg(sketch millrace.hll) (
  SFUNC = millrace.hll_union_transition, STYPE = internal, FINALFUNC = millrace.hll_final,
  COMBINEFUNC = millrace.hll_combine, SERIALFUNC = millrace.hll_write,
  DESERIALFUNC = millrace.hll_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.hll_union_agg(millrace.hll)
  IS 'the sketch of all that went into these';

CREATE FUNCTION millrace.hll_empty(p integer DEFAULT 14) RETURNS millrace.hll
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_hll_empty';
COMMENT ON FUNCTION millrace.hll_empty(integer) IS 'a sketch of no values';
CREATE FUNCTION millrace.hll_add(sketch millrace.hll, value anyelement) RETURNS millrace.hll
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_hll_add';
COMMENT ON FUNCTION millrace.hll_add(millrace.hll, anyelement) IS 'a sketch with one more value';
CREATE FUNCTION millrace.hll_union(millrace.hll, millrace.hll) RETURNS millrace.hll
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_hll_union';
COMMENT ON FUNCTION millrace.hll_union(millrace.hll, millrace.hll) IS 'the sketch of all that went into both';
CREATE FUNCTION millrace.hll_cardinality(sketch millrace.hll) RETURNS bigint
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_hll_cardinality';
COMMENT ON FUNCTION millrace.hll_cardinality(millrace.hll) IS 'about how many distinct values went into a sketch';

-- quantiles: DDSketch

CREATE TYPE millrace.dist;
CREATE FUNCTION millrace.dist_in(cstring) RETURNS millrace.dist
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_dist_in';
COMMENT ON FUNCTION millrace.dist_in(cstring) IS 'I/O';
CREATE FUNCTION millrace.dist_out(millrace.dist) RETURNS cstring
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_sketch_out';
COMMENT ON FUNCTION millrace.dist_out(millrace.dist) IS 'I/O';
CREATE FUNCTION millrace.dist_recv(internal) RETURNS millrace.dist
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_dist_recv';
COMMENT ON FUNCTION millrace.dist_recv(internal) IS 'I/O';
CREATE FUNCTION millrace.dist_send(millrace.dist) RETURNS bytea
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_sketch_send';
COMMENT ON FUNCTION millrace.dist_send(millrace.dist) IS 'I/O';
CREATE TYPE millrace.dist (INPUT = millrace.dist_in, OUTPUT = millrace.dist_out,
  RECEIVE = millrace.dist_recv, SEND = millrace.dist_send, STORAGE = extended);
COMMENT ON TYPE millrace.dist IS 'a distribution of numbers, for its quantiles: DDSketch';

CREATE FUNCTION millrace.dist_combine(internal, internal) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_dist_combine';
COMMENT ON FUNCTION millrace.dist_combine(internal, internal) IS 'aggregate combine function';
CREATE FUNCTION millrace.dist_write(internal) RETURNS bytea
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_dist_write';
COMMENT ON FUNCTION millrace.dist_write(internal) IS 'aggregate serial function';
CREATE FUNCTION millrace.dist_read(bytea, internal) RETURNS internal
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_dist_read';
COMMENT ON FUNCTION millrace.dist_read(bytea, internal) IS 'aggregate deserial function';
CREATE FUNCTION millrace.dist_final(internal) RETURNS millrace.dist
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_dist_write';
COMMENT ON FUNCTION millrace.dist_final(internal) IS 'aggregate final function';

CREATE FUNCTION millrace.dist_transition(internal, double precision) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_dist_transition';
COMMENT ON FUNCTION millrace.dist_transition(internal, double precision) IS 'aggregate transition function';
CREATE FUNCTION millrace.dist_transition(internal, double precision, double precision) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_dist_transition';
COMMENT ON FUNCTION millrace.dist_transition(internal, double precision, double precision) IS 'aggregate transition function';
CREATE FUNCTION millrace.dist_union_transition(internal, millrace.dist) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_dist_union_transition';
COMMENT ON FUNCTION millrace.dist_union_transition(internal, millrace.dist) IS 'aggregate transition function';
CREATE FUNCTION millrace.percentile_transition(internal, double precision, double precision) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_percentile_transition';
COMMENT ON FUNCTION millrace.percentile_transition(internal, double precision, double precision) IS 'aggregate transition function';
CREATE FUNCTION millrace.percentile_transition(internal, double precision, double precision, double precision) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_percentile_transition';
COMMENT ON FUNCTION millrace.percentile_transition(internal, double precision, double precision, double precision) IS 'aggregate transition function';
CREATE FUNCTION millrace.percentile_final(internal) RETURNS double precision
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_percentile_final';
COMMENT ON FUNCTION millrace.percentile_final(internal) IS 'aggregate final function';

CREATE AGGREGATE millrace.approx_percentile(value double precision, fraction double precision) (
  SFUNC = millrace.percentile_transition, STYPE = internal, FINALFUNC = millrace.percentile_final,
  COMBINEFUNC = millrace.dist_combine, SERIALFUNC = millrace.dist_write,
  DESERIALFUNC = millrace.dist_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.approx_percentile(double precision, double precision)
  IS 'about the value that this fraction of all is no greater than, within 1% of that value; nulls are passed over';
CREATE AGGREGATE millrace.approx_percentile(value double precision, fraction double precision, accuracy double precision) (
  SFUNC = millrace.percentile_transition, STYPE = internal, FINALFUNC = millrace.percentile_final,
  COMBINEFUNC = millrace.dist_combine, SERIALFUNC = millrace.dist_write,
  DESERIALFUNC = millrace.dist_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.approx_percentile(double precision, double precision, double precision)
  IS 'about the value that this fraction of all is no greater than, within accuracy times that value; nulls are passed over';
CREATE AGGREGATE millrace.dist_agg(value double precision) (
  SFUNC = millrace.dist_transition, STYPE = internal, FINALFUNC = millrace.dist_final,
  COMBINEFUNC = millrace.dist_combine, SERIALFUNC = millrace.dist_write,
  DESERIALFUNC = millrace.dist_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.dist_agg(double precision)
  IS 'a distribution, for dist_quantile() and dist_cdf(); accuracy 1%';
CREATE AGGREGATE millrace.dist_agg(value double precision, accuracy double precision) (
  SFUNC = millrace.dist_transition, STYPE = internal, FINALFUNC = millrace.dist_final,
  COMBINEFUNC = millrace.dist_combine, SERIALFUNC = millrace.dist_write,
  DESERIALFUNC = millrace.dist_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.dist_agg(double precision, double precision)
  IS 'a distribution, for dist_quantile() and dist_cdf()';
CREATE AGGREGATE millrace.dist_union_agg(distribution millrace.dist) (
  SFUNC = millrace.dist_union_transition, STYPE = internal, FINALFUNC = millrace.dist_final,
  COMBINEFUNC = millrace.dist_combine, SERIALFUNC = millrace.dist_write,
  DESERIALFUNC = millrace.dist_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.dist_union_agg(millrace.dist)
  IS 'the distribution of all that went into these';

CREATE FUNCTION millrace.dist_add(distribution millrace.dist, value double precision) RETURNS millrace.dist
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_dist_add';
COMMENT ON FUNCTION millrace.dist_add(millrace.dist, double precision) IS 'a distribution with one more value';
CREATE FUNCTION millrace.dist_union(millrace.dist, millrace.dist) RETURNS millrace.dist
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_dist_union';
COMMENT ON FUNCTION millrace.dist_union(millrace.dist, millrace.dist) IS 'the distribution of all that went into both';
CREATE FUNCTION millrace.dist_quantile(distribution millrace.dist, fraction double precision) RETURNS double precision
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_dist_quantile';
COMMENT ON FUNCTION millrace.dist_quantile(millrace.dist, double precision) IS 'about the value that this fraction of all is no greater than';
CREATE FUNCTION millrace.dist_quantile(distribution millrace.dist, fractions double precision[]) RETURNS double precision[]
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_dist_quantiles';
COMMENT ON FUNCTION millrace.dist_quantile(millrace.dist, double precision[]) IS 'about the values that these fractions of all are no greater than';
CREATE FUNCTION millrace.dist_cdf(distribution millrace.dist, value double precision) RETURNS double precision
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_dist_cdf';
COMMENT ON FUNCTION millrace.dist_cdf(millrace.dist, double precision) IS 'about the fraction of all values that is no greater than this one';
CREATE FUNCTION millrace.dist_count(distribution millrace.dist) RETURNS bigint
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_dist_count';
COMMENT ON FUNCTION millrace.dist_count(millrace.dist) IS 'how many values went into a distribution';

-- frequencies: count-min sketch

CREATE TYPE millrace.cmsketch;
CREATE FUNCTION millrace.cmsketch_in(cstring) RETURNS millrace.cmsketch
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_cmsketch_in';
COMMENT ON FUNCTION millrace.cmsketch_in(cstring) IS 'I/O';
CREATE FUNCTION millrace.cmsketch_out(millrace.cmsketch) RETURNS cstring
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_sketch_out';
COMMENT ON FUNCTION millrace.cmsketch_out(millrace.cmsketch) IS 'I/O';
CREATE FUNCTION millrace.cmsketch_recv(internal) RETURNS millrace.cmsketch
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_cmsketch_recv';
COMMENT ON FUNCTION millrace.cmsketch_recv(internal) IS 'I/O';
CREATE FUNCTION millrace.cmsketch_send(millrace.cmsketch) RETURNS bytea
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_sketch_send';
COMMENT ON FUNCTION millrace.cmsketch_send(millrace.cmsketch) IS 'I/O';
CREATE TYPE millrace.cmsketch (INPUT = millrace.cmsketch_in, OUTPUT = millrace.cmsketch_out,
  RECEIVE = millrace.cmsketch_recv, SEND = millrace.cmsketch_send, STORAGE = extended);
COMMENT ON TYPE millrace.cmsketch IS 'how often each value came: count-min sketch';

CREATE FUNCTION millrace.cmsketch_combine(internal, internal) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_cmsketch_combine';
COMMENT ON FUNCTION millrace.cmsketch_combine(internal, internal) IS 'aggregate combine function';
CREATE FUNCTION millrace.cmsketch_write(internal) RETURNS bytea
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_cmsketch_write';
COMMENT ON FUNCTION millrace.cmsketch_write(internal) IS 'aggregate serial function';
CREATE FUNCTION millrace.cmsketch_read(bytea, internal) RETURNS internal
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_cmsketch_read';
COMMENT ON FUNCTION millrace.cmsketch_read(bytea, internal) IS 'aggregate deserial function';
CREATE FUNCTION millrace.cmsketch_final(internal) RETURNS millrace.cmsketch
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_cmsketch_write';
COMMENT ON FUNCTION millrace.cmsketch_final(internal) IS 'aggregate final function';

CREATE FUNCTION millrace.cmsketch_transition(internal, anyelement) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_cmsketch_transition';
COMMENT ON FUNCTION millrace.cmsketch_transition(internal, anyelement) IS 'aggregate transition function';
CREATE FUNCTION millrace.cmsketch_transition(internal, anyelement, double precision, double precision) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_cmsketch_transition';
COMMENT ON FUNCTION millrace.cmsketch_transition(internal, anyelement, double precision, double precision) IS 'aggregate transition function';
CREATE FUNCTION millrace.cmsketch_merge_transition(internal, millrace.cmsketch) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_cmsketch_merge_transition';
COMMENT ON FUNCTION millrace.cmsketch_merge_transition(internal, millrace.cmsketch) IS 'aggregate transition function';

CREATE AGGREGATE millrace.cmsketch_agg(value anyelement) (
  SFUNC = millrace.cmsketch_transition, STYPE = internal, FINALFUNC = millrace.cmsketch_final,
  COMBINEFUNC = millrace.cmsketch_combine, SERIALFUNC = millrace.cmsketch_write,
  DESERIALFUNC = millrace.cmsketch_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.cmsketch_agg(anyelement)
  IS 'how often each value came, nulls not counted, for cmsketch_frequency()';
CREATE AGGREGATE millrace.cmsketch_agg(value anyelement, epsilon double precision, p double precision) (
  SFUNC = millrace.cmsketch_transition, STYPE = internal, FINALFUNC = millrace.cmsketch_final,
  COMBINEFUNC = millrace.cmsketch_combine, SERIALFUNC = millrace.cmsketch_write,
  DESERIALFUNC = millrace.cmsketch_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.cmsketch_agg(anyelement, double precision, double precision)
  IS 'how often each value came: too high by more than epsilon times all with a probability of 1 - p at most';
CREATE AGGREGATE millrace.cmsketch_merge_agg(sketch millrace.cmsketch) (
  SFUNC = millrace.cmsketch_merge_transition, STYPE = internal, FINALFUNC = millrace.cmsketch_final,
  COMBINEFUNC = millrace.cmsketch_combine, SERIALFUNC = millrace.cmsketch_write,
  DESERIALFUNC = millrace.cmsketch_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.cmsketch_merge_agg(millrace.cmsketch)
  IS 'the sketch of all that went into these';

CREATE FUNCTION millrace.cmsketch_add(sketch millrace.cmsketch, value anyelement) RETURNS millrace.cmsketch
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_cmsketch_add';
COMMENT ON FUNCTION millrace.cmsketch_add(millrace.cmsketch, anyelement) IS 'a sketch with one more value';
CREATE FUNCTION millrace.cmsketch_merge(millrace.cmsketch, millrace.cmsketch) RETURNS millrace.cmsketch
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_cmsketch_merge';
COMMENT ON FUNCTION millrace.cmsketch_merge(millrace.cmsketch, millrace.cmsketch) IS 'the sketch of all that went into both';
CREATE FUNCTION millrace.cmsketch_frequency(sketch millrace.cmsketch, value anyelement) RETURNS bigint
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_cmsketch_frequency';
COMMENT ON FUNCTION millrace.cmsketch_frequency(millrace.cmsketch, anyelement) IS 'about how often a value came, never too low';
CREATE FUNCTION millrace.cmsketch_total(sketch millrace.cmsketch) RETURNS bigint
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_cmsketch_total';
COMMENT ON FUNCTION millrace.cmsketch_total(millrace.cmsketch) IS 'how many values came';
CREATE FUNCTION millrace.cmsketch_norm_frequency(sketch millrace.cmsketch, value anyelement) RETURNS double precision
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS 'SELECT millrace.cmsketch_frequency($1, $2)::pg_catalog.float8 / nullif(millrace.cmsketch_total($1), 0)';
COMMENT ON FUNCTION millrace.cmsketch_norm_frequency(millrace.cmsketch, anyelement) IS 'about which part of all values this one is';

-- membership: Bloom filter

CREATE TYPE millrace.bloom;
CREATE FUNCTION millrace.bloom_in(cstring) RETURNS millrace.bloom
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_bloom_in';
COMMENT ON FUNCTION millrace.bloom_in(cstring) IS 'I/O';
CREATE FUNCTION millrace.bloom_out(millrace.bloom) RETURNS cstring
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_sketch_out';
COMMENT ON FUNCTION millrace.bloom_out(millrace.bloom) IS 'I/O';
CREATE FUNCTION millrace.bloom_recv(internal) RETURNS millrace.bloom
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_bloom_recv';
COMMENT ON FUNCTION millrace.bloom_recv(internal) IS 'I/O';
CREATE FUNCTION millrace.bloom_send(millrace.bloom) RETURNS bytea
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_sketch_send';
COMMENT ON FUNCTION millrace.bloom_send(millrace.bloom) IS 'I/O';
CREATE TYPE millrace.bloom (INPUT = millrace.bloom_in, OUTPUT = millrace.bloom_out,
  RECEIVE = millrace.bloom_recv, SEND = millrace.bloom_send, STORAGE = extended);
COMMENT ON TYPE millrace.bloom IS 'whether a value came: Bloom filter';

CREATE FUNCTION millrace.bloom_combine(internal, internal) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_bloom_combine';
COMMENT ON FUNCTION millrace.bloom_combine(internal, internal) IS 'aggregate combine function';
CREATE FUNCTION millrace.bloom_write(internal) RETURNS bytea
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_bloom_write';
COMMENT ON FUNCTION millrace.bloom_write(internal) IS 'aggregate serial function';
CREATE FUNCTION millrace.bloom_read(bytea, internal) RETURNS internal
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_bloom_read';
COMMENT ON FUNCTION millrace.bloom_read(bytea, internal) IS 'aggregate deserial function';
CREATE FUNCTION millrace.bloom_final(internal) RETURNS millrace.bloom
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_bloom_write';
COMMENT ON FUNCTION millrace.bloom_final(internal) IS 'aggregate final function';

CREATE FUNCTION millrace.bloom_transition(internal, anyelement) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_bloom_transition';
COMMENT ON FUNCTION millrace.bloom_transition(internal, anyelement) IS 'aggregate transition function';
CREATE FUNCTION millrace.bloom_transition(internal, anyelement, double precision, integer) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_bloom_transition';
COMMENT ON FUNCTION millrace.bloom_transition(internal, anyelement, double precision, integer) IS 'aggregate transition function';
CREATE FUNCTION millrace.bloom_union_transition(internal, millrace.bloom) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_bloom_union_transition';
COMMENT ON FUNCTION millrace.bloom_union_transition(internal, millrace.bloom) IS 'aggregate transition function';

CREATE AGGREGATE millrace.bloom_agg(value anyelement) (
  SFUNC = millrace.bloom_transition, STYPE = internal, FINALFUNC = millrace.bloom_final,
  COMBINEFUNC = millrace.bloom_combine, SERIALFUNC = millrace.bloom_write,
  DESERIALFUNC = millrace.bloom_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.bloom_agg(anyelement)
  IS 'which values came, nulls not counted, for bloom_contains(); p = 0.02, n = 16384';
CREATE AGGREGATE millrace.bloom_agg(value anyelement, p double precision, n integer) (
  SFUNC = millrace.bloom_transition, STYPE = internal, FINALFUNC = millrace.bloom_final,
  COMBINEFUNC = millrace.bloom_combine, SERIALFUNC = millrace.bloom_write,
  DESERIALFUNC = millrace.bloom_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.bloom_agg(anyelement, double precision, integer)
  IS 'which values came, up to n distinct ones; others are found with probability p at most';
CREATE AGGREGATE millrace.bloom_union_agg(filter millrace.bloom) (
  SFUNC = millrace.bloom_union_transition, STYPE = internal, FINALFUNC = millrace.bloom_final,
  COMBINEFUNC = millrace.bloom_combine, SERIALFUNC = millrace.bloom_write,
  DESERIALFUNC = millrace.bloom_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.bloom_union_agg(millrace.bloom)
  IS 'the filter of all that went into these';

CREATE FUNCTION millrace.bloom_add(filter millrace.bloom, value anyelement) RETURNS millrace.bloom
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_bloom_add';
COMMENT ON FUNCTION millrace.bloom_add(millrace.bloom, anyelement) IS 'a filter with one more value';
CREATE FUNCTION millrace.bloom_union(millrace.bloom, millrace.bloom) RETURNS millrace.bloom
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_bloom_union';
COMMENT ON FUNCTION millrace.bloom_union(millrace.bloom, millrace.bloom) IS 'the filter of all that went into both';
CREATE FUNCTION millrace.bloom_intersection(millrace.bloom, millrace.bloom) RETURNS millrace.bloom
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_bloom_intersection';
COMMENT ON FUNCTION millrace.bloom_intersection(millrace.bloom, millrace.bloom) IS 'a filter that has all that went into both of these, and may have more';
CREATE FUNCTION millrace.bloom_contains(filter millrace.bloom, value anyelement) RETURNS boolean
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_bloom_contains';
COMMENT ON FUNCTION millrace.bloom_contains(millrace.bloom, anyelement) IS 'did the value come?  Never wrongly false';
CREATE FUNCTION millrace.bloom_cardinality(filter millrace.bloom) RETURNS bigint
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_bloom_cardinality';
COMMENT ON FUNCTION millrace.bloom_cardinality(millrace.bloom) IS 'about how many distinct values came; null when the filter is full';

-- the most frequent values: Misra and Gries

CREATE FUNCTION millrace.topk_transition(internal, anyelement, integer) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_topk_transition';
COMMENT ON FUNCTION millrace.topk_transition(internal, anyelement, integer) IS 'aggregate transition function';
CREATE FUNCTION millrace.topk_combine(internal, internal) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_topk_combine';
COMMENT ON FUNCTION millrace.topk_combine(internal, internal) IS 'aggregate combine function';
CREATE FUNCTION millrace.topk_write(internal) RETURNS bytea
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_topk_write';
COMMENT ON FUNCTION millrace.topk_write(internal) IS 'aggregate serial function';
CREATE FUNCTION millrace.topk_read(bytea, internal) RETURNS internal
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_topk_read';
COMMENT ON FUNCTION millrace.topk_read(bytea, internal) IS 'aggregate deserial function';
CREATE FUNCTION millrace.topk_final(internal) RETURNS jsonb
LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_topk_final';
COMMENT ON FUNCTION millrace.topk_final(internal) IS 'aggregate final function';

CREATE AGGREGATE millrace.topk(value anyelement, k integer) (
  SFUNC = millrace.topk_transition, STYPE = internal, FINALFUNC = millrace.topk_final,
  COMBINEFUNC = millrace.topk_combine, SERIALFUNC = millrace.topk_write,
  DESERIALFUNC = millrace.topk_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.topk(anyelement, integer)
  IS 'the k most frequent values, nulls not counted, as a jsonb array of objects: value, count (at least), error (at most so many more)';
