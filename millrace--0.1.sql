/* millrace--0.1.sql */

-- complain if the script is sourced in psql rather than by CREATE EXTENSION
\echo Use "CREATE EXTENSION millrace" to load this file. \quit

------------------------------------------------------------------------------
-- Streams
------------------------------------------------------------------------------

CREATE FUNCTION millrace.fdw_handler() RETURNS fdw_handler
LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'mr_fdw_handler';
COMMENT ON FUNCTION millrace.fdw_handler() IS 'foreign-data wrapper handler: Kafka topics as foreign tables';

CREATE FUNCTION millrace.fdw_validator(text[], oid) RETURNS void
LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'mr_fdw_validator';
COMMENT ON FUNCTION millrace.fdw_validator(text[], oid) IS 'foreign-data wrapper option validator';

CREATE FOREIGN DATA WRAPPER millrace
  HANDLER millrace.fdw_handler VALIDATOR millrace.fdw_validator;
COMMENT ON FOREIGN DATA WRAPPER millrace IS 'Kafka topics as foreign tables';

CREATE FUNCTION millrace.create_topic(server name, topic text, partitions integer DEFAULT 1,
                                      replication integer DEFAULT 1, config jsonb DEFAULT '{}')
RETURNS void LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_create_topic';
COMMENT ON FUNCTION millrace.create_topic(name, text, integer, integer, jsonb)
  IS 'creates a Kafka topic on a server; config: topic configuration entries. Needs USAGE on the server';

------------------------------------------------------------------------------
-- Catalog.  Written by the extension only; see src/README.md for the protocol.
------------------------------------------------------------------------------

-- A feed is a position in a stream, shared by the views that stand there.  One feed per
-- stream is live; the others belong to views that catch up or are deactivated.
CREATE TABLE millrace.feed (
  id          bigserial PRIMARY KEY,
  stream      regclass NOT NULL,
  live        boolean NOT NULL DEFAULT false,
  generation  bigint NOT NULL DEFAULT 1       -- changes with the set of views
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX feed_live ON millrace.feed (stream) WHERE live;
COMMENT ON TABLE millrace.feed IS 'positions in streams: one live feed per stream, one more per group of views that is elsewhere';

-- A partition without a row is read from its oldest message.
CREATE TABLE millrace.feed_offset (
  feed        bigint NOT NULL REFERENCES millrace.feed ON DELETE CASCADE,
  partition   integer NOT NULL,
  next_offset bigint NOT NULL,
  "timestamp" timestamptz,                    -- of the last message taken
  messages    bigint NOT NULL DEFAULT 0,
  bytes       bigint NOT NULL DEFAULT 0,
  tombstones  bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (feed, partition)
) WITH (fillfactor = 30, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);
COMMENT ON TABLE millrace.feed_offset IS 'next offset of each feed and partition, written in the transaction of the views';

CREATE TABLE millrace.continuous_view (
  view        regclass PRIMARY KEY,
  kind        text NOT NULL DEFAULT 'view',
  matrel      regclass NOT NULL,
  definition  regclass NOT NULL,              -- internal view: the declared query
  query       text NOT NULL,                  -- as declared
  settings    text[] NOT NULL,                -- name=value, in force at creation
  start_at    text NOT NULL DEFAULT 'earliest',
  active      boolean NOT NULL DEFAULT true,
  failed      boolean NOT NULL DEFAULT false,
  last_error  text,
  last_error_at timestamptz,
  rows_in     bigint NOT NULL DEFAULT 0,
  rows_out    bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
COMMENT ON TABLE millrace.continuous_view IS 'continuous views';

CREATE TABLE millrace.view_stream (
  view        regclass NOT NULL,
  stream      regclass NOT NULL,
  feed        bigint NOT NULL REFERENCES millrace.feed,
  columns     int2[] NOT NULL,                -- attribute numbers that the view reads
  PRIMARY KEY (view, stream)
);
CREATE INDEX view_stream_feed ON millrace.view_stream (feed);
CREATE INDEX view_stream_stream ON millrace.view_stream (stream);
COMMENT ON TABLE millrace.view_stream IS 'which feed of which stream a view follows, and the columns that it reads';

-- messages before these offsets are not the view's, wherever its feed stands
CREATE TABLE millrace.view_start (
  view        regclass NOT NULL,
  stream      regclass NOT NULL,
  partition   integer NOT NULL,
  from_offset bigint NOT NULL,
  PRIMARY KEY (view, stream, partition)
);
COMMENT ON TABLE millrace.view_start IS 'where views with start_at other than earliest begin';

CREATE TABLE millrace.stream_status (
  stream      regclass PRIMARY KEY,
  stopped     boolean NOT NULL DEFAULT false, -- by on_error or on_gap = stop
  last_error  text,
  last_error_at timestamptz
);
COMMENT ON TABLE millrace.stream_status IS 'streams that stopped, and the last error of each';

CREATE TABLE millrace.dead_letter (
  id          bigserial PRIMARY KEY,
  stream      regclass NOT NULL,
  view        regclass,
  partition   integer NOT NULL,
  message_offset bigint NOT NULL,
  message_timestamp timestamptz,
  key         bytea,
  value       bytea,
  headers     jsonb,
  sqlstate    text NOT NULL,
  error       text NOT NULL,
  failed_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE UNIQUE INDEX dead_letter_message ON millrace.dead_letter
  (stream, partition, message_offset, view) NULLS NOT DISTINCT;
COMMENT ON TABLE millrace.dead_letter IS 'messages that could not be used';

CREATE TABLE millrace.gap (
  id          bigserial PRIMARY KEY,
  stream      regclass NOT NULL,
  partition   integer NOT NULL,
  from_offset bigint NOT NULL,
  to_offset   bigint NOT NULL,                -- first offset not lost
  reason      text NOT NULL,
  detected_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE millrace.gap IS 'ranges of offsets that the broker no longer had';

SELECT pg_catalog.pg_extension_config_dump('millrace.' || t, '')
FROM pg_catalog.unnest(ARRAY['feed', 'feed_id_seq', 'feed_offset', 'continuous_view', 'view_stream', 'view_start',
                             'stream_status', 'dead_letter', 'dead_letter_id_seq', 'gap', 'gap_id_seq']) AS t;

------------------------------------------------------------------------------
-- Continuous views
------------------------------------------------------------------------------

CREATE FUNCTION millrace.create_continuous_view(
  name text, query text, start_at text DEFAULT 'earliest',
  sliding_window interval DEFAULT NULL, time_column text DEFAULT NULL, step interval DEFAULT NULL,
  retention interval DEFAULT NULL, retention_column text DEFAULT NULL, changes boolean DEFAULT false)
RETURNS regclass LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_create_continuous_view';
COMMENT ON FUNCTION millrace.create_continuous_view(text, text, text, interval, text, interval, interval, text, boolean)
  IS 'creates a view that is kept up to date as messages arrive; drop it with DROP VIEW';

-- aggregates' states to results, in the reading views
CREATE FUNCTION millrace.finalize(aggregate regprocedure, state "any", result anyelement, VARIADIC arguments "any")
RETURNS anyelement LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_finalize';
COMMENT ON FUNCTION millrace.finalize(regprocedure, "any", anyelement, VARIADIC "any")
  IS 'an aggregate''s result from its stored state; the last arguments only tell types';
CREATE FUNCTION millrace.finalize(aggregate regprocedure, state "any", result anyelement)
RETURNS anyelement LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_finalize';
COMMENT ON FUNCTION millrace.finalize(regprocedure, "any", anyelement)
  IS 'an aggregate''s result from its stored state; the last argument only tells the type';

CREATE FUNCTION millrace.deactivate(relation regclass) RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'mr_deactivate';
COMMENT ON FUNCTION millrace.deactivate(regclass)
  IS 'stops a view, or all views of a stream; positions are kept';

CREATE FUNCTION millrace.activate(relation regclass) RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'mr_activate';
COMMENT ON FUNCTION millrace.activate(regclass)
  IS 'starts a view, or all views of a stream, from where it stood; also after a failure';

CREATE FUNCTION millrace.truncate_continuous_view(view regclass) RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'mr_truncate_continuous_view';
COMMENT ON FUNCTION millrace.truncate_continuous_view(regclass)
  IS 'empties a view; it goes on from its present position';

CREATE FUNCTION millrace.wait_for_latest(view regclass, timeout interval DEFAULT NULL) RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_wait_for_latest';
COMMENT ON FUNCTION millrace.wait_for_latest(regclass, interval)
  IS 'waits until the view holds all that was in the topic at the call; false on timeout';

CREATE FUNCTION millrace.wait_for_offset(view regclass, partition integer, message_offset bigint,
                                         timeout interval DEFAULT NULL) RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_wait_for_offset';
COMMENT ON FUNCTION millrace.wait_for_offset(regclass, integer, bigint, interval)
  IS 'waits until the view holds the message at that offset of the partition; false on timeout';

CREATE FUNCTION millrace.explain_view(view regclass) RETURNS SETOF text
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'mr_explain_view';
COMMENT ON FUNCTION millrace.explain_view(regclass) IS 'the plan that one batch of messages runs';

REVOKE ALL ON FUNCTION millrace.create_topic(name, text, integer, integer, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.create_topic(name, text, integer, integer, jsonb) TO PUBLIC;  -- checks USAGE

------------------------------------------------------------------------------
-- What follows DDL on views, streams and tables
------------------------------------------------------------------------------

CREATE FUNCTION millrace.on_drop() RETURNS event_trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'mr_on_drop';
COMMENT ON FUNCTION millrace.on_drop() IS 'removes what belonged to dropped views and streams';

CREATE FUNCTION millrace.on_ddl_end() RETURNS event_trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'mr_on_ddl_end';
COMMENT ON FUNCTION millrace.on_ddl_end() IS 'lets a view''s parts follow its name, schema and owner';

CREATE EVENT TRIGGER millrace_on_drop ON sql_drop EXECUTE FUNCTION millrace.on_drop();
CREATE EVENT TRIGGER millrace_on_ddl_end ON ddl_command_end
  WHEN TAG IN ('ALTER VIEW', 'ALTER TABLE', 'ALTER FOREIGN TABLE', 'ALTER SCHEMA')
  EXECUTE FUNCTION millrace.on_ddl_end();

------------------------------------------------------------------------------
-- Monitoring
------------------------------------------------------------------------------

CREATE FUNCTION millrace.worker_slots(
  OUT pid integer, OUT stream regclass, OUT feed bigint, OUT shard integer, OUT state text,
  OUT last_error text, OUT last_error_at timestamptz, OUT batches bigint, OUT messages bigint,
  OUT batch_messages_avg double precision, OUT decode_ms double precision, OUT aggregate_ms double precision,
  OUT merge_ms double precision, OUT commit_ms double precision)
RETURNS SETOF record LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_worker_slots';
COMMENT ON FUNCTION millrace.worker_slots() IS 'ingest processes of this database, from shared memory';

CREATE FUNCTION millrace.watermarks(stream regclass, OUT partition integer, OUT low_watermark bigint, OUT high_watermark bigint)
RETURNS SETOF record LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'mr_watermarks';
COMMENT ON FUNCTION millrace.watermarks(regclass)
  IS 'asks the broker for the first and the end offset of each partition; no rows when it does not answer';
