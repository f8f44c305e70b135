------------------------------------------------------------------------------
-- Aggregates.  Ordinary ones, for any query; all of them can be combined.
------------------------------------------------------------------------------

-- states that are collections of rows

CREATE FUNCTION millrace.collection_combine(internal, internal) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_collection_combine';
COMMENT ON FUNCTION millrace.collection_combine(internal, internal) IS 'aggregate combine function';
CREATE FUNCTION millrace.collection_write(internal) RETURNS bytea
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_collection_write';
COMMENT ON FUNCTION millrace.collection_write(internal) IS 'aggregate serial function';
CREATE FUNCTION millrace.collection_read(bytea, internal) RETURNS internal
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_collection_read';
COMMENT ON FUNCTION millrace.collection_read(bytea, internal) IS 'aggregate deserial function';

-- the value with the least or the greatest key

CREATE FUNCTION millrace.first_transition(internal, anyelement, anycompatible) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_first_transition';
COMMENT ON FUNCTION millrace.first_transition(internal, anyelement, anycompatible) IS 'aggregate transition function';
CREATE FUNCTION millrace.last_transition(internal, anyelement, anycompatible) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_last_transition';
COMMENT ON FUNCTION millrace.last_transition(internal, anyelement, anycompatible) IS 'aggregate transition function';
CREATE FUNCTION millrace.by_key_final(internal, anyelement, anycompatible) RETURNS anyelement
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_by_key_final';
COMMENT ON FUNCTION millrace.by_key_final(internal, anyelement, anycompatible) IS 'aggregate final function';

CREATE AGGREGATE millrace.first(value anyelement, order_by anycompatible) (
  SFUNC = millrace.first_transition, STYPE = internal, FINALFUNC = millrace.by_key_final, FINALFUNC_EXTRA,
  COMBINEFUNC = millrace.collection_combine, SERIALFUNC = millrace.collection_write,
  DESERIALFUNC = millrace.collection_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.first(anyelement, anycompatible)
  IS 'the value of the row with the least order_by; rows where that is null are passed over';
CREATE AGGREGATE millrace.min_by(value anyelement, key anycompatible) (
  SFUNC = millrace.first_transition, STYPE = internal, FINALFUNC = millrace.by_key_final, FINALFUNC_EXTRA,
  COMBINEFUNC = millrace.collection_combine, SERIALFUNC = millrace.collection_write,
  DESERIALFUNC = millrace.collection_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.min_by(anyelement, anycompatible)
  IS 'the value of the row with the least key; rows where that is null are passed over';
CREATE AGGREGATE millrace.last(value anyelement, order_by anycompatible) (
  SFUNC = millrace.last_transition, STYPE = internal, FINALFUNC = millrace.by_key_final, FINALFUNC_EXTRA,
  COMBINEFUNC = millrace.collection_combine, SERIALFUNC = millrace.collection_write,
  DESERIALFUNC = millrace.collection_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.last(anyelement, anycompatible)
  IS 'the value of the row with the greatest order_by; rows where that is null are passed over';
CREATE AGGREGATE millrace.max_by(value anyelement, key anycompatible) (
  SFUNC = millrace.last_transition, STYPE = internal, FINALFUNC = millrace.by_key_final, FINALFUNC_EXTRA,
  COMBINEFUNC = millrace.collection_combine, SERIALFUNC = millrace.collection_write,
  DESERIALFUNC = millrace.collection_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.max_by(anyelement, anycompatible)
  IS 'the value of the row with the greatest key; rows where that is null are passed over';

CREATE FUNCTION millrace.first_n_transition(internal, anynonarray, anycompatible, integer) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_first_n_transition';
COMMENT ON FUNCTION millrace.first_n_transition(internal, anynonarray, anycompatible, integer) IS 'aggregate transition function';
CREATE FUNCTION millrace.last_n_transition(internal, anynonarray, anycompatible, integer) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_last_n_transition';
COMMENT ON FUNCTION millrace.last_n_transition(internal, anynonarray, anycompatible, integer) IS 'aggregate transition function';
CREATE FUNCTION millrace.by_key_n_final(internal, anynonarray, anycompatible, integer) RETURNS anyarray
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_by_key_n_final';
COMMENT ON FUNCTION millrace.by_key_n_final(internal, anynonarray, anycompatible, integer) IS 'aggregate final function';

CREATE AGGREGATE millrace.first(value anynonarray, order_by anycompatible, n integer) (
  SFUNC = millrace.first_n_transition, STYPE = internal, FINALFUNC = millrace.by_key_n_final, FINALFUNC_EXTRA,
  COMBINEFUNC = millrace.collection_combine, SERIALFUNC = millrace.collection_write,
  DESERIALFUNC = millrace.collection_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.first(anynonarray, anycompatible, integer)
  IS 'the values of the n rows with the least order_by, in its order; rows where that is null are passed over';
CREATE AGGREGATE millrace.last(value anynonarray, order_by anycompatible, n integer) (
  SFUNC = millrace.last_n_transition, STYPE = internal, FINALFUNC = millrace.by_key_n_final, FINALFUNC_EXTRA,
  COMBINEFUNC = millrace.collection_combine, SERIALFUNC = millrace.collection_write,
  DESERIALFUNC = millrace.collection_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.last(anynonarray, anycompatible, integer)
  IS 'the values of the n rows with the greatest order_by, the greatest first; rows where that is null are passed over';

-- values put together

CREATE FUNCTION millrace.array_transition(internal, anynonarray) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_array_transition';
COMMENT ON FUNCTION millrace.array_transition(internal, anynonarray) IS 'aggregate transition function';
CREATE FUNCTION millrace.array_final(internal, anynonarray) RETURNS anyarray
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_array_final';
COMMENT ON FUNCTION millrace.array_final(internal, anynonarray) IS 'aggregate final function';
CREATE FUNCTION millrace.array_transition(internal, anynonarray, anycompatible) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_array_ordered_transition';
COMMENT ON FUNCTION millrace.array_transition(internal, anynonarray, anycompatible) IS 'aggregate transition function';
CREATE FUNCTION millrace.array_final(internal, anynonarray, anycompatible) RETURNS anyarray
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_array_final';
COMMENT ON FUNCTION millrace.array_final(internal, anynonarray, anycompatible) IS 'aggregate final function';

CREATE AGGREGATE millrace.array_agg(value anynonarray) (
  SFUNC = millrace.array_transition, STYPE = internal, FINALFUNC = millrace.array_final, FINALFUNC_EXTRA,
  COMBINEFUNC = millrace.collection_combine, SERIALFUNC = millrace.collection_write,
  DESERIALFUNC = millrace.collection_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.array_agg(anynonarray)
  IS 'the values, nulls too, as an array, in the order in which they happened to be put together';
CREATE AGGREGATE millrace.array_agg(value anynonarray, order_by anycompatible) (
  SFUNC = millrace.array_transition, STYPE = internal, FINALFUNC = millrace.array_final, FINALFUNC_EXTRA,
  COMBINEFUNC = millrace.collection_combine, SERIALFUNC = millrace.collection_write,
  DESERIALFUNC = millrace.collection_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.array_agg(anynonarray, anycompatible)
  IS 'the values, nulls too, as an array, in the order of order_by';

CREATE FUNCTION millrace.string_transition(internal, text, text) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_string_transition';
COMMENT ON FUNCTION millrace.string_transition(internal, text, text) IS 'aggregate transition function';
CREATE FUNCTION millrace.string_transition(internal, text, text, anycompatible) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_string_ordered_transition';
COMMENT ON FUNCTION millrace.string_transition(internal, text, text, anycompatible) IS 'aggregate transition function';
CREATE FUNCTION millrace.string_final(internal) RETURNS text
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_string_final';
COMMENT ON FUNCTION millrace.string_final(internal) IS 'aggregate final function';
CREATE FUNCTION millrace.bytes_transition(internal, bytea, bytea) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_string_transition';
COMMENT ON FUNCTION millrace.bytes_transition(internal, bytea, bytea) IS 'aggregate transition function';
CREATE FUNCTION millrace.bytes_transition(internal, bytea, bytea, anycompatible) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_string_ordered_transition';
COMMENT ON FUNCTION millrace.bytes_transition(internal, bytea, bytea, anycompatible) IS 'aggregate transition function';
CREATE FUNCTION millrace.bytes_final(internal) RETURNS bytea
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_string_final';
COMMENT ON FUNCTION millrace.bytes_final(internal) IS 'aggregate final function';

CREATE AGGREGATE millrace.string_agg(value text, delimiter text) (
  SFUNC = millrace.string_transition, STYPE = internal, FINALFUNC = millrace.string_final,
  COMBINEFUNC = millrace.collection_combine, SERIALFUNC = millrace.collection_write,
  DESERIALFUNC = millrace.collection_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.string_agg(text, text)
  IS 'the values that are not null, in the order in which they happened to be put together';
CREATE AGGREGATE millrace.string_agg(value text, delimiter text, order_by anycompatible) (
  SFUNC = millrace.string_transition, STYPE = internal, FINALFUNC = millrace.string_final,
  COMBINEFUNC = millrace.collection_combine, SERIALFUNC = millrace.collection_write,
  DESERIALFUNC = millrace.collection_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.string_agg(text, text, anycompatible)
  IS 'the values that are not null, in the order of order_by';
CREATE AGGREGATE millrace.string_agg(value bytea, delimiter bytea) (
  SFUNC = millrace.bytes_transition, STYPE = internal, FINALFUNC = millrace.bytes_final,
  COMBINEFUNC = millrace.collection_combine, SERIALFUNC = millrace.collection_write,
  DESERIALFUNC = millrace.collection_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.string_agg(bytea, bytea)
  IS 'the values that are not null, in the order in which they happened to be put together';
CREATE AGGREGATE millrace.string_agg(value bytea, delimiter bytea, order_by anycompatible) (
  SFUNC = millrace.bytes_transition, STYPE = internal, FINALFUNC = millrace.bytes_final,
  COMBINEFUNC = millrace.collection_combine, SERIALFUNC = millrace.collection_write,
  DESERIALFUNC = millrace.collection_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.string_agg(bytea, bytea, anycompatible)
  IS 'the values that are not null, in the order of order_by';

-- JSON objects

CREATE FUNCTION millrace.object_transition(internal, text, jsonb) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_object_transition';
COMMENT ON FUNCTION millrace.object_transition(internal, text, jsonb) IS 'aggregate transition function';
CREATE FUNCTION millrace.object_transition(internal, text, jsonb, anycompatible) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_object_ordered_transition';
COMMENT ON FUNCTION millrace.object_transition(internal, text, jsonb, anycompatible) IS 'aggregate transition function';
CREATE FUNCTION millrace.jsonb_object_final(internal) RETURNS jsonb
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_jsonb_object_final';
COMMENT ON FUNCTION millrace.jsonb_object_final(internal) IS 'aggregate final function';
CREATE FUNCTION millrace.json_object_final(internal) RETURNS json
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_json_object_final';
COMMENT ON FUNCTION millrace.json_object_final(internal) IS 'aggregate final function';

CREATE AGGREGATE millrace.jsonb_object_agg(name text, value jsonb) (
  SFUNC = millrace.object_transition, STYPE = internal, FINALFUNC = millrace.jsonb_object_final,
  COMBINEFUNC = millrace.collection_combine, SERIALFUNC = millrace.collection_write,
  DESERIALFUNC = millrace.collection_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.jsonb_object_agg(text, jsonb)
  IS 'an object of the names, each with the greatest of its values';
CREATE AGGREGATE millrace.jsonb_object_agg(name text, value jsonb, order_by anycompatible) (
  SFUNC = millrace.object_transition, STYPE = internal, FINALFUNC = millrace.jsonb_object_final,
  COMBINEFUNC = millrace.collection_combine, SERIALFUNC = millrace.collection_write,
  DESERIALFUNC = millrace.collection_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.jsonb_object_agg(text, jsonb, anycompatible)
  IS 'an object of the names, each with the value that has the greatest order_by';
CREATE AGGREGATE millrace.json_object_agg(name text, value jsonb) (
  SFUNC = millrace.object_transition, STYPE = internal, FINALFUNC = millrace.json_object_final,
  COMBINEFUNC = millrace.collection_combine, SERIALFUNC = millrace.collection_write,
  DESERIALFUNC = millrace.collection_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.json_object_agg(text, jsonb)
  IS 'an object of the names, each with the greatest of its values';
CREATE AGGREGATE millrace.json_object_agg(name text, value jsonb, order_by anycompatible) (
  SFUNC = millrace.object_transition, STYPE = internal, FINALFUNC = millrace.json_object_final,
  COMBINEFUNC = millrace.collection_combine, SERIALFUNC = millrace.collection_write,
  DESERIALFUNC = millrace.collection_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.json_object_agg(text, jsonb, anycompatible)
  IS 'an object of the names, each with the value that has the greatest order_by';

-- distinct values

CREATE FUNCTION millrace.distinct_transition(internal, anyelement) RETURNS internal
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_distinct_transition';
COMMENT ON FUNCTION millrace.distinct_transition(internal, anyelement) IS 'aggregate transition function';
CREATE FUNCTION millrace.count_distinct_final(internal) RETURNS bigint
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_count_distinct_final';
COMMENT ON FUNCTION millrace.count_distinct_final(internal) IS 'aggregate final function';
CREATE FUNCTION millrace.set_final(internal, anynonarray) RETURNS anyarray
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_set_final';
COMMENT ON FUNCTION millrace.set_final(internal, anynonarray) IS 'aggregate final function';

CREATE AGGREGATE millrace.count_distinct(value anyelement) (
  SFUNC = millrace.distinct_transition, STYPE = internal, FINALFUNC = millrace.count_distinct_final,
  COMBINEFUNC = millrace.collection_combine, SERIALFUNC = millrace.collection_write,
  DESERIALFUNC = millrace.collection_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.count_distinct(anyelement)
  IS 'the number of distinct values that are not null, exactly; the state holds all of them';
CREATE AGGREGATE millrace.set_agg(value anynonarray) (
  SFUNC = millrace.distinct_transition, STYPE = internal, FINALFUNC = millrace.set_final, FINALFUNC_EXTRA,
  COMBINEFUNC = millrace.collection_combine, SERIALFUNC = millrace.collection_write,
  DESERIALFUNC = millrace.collection_read, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.set_agg(anynonarray)
  IS 'the distinct values as an array, in ascending order, null at the end';
