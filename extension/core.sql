/* millrace--0.1.sql: extension/core.sql, then the other files that the Makefile names */

-- complain if the script is sourced in psql rather than by CREATE EXTENSION
\echo Use "CREATE EXTENSION millrace" to load this file. \quit

-- Whoever owns the schema, if it was there, can put functions of his own beside those that the
-- extension calls.
DO LANGUAGE plpgsql $$
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner
             WHERE n.nspname = 'millrace' AND NOT r.rolsuper) THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = 'schema "millrace" exists and does not belong to a superuser',
      HINT = 'Drop it, or rename it.';
  END IF;
END
$$;

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
-- stream is live; the others belong to views that catch up or are deactivated.  No foreign
-- keys refer to it: a parallel restore fills the tables in any order.
CREATE TABLE millrace.feed (
  id          bigserial PRIMARY KEY,
  stream      regclass NOT NULL,
  topic       text,                           -- the stream's, which its offsets belong to
  cluster     text,                           -- id of the Kafka cluster that they belong to
  other_cluster text,                         -- met at its address instead; accepted if the feed is not stopped
  live        boolean NOT NULL DEFAULT false,
  apart       boolean NOT NULL DEFAULT false, -- never live: of a transform into a stream
  log         integer NOT NULL DEFAULT 1,     -- changes when the topic's log is found to be another
  partitions  integer,                        -- that the topic had when it was last looked at
  stopped     boolean NOT NULL DEFAULT false, -- by on_error or on_gap = stop, or another cluster
  last_error  text,                           -- why; not stopped: a view has left others to try again by itself
  slow        boolean NOT NULL DEFAULT false, -- because it takes longer than others can wait
  blamed      regclass,                       -- the view whose error made it stop, if it was one's
  generation  bigint NOT NULL DEFAULT 1,      -- changes with the set of views
  home_cluster bigint NOT NULL,               -- where it is fed: system identifier,
  home_database oid NOT NULL,                 -- database and extension; a copy is not
  home_extension oid NOT NULL
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX feed_live ON millrace.feed (stream) WHERE live;
COMMENT ON TABLE millrace.feed IS 'positions in streams: one live feed per stream, one more per group of views that is elsewhere';

-- A partition without a row is read from its oldest message, and has one from when that is known.
CREATE TABLE millrace.feed_offset (
  feed        bigint NOT NULL,
  partition   integer NOT NULL,
  next_offset bigint NOT NULL,
  "timestamp" timestamptz,                    -- of the last message taken
  messages    bigint NOT NULL DEFAULT 0,
  bytes       bigint NOT NULL DEFAULT 0,
  tombstones  bigint NOT NULL DEFAULT 0,
  skipped     bigint NOT NULL DEFAULT 0,      -- by on_error = skip, once for each view
  last_offset bigint,                         -- of the last message taken, by which the log is recognized
  last_checksum bigint,
  anchor_offset bigint,                       -- the same of one taken a while before
  anchor_checksum bigint,
  resume_offset bigint,                       -- stopped at a gap: where activate() lets it go on
  PRIMARY KEY (feed, partition)
) WITH (fillfactor = 30, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);
COMMENT ON TABLE millrace.feed_offset IS 'next offset of each feed and partition, written in the transaction of the views';

CREATE TABLE millrace.continuous_view (
  view        regclass PRIMARY KEY,
  kind        text NOT NULL DEFAULT 'view',
  matrel      regclass,                       -- null: a transform
  target      regclass,                       -- a transform's: where its rows go
  token       bigint NOT NULL DEFAULT 0,      -- of a transform into a stream: a part of its names in Kafka
  definition  regclass NOT NULL,              -- internal view: the declared query; a transform's is itself
  query       text NOT NULL,                  -- as declared
  settings    text[] NOT NULL,                -- name=value, in force at creation
  start_at    text NOT NULL DEFAULT 'earliest',
  active      boolean NOT NULL DEFAULT true,
  failed      boolean NOT NULL DEFAULT false,
  last_error  text,
  last_error_at timestamptz,
  rebuilds    regclass                        -- a shadow: view is its matrel, this the view that gets its contents
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX continuous_view_rebuilds ON millrace.continuous_view (rebuilds) WHERE rebuilds IS NOT NULL;
COMMENT ON TABLE millrace.continuous_view IS 'continuous views, the shadows in which contents are rebuilt, and continuous transforms';

CREATE TABLE millrace.view_stream (
  view        regclass NOT NULL,
  stream      regclass NOT NULL,
  feed        bigint NOT NULL,                -- 0: the stream is a table, where there is no position
  columns     int2[] NOT NULL,                -- attribute numbers that the view reads; 0: whole rows
  column_names name[] NOT NULL,               -- and their names: a dump numbers columns anew
  home_cluster bigint NOT NULL,               -- where the numbers are right; see feed
  home_database oid NOT NULL,
  home_extension oid NOT NULL,
  reached     boolean NOT NULL DEFAULT false, -- has stood at the end, or at the live position, or holds as much as what it rebuilds
  PRIMARY KEY (view, stream)
);
CREATE INDEX view_stream_feed ON millrace.view_stream (feed);
CREATE INDEX view_stream_stream ON millrace.view_stream (stream);
COMMENT ON TABLE millrace.view_stream IS 'which feed of which stream a view follows, and the columns that it reads';

CREATE TABLE millrace.table_stream (
  relation    regclass PRIMARY KEY
);
COMMENT ON TABLE millrace.table_stream IS 'ordinary tables whose INSERTs are streams';

-- messages before these offsets are not the view's, wherever its feed stands
CREATE TABLE millrace.view_start (
  view        regclass NOT NULL,
  stream      regclass NOT NULL,
  partition   integer NOT NULL,
  from_offset bigint NOT NULL,
  PRIMARY KEY (view, stream, partition)
);
COMMENT ON TABLE millrace.view_start IS 'where views with start_at other than earliest begin';

-- groups of the view that are older than retention, by that column of it, are removed
CREATE TABLE millrace.view_retention (
  view        regclass NOT NULL,
  column_number int2 NOT NULL,
  retention   interval,                       -- null: none any more
  removed_before timestamp,                   -- older ones are gone for good; UTC of a timestamptz
  late_events bigint NOT NULL DEFAULT 0,      -- messages that came for groups too old
  PRIMARY KEY (view, column_number)
) WITH (fillfactor = 50);
COMMENT ON TABLE millrace.view_retention IS 'how long views keep groups, and the messages that came too late for one';

CREATE TABLE millrace.view_window (
  view        regclass PRIMARY KEY,
  sliding_window interval NOT NULL,
  step        interval NOT NULL,
  time_column text                            -- of the stream; null: the message's timestamp
);
COMMENT ON TABLE millrace.view_window IS 'sliding windows of views';

-- numbers of the last batch and the last change of each view that keeps them; who has the
-- view's contents locked counts them on
CREATE TABLE millrace.view_changes (
  view        regclass PRIMARY KEY,
  changes     regclass NOT NULL,              -- the table
  retention   interval DEFAULT '7 days',      -- of changes; null: for ever
  last_batch  bigint NOT NULL DEFAULT 0,
  last_id     bigint NOT NULL DEFAULT 0,
  last_transaction xid8                       -- that wrote the last batch
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);
COMMENT ON TABLE millrace.view_changes IS 'views that keep a table of their changes, and how far those are numbered';

CREATE TABLE millrace.stream_status (
  stream      regclass PRIMARY KEY,
  last_error  text,
  last_error_at timestamptz,
  blamed      regclass                        -- the view whose error it was, if one's
);
COMMENT ON TABLE millrace.stream_status IS 'the last error that stopped each stream';

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
  failed_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  missed      regclass[]                      -- where view is null: views that miss the message
);
CREATE UNIQUE INDEX dead_letter_message ON millrace.dead_letter
  (stream, partition, message_offset, view, message_timestamp) NULLS NOT DISTINCT;
COMMENT ON TABLE millrace.dead_letter IS 'messages that could not be used';

CREATE TABLE millrace.gap (
  id          bigserial PRIMARY KEY,
  stream      regclass NOT NULL,
  partition   integer NOT NULL,
  from_offset bigint NOT NULL,
  to_offset   bigint NOT NULL,                -- first offset not lost
  reason      text NOT NULL,
  passed      boolean NOT NULL,               -- ingest has gone on after it
  detected_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE millrace.gap IS 'ranges of offsets that the broker no longer had';

SELECT pg_catalog.pg_extension_config_dump('millrace.feed', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.feed_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.feed_offset', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.continuous_view', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.view_stream', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.table_stream', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.view_start', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.view_retention', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.view_window', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.view_changes', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.stream_status', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.dead_letter', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.dead_letter_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.gap', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.gap_id_seq', '');

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

CREATE FUNCTION millrace.create_continuous_transform(name text, query text, target regclass, start_at text DEFAULT 'earliest')
RETURNS regclass LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_create_continuous_transform';
COMMENT ON FUNCTION millrace.create_continuous_transform(text, text, regclass, text)
  IS 'creates a view whose rows are written into a table or a stream as messages arrive; drop it with DROP VIEW';

-- A serialized state of an aggregate, with the aggregate's stamp on it.  It cannot be forged:
-- what makes one is the merge of batches alone, and a superuser who restores a dump.
CREATE TYPE millrace.state;
CREATE FUNCTION millrace.state_in(cstring) RETURNS millrace.state
LANGUAGE C STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_state_in';
COMMENT ON FUNCTION millrace.state_in(cstring) IS 'I/O, for superusers';
CREATE FUNCTION millrace.state_out(millrace.state) RETURNS cstring
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_state_out';
COMMENT ON FUNCTION millrace.state_out(millrace.state) IS 'I/O';
CREATE FUNCTION millrace.state_recv(internal) RETURNS millrace.state
LANGUAGE C STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_state_recv';
COMMENT ON FUNCTION millrace.state_recv(internal) IS 'I/O, for superusers';
CREATE FUNCTION millrace.state_send(millrace.state) RETURNS bytea
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_state_send';
COMMENT ON FUNCTION millrace.state_send(millrace.state) IS 'I/O';
CREATE TYPE millrace.state (INPUT = millrace.state_in, OUTPUT = millrace.state_out,
  RECEIVE = millrace.state_recv, SEND = millrace.state_send, STORAGE = extended);
COMMENT ON TYPE millrace.state IS 'serialized state of an aggregate, as a continuous view stores it';

-- aggregates' states to results, in the reading views
CREATE FUNCTION millrace.finalize(aggregate regprocedure, state "any", result anyelement, VARIADIC arguments "any")
RETURNS anyelement LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_finalize';
COMMENT ON FUNCTION millrace.finalize(regprocedure, "any", anyelement, VARIADIC "any")
  IS 'an aggregate''s result from its stored state; the last arguments only tell types';
CREATE FUNCTION millrace.finalize(aggregate regprocedure, state "any", result anyelement)
RETURNS anyelement LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_finalize';
COMMENT ON FUNCTION millrace.finalize(regprocedure, "any", anyelement)
  IS 'an aggregate''s result from its stored state; the last argument only tells the type';

-- overlapping windows
CREATE FUNCTION millrace.hop_support(internal) RETURNS internal
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_hop_support';
COMMENT ON FUNCTION millrace.hop_support(internal) IS 'planner support for hop()';
CREATE FUNCTION millrace.hop("time" timestamptz, every interval, size interval) RETURNS SETOF timestamptz
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE ROWS 10 SUPPORT millrace.hop_support AS 'MODULE_PATHNAME', 'mr_hop';
COMMENT ON FUNCTION millrace.hop(timestamptz, interval, interval)
  IS 'the windows of a size, one beginning every so often, that a time lies in, by their beginnings';
CREATE FUNCTION millrace.hop("time" timestamp, every interval, size interval) RETURNS SETOF timestamp
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE ROWS 10 SUPPORT millrace.hop_support AS 'MODULE_PATHNAME', 'mr_hop';
COMMENT ON FUNCTION millrace.hop(timestamp, interval, interval)
  IS 'the windows of a size, one beginning every so often, that a time lies in, by their beginnings';

-- groups that are too old
CREATE FUNCTION millrace.kept(value timestamptz, bound integer) RETURNS timestamptz
LANGUAGE C STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_kept_timestamp';
COMMENT ON FUNCTION millrace.kept(timestamptz, integer) IS 'in a view''s batches: minus infinity where the value is too old for its retention';
CREATE FUNCTION millrace.kept(value timestamp, bound integer) RETURNS timestamp
LANGUAGE C STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_kept_timestamp';
COMMENT ON FUNCTION millrace.kept(timestamp, integer) IS 'in a view''s batches: minus infinity where the value is too old for its retention';
CREATE FUNCTION millrace.kept(value date, bound integer) RETURNS date
LANGUAGE C STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_kept_date';
COMMENT ON FUNCTION millrace.kept(date, integer) IS 'in a view''s batches: minus infinity where the value is too old for its retention';

-- in the batches of views with a sliding window
CREATE FUNCTION millrace.message_time(tid) RETURNS timestamptz
LANGUAGE C STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_message_time';
COMMENT ON FUNCTION millrace.message_time(tid) IS 'in a view''s batches: the timestamp of the message that a row came from, by its ctid';
CREATE FUNCTION millrace.window_step("time" timestamptz, sliding_window interval, step interval) RETURNS timestamptz
LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_window_step_of';
COMMENT ON FUNCTION millrace.window_step(timestamptz, interval, interval)
  IS 'in a view''s batches: the step of its sliding window that a time falls into';

CREATE FUNCTION millrace.set_retention(view regclass, retention interval, retention_column text) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_set_retention';
COMMENT ON FUNCTION millrace.set_retention(regclass, interval, text)
  IS 'groups whose output column is older are no longer shown, and removed; null, null: none';

CREATE FUNCTION millrace.set_changes_retention(view regclass, retention interval) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_set_changes_retention';
COMMENT ON FUNCTION millrace.set_changes_retention(regclass, interval)
  IS 'how long the changes of a view are kept; null: for ever';

-- many stored states of an aggregate into one: below combine() and sliding windows
CREATE FUNCTION millrace.merge_states_transition(internal, regprocedure, anyelement, VARIADIC "any")
RETURNS internal LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_merge_states_transition';
COMMENT ON FUNCTION millrace.merge_states_transition(internal, regprocedure, anyelement, VARIADIC "any") IS 'aggregate transition function';
CREATE FUNCTION millrace.merge_states_final(internal, regprocedure, anyelement, VARIADIC "any")
RETURNS anyelement LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_merge_states_final';
COMMENT ON FUNCTION millrace.merge_states_final(internal, regprocedure, anyelement, VARIADIC "any") IS 'aggregate final function';
CREATE FUNCTION millrace.merge_states_transition(internal, regprocedure, anyelement)
RETURNS internal LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_merge_states_transition';
COMMENT ON FUNCTION millrace.merge_states_transition(internal, regprocedure, anyelement) IS 'aggregate transition function';
CREATE FUNCTION millrace.merge_states_final(internal, regprocedure, anyelement)
RETURNS anyelement LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_merge_states_final';
COMMENT ON FUNCTION millrace.merge_states_final(internal, regprocedure, anyelement) IS 'aggregate final function';
CREATE AGGREGATE millrace.merge_states(aggregate regprocedure, state anyelement, VARIADIC arguments "any")
  (SFUNC = millrace.merge_states_transition, STYPE = internal, SSPACE = 100, FINALFUNC = millrace.merge_states_final,
   FINALFUNC_EXTRA, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.merge_states(regprocedure, anyelement, VARIADIC "any")
  IS 'one stored state of an aggregate out of many; the last arguments only tell types';
CREATE AGGREGATE millrace.merge_states(aggregate regprocedure, state anyelement)
  (SFUNC = millrace.merge_states_transition, STYPE = internal, SSPACE = 100, FINALFUNC = millrace.merge_states_final,
   FINALFUNC_EXTRA, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.merge_states(regprocedure, anyelement) IS 'one stored state of an aggregate out of many';

CREATE FUNCTION millrace.combine_transition(anyelement, anyelement) RETURNS anyelement
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_combine_transition';
COMMENT ON FUNCTION millrace.combine_transition(anyelement, anyelement) IS 'aggregate transition function';
CREATE AGGREGATE millrace.combine("column" anyelement) (SFUNC = millrace.combine_transition, STYPE = anyelement, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.combine(anyelement)
  IS 'a continuous view''s aggregate over all rows of a group: from the stored states, not from what is shown';

CREATE FUNCTION millrace.deactivate(relation regclass) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_deactivate';
COMMENT ON FUNCTION millrace.deactivate(regclass)
  IS 'stops a view, or all views of a stream; positions are kept';

CREATE FUNCTION millrace.activate(relation regclass) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_activate';
COMMENT ON FUNCTION millrace.activate(regclass)
  IS 'starts a view, or all views of a stream, from where it stood; also after a failure';

CREATE FUNCTION millrace.truncate_continuous_view(view regclass) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_truncate_continuous_view';
COMMENT ON FUNCTION millrace.truncate_continuous_view(regclass)
  IS 'empties a view; it goes on from its present position';

CREATE FUNCTION millrace.rebuild(view regclass, start_at text DEFAULT NULL) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_rebuild';
COMMENT ON FUNCTION millrace.rebuild(regclass, text)
  IS 'recomputes a view from its topics beside its present contents, which are replaced at once when the new ones are complete; start_at: null means where the view began';

CREATE FUNCTION millrace.cancel_rebuild(view regclass) RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_cancel_rebuild';
COMMENT ON FUNCTION millrace.cancel_rebuild(regclass) IS 'gives up a rebuild; false when there was none';

CREATE FUNCTION millrace.wait_for_latest(view regclass, timeout interval DEFAULT NULL) RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_wait_for_latest';
COMMENT ON FUNCTION millrace.wait_for_latest(regclass, interval)
  IS 'waits until the view holds all that was in the topic at the call; false on timeout';

CREATE FUNCTION millrace.wait_for_offset(view regclass, partition integer, message_offset bigint,
                                         timeout interval DEFAULT NULL) RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_wait_for_offset';
COMMENT ON FUNCTION millrace.wait_for_offset(regclass, integer, bigint, interval)
  IS 'waits until the view holds the message at that offset of the partition; false on timeout';

CREATE FUNCTION millrace.replay(stream regclass, filter text DEFAULT NULL) RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_replay';
COMMENT ON FUNCTION millrace.replay(regclass, text)
  IS 'feeds dead letters of a stream once more, each exactly once into the views that miss it, or those of one view into that; filter: a condition over millrace.dead_letters. Returns how many succeeded';

CREATE FUNCTION millrace.explain_view(view regclass) RETURNS SETOF text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_explain_view';
COMMENT ON FUNCTION millrace.explain_view(regclass) IS 'the plan that one batch of messages runs';

REVOKE ALL ON FUNCTION millrace.create_topic(name, text, integer, integer, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.create_topic(name, text, integer, integer, jsonb) TO PUBLIC;  -- checks USAGE

------------------------------------------------------------------------------
-- What follows DDL on views, streams and tables
------------------------------------------------------------------------------

CREATE FUNCTION millrace.on_drop() RETURNS event_trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'mr_on_drop';
COMMENT ON FUNCTION millrace.on_drop() IS 'removes what belonged to dropped views and streams';

CREATE FUNCTION millrace.on_ddl_start() RETURNS event_trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'mr_on_ddl_start';
COMMENT ON FUNCTION millrace.on_ddl_start() IS 'refuses CREATE OR REPLACE VIEW and CREATE RULE on continuous views and their parts, warns of a stream column''s new name';

CREATE FUNCTION millrace.on_ddl_end() RETURNS event_trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'mr_on_ddl_end';
COMMENT ON FUNCTION millrace.on_ddl_end() IS 'lets a view''s parts follow its name, schema and owner, refuses triggers on them';

CREATE FUNCTION millrace.refuse_write() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'mr_refuse_write';
COMMENT ON FUNCTION millrace.refuse_write() IS 'trigger of continuous views: messages alone write them';

CREATE EVENT TRIGGER millrace_on_drop ON sql_drop EXECUTE FUNCTION millrace.on_drop();
CREATE EVENT TRIGGER millrace_on_ddl_start ON ddl_command_start
  WHEN TAG IN ('CREATE VIEW', 'CREATE RULE', 'ALTER TABLE', 'ALTER FOREIGN TABLE', 'ALTER TYPE',
               'DROP TABLE', 'DROP FOREIGN TABLE', 'DROP VIEW', 'DROP SCHEMA', 'DROP OWNED', 'DROP SERVER', 'DROP EXTENSION',
               'DROP FUNCTION', 'DROP AGGREGATE', 'DROP TYPE', 'DROP DOMAIN', 'DROP OPERATOR', 'DROP COLLATION')
  EXECUTE FUNCTION millrace.on_ddl_start();
CREATE EVENT TRIGGER millrace_on_ddl_end ON ddl_command_end
  WHEN TAG IN ('ALTER VIEW', 'ALTER TABLE', 'ALTER FOREIGN TABLE', 'ALTER TYPE', 'ALTER SCHEMA', 'ALTER TRIGGER',
               'CREATE TABLE', 'CREATE FOREIGN TABLE', 'CREATE SCHEMA', 'CREATE TRIGGER', 'CREATE RULE')
  EXECUTE FUNCTION millrace.on_ddl_end();
-- also for sessions with session_replication_role = replica
ALTER EVENT TRIGGER millrace_on_drop ENABLE ALWAYS;
ALTER EVENT TRIGGER millrace_on_ddl_start ENABLE ALWAYS;
ALTER EVENT TRIGGER millrace_on_ddl_end ENABLE ALWAYS;

------------------------------------------------------------------------------
-- Monitoring
------------------------------------------------------------------------------

CREATE FUNCTION millrace.is_home(cluster bigint, database oid, extension oid) RETURNS boolean
LANGUAGE C STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mr_is_home';
COMMENT ON FUNCTION millrace.is_home(bigint, oid, oid)
  IS 'are these the system identifier of this cluster, and the OIDs of this database and extension';

CREATE FUNCTION millrace.readable_error(error text, relation regclass) RETURNS text
LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'mr_readable_error';
COMMENT ON FUNCTION millrace.readable_error(text, regclass)
  IS 'the error of a view or a stream, for those who may read it; null: of neither';

CREATE FUNCTION millrace.worker_slots(
  OUT pid integer, OUT stream regclass, OUT feed bigint, OUT shard integer, OUT state text,
  OUT last_error text, OUT last_error_at timestamptz, OUT batches bigint, OUT messages bigint,
  OUT batch_messages_avg double precision, OUT decode_ms double precision, OUT aggregate_ms double precision,
  OUT merge_ms double precision, OUT commit_ms double precision)
RETURNS SETOF record LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_worker_slots';
COMMENT ON FUNCTION millrace.worker_slots() IS 'ingest processes of this database, from shared memory';

CREATE FUNCTION millrace.worker_shortage() RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_worker_shortage';
COMMENT ON FUNCTION millrace.worker_shortage()
  IS 'why not all ingest processes of this database can be started; null when they can';

CREATE FUNCTION millrace.view_counters(view regclass, OUT rows_in bigint, OUT rows_out bigint)
RETURNS record LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'mr_view_counters';
COMMENT ON FUNCTION millrace.view_counters(regclass)
  IS 'rows that a view''s plans have read and rows that they gave to the merge, since the server started';

CREATE FUNCTION millrace.watermarks(stream regclass, OUT partition integer, OUT low_watermark bigint, OUT high_watermark bigint)
RETURNS SETOF record LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'mr_watermarks';
COMMENT ON FUNCTION millrace.watermarks(regclass)
  IS 'asks the broker for the first and the end offset of each partition; no rows, and a warning, when it does not answer';

-- Views that everybody may read; each shows what its reader may SELECT from anyway.  They are
-- security barriers, so that no function of his sees other rows first.

CREATE VIEW millrace.workers WITH (security_barrier) AS
  SELECT pid, stream, feed, shard, state, last_error, last_error_at, batches, messages,
         pg_catalog.round(batch_messages_avg::numeric, 1)::double precision AS batch_messages_avg,
         pg_catalog.round(decode_ms::numeric, 3)::double precision AS decode_ms,
         pg_catalog.round(aggregate_ms::numeric, 3)::double precision AS aggregate_ms,
         pg_catalog.round(merge_ms::numeric, 3)::double precision AS merge_ms,
         pg_catalog.round(commit_ms::numeric, 3)::double precision AS commit_ms
  FROM millrace.worker_slots()
  WHERE pg_catalog.has_table_privilege(stream, 'SELECT');
COMMENT ON VIEW millrace.workers IS 'ingest processes; times in ms since the start of each';

CREATE VIEW millrace.views WITH (security_barrier) AS
  SELECT v.view, coalesce(f.stream, n.stream) AS stream, v.kind,
         CASE WHEN n.stream IS NOT NULL THEN CASE WHEN v.failed THEN 'failed' WHEN v.active THEN 'running' ELSE 'paused' END
              WHEN (v.failed OR NOT v.active OR f.away) AND b.active AND NOT b.failed AND NOT b.away THEN 'catching up'
              WHEN v.failed THEN 'failed'
              WHEN NOT v.active OR f.away THEN 'paused'
              WHEN f.stopped OR NOT pg_catalog.current_setting('millrace.enabled', true)::boolean THEN 'stopped'
              WHEN w.retrying OR w.state IS NULL AND h.shortage IS NOT NULL THEN 'retrying'
              WHEN NOT f.live AND NOT f.apart THEN 'catching up'
              ELSE coalesce(w.state, 'starting') END AS state,
         v.query,
         greatest(c.reltuples::bigint, pg_catalog.pg_stat_get_live_tuples(c.oid)) AS groups_estimate,
         r.rows_in, r.rows_out,
         CASE WHEN v.failed THEN v.last_error
              WHEN n.stream IS NOT NULL THEN NULL
              WHEN f.away THEN 'the database was restored or copied; millrace.activate() starts ingest here'
              WHEN f.stopped THEN millrace.readable_error(f.last_error, coalesce(f.blamed, f.stream))
              WHEN w.retrying THEN w.last_error
              WHEN w.state IS NULL AND h.shortage IS NOT NULL AND v.active THEN h.shortage
              WHEN b.failed THEN 'rebuild failed: ' || b.last_error
              WHEN b.retrying IS NOT NULL THEN 'rebuild: ' || b.retrying
              ELSE v.last_error END AS last_error,
         v.active, f.live, v.start_at, v.matrel, v.last_error_at,
         CASE WHEN b.failed THEN 'failed'
              WHEN NOT b.active OR b.away THEN 'paused'
              WHEN b.stopped OR b.active AND NOT pg_catalog.current_setting('millrace.enabled', true)::boolean THEN 'stopped'
              WHEN b.retrying IS NOT NULL THEN 'retrying'
              WHEN b.active THEN 'catching up' END AS rebuild,
         e.retention, e.retention_column, e.late_events, x.sliding_window, x.step, x.time_column,
         cf.changes, cf.retention AS changes_retention,
         v.target
  FROM millrace.continuous_view v
  LEFT JOIN pg_catalog.pg_class c ON c.oid = v.matrel
  LEFT JOIN LATERAL
    (SELECT s.stream, s.feed, f.live, f.apart, f.stopped, f.last_error, f.blamed,
            NOT millrace.is_home(f.home_cluster, f.home_database, f.home_extension) AS away
     FROM millrace.view_stream s JOIN millrace.feed f ON f.id = s.feed
     WHERE s.view = v.view ORDER BY away DESC, f.stopped DESC, f.live, s.stream::oid LIMIT 1) f ON true
  LEFT JOIN LATERAL
    (SELECT s.stream FROM millrace.view_stream s
     WHERE s.view = v.view AND s.feed = 0 ORDER BY s.stream::oid LIMIT 1) n ON true
  LEFT JOIN LATERAL
    (SELECT pg_catalog.bool_or(w.state = 'retrying') AS retrying, pg_catalog.min(w.state) AS state,
            pg_catalog.max(w.last_error) FILTER (WHERE w.state = 'retrying') AS last_error
     FROM millrace.view_stream s JOIN millrace.worker_slots() w ON w.feed = s.feed
     WHERE s.view = v.view) w ON true
  LEFT JOIN LATERAL
    (SELECT s.active, s.failed, s.last_error,
            (SELECT pg_catalog.max(w.last_error)
             FROM millrace.view_stream x JOIN millrace.worker_slots() w ON w.feed = x.feed
             WHERE x.view = s.view AND w.state = 'retrying') AS retrying,
            EXISTS (SELECT FROM millrace.view_stream x JOIN millrace.feed f ON f.id = x.feed
                    WHERE x.view = s.view AND f.stopped) AS stopped,
            EXISTS (SELECT FROM millrace.view_stream x JOIN millrace.feed f ON f.id = x.feed
                    WHERE x.view = s.view AND NOT millrace.is_home(f.home_cluster, f.home_database, f.home_extension)) AS away
     FROM millrace.continuous_view s WHERE s.rebuilds = v.view) b ON true
  LEFT JOIN LATERAL
    (SELECT pg_catalog.max(t.retention) AS retention,
            pg_catalog.max(a.attname::text) FILTER (WHERE t.retention IS NOT NULL) AS retention_column,
            pg_catalog.sum(t.late_events)::bigint AS late_events
     FROM millrace.view_retention t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.view AND a.attnum = t.column_number
     WHERE t.view = v.view) e ON true
  LEFT JOIN millrace.view_window x ON x.view = v.view
  LEFT JOIN millrace.view_changes cf ON cf.view = v.view
  LEFT JOIN LATERAL millrace.view_counters(v.view) r ON true
  CROSS JOIN millrace.worker_shortage() h(shortage)
  WHERE v.rebuilds IS NULL AND pg_catalog.has_table_privilege(v.view, 'SELECT');
COMMENT ON VIEW millrace.views IS 'continuous views and transforms, and what they do now';

CREATE VIEW millrace.streams WITH (security_barrier) AS
  SELECT s.stream, s.topic, s.format,
         CASE WHEN l.stopped OR l.id IS NULL AND n.running > 0 AND n.fed = 0 THEN 'stopped'
              WHEN n.views = 0 OR NOT pg_catalog.current_setting('millrace.enabled', true)::boolean THEN 'stopped'
              WHEN n.running = 0 AND n.failed > 0 THEN 'failed'
              WHEN n.running = 0 THEN 'paused'
              WHEN w.retrying OR w.state IS NULL AND h.shortage IS NOT NULL THEN 'retrying'
              ELSE coalesce(w.live_state, w.state, 'starting') END AS state,
         CASE WHEN n.running = 0 AND n.failed > 0 THEN n.last_error
              WHEN n.running = 0 AND n.away > 0 THEN 'the database was restored or copied; millrace.activate() starts ingest here'
              WHEN n.running > 0 AND w.state IS NULL AND h.shortage IS NOT NULL THEN h.shortage
              WHEN w.last_error IS NULL OR t.last_error_at > w.last_error_at THEN millrace.readable_error(t.last_error, t.blamed)
              ELSE w.last_error END AS last_error,
         greatest(t.last_error_at, w.last_error_at,
                             CASE WHEN n.running = 0 THEN n.last_error_at END) AS last_error_at,
         coalesce(o.messages, 0) AS messages,
         coalesce(o.bytes, 0) AS bytes,
         (SELECT pg_catalog.count(*) FROM millrace.dead_letter d WHERE d.stream = s.stream) AS dead_letters,
         coalesce(o.tombstones, 0) AS tombstones,
         coalesce(o.skipped, 0) AS skipped
  FROM (SELECT ft.ftrelid::regclass AS stream,
               (SELECT option_value FROM pg_catalog.pg_options_to_table(ft.ftoptions) WHERE option_name = 'topic') AS topic,
               coalesce((SELECT option_value FROM pg_catalog.pg_options_to_table(ft.ftoptions)
                                    WHERE option_name = 'format'), 'json') AS format
        FROM pg_catalog.pg_foreign_table ft
        JOIN pg_catalog.pg_foreign_server fs ON fs.oid = ft.ftserver
        JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = fs.srvfdw
        WHERE w.fdwname = 'millrace') s
  LEFT JOIN millrace.stream_status t USING (stream)
  LEFT JOIN millrace.feed l ON l.stream = s.stream AND l.live
  LEFT JOIN LATERAL
    (SELECT pg_catalog.count(*) AS views,
            pg_catalog.count(*) FILTER (WHERE v.active AND NOT v.failed AND a.home) AS running,
            pg_catalog.count(*) FILTER (WHERE v.active AND NOT v.failed AND a.home AND NOT f.stopped) AS fed,
            pg_catalog.count(*) FILTER (WHERE v.active AND NOT v.failed AND NOT a.home) AS away,
            pg_catalog.count(*) FILTER (WHERE v.failed) AS failed,
            (pg_catalog.array_agg(millrace.readable_error(v.last_error, v.view)
                                  ORDER BY pg_catalog.has_table_privilege(v.view, 'SELECT') DESC, v.last_error_at DESC)
               FILTER (WHERE v.failed))[1] AS last_error,
            pg_catalog.max(v.last_error_at) FILTER (WHERE v.failed) AS last_error_at
     FROM millrace.view_stream x JOIN millrace.continuous_view v USING (view)
     JOIN millrace.feed f ON f.id = x.feed,
     LATERAL millrace.is_home(f.home_cluster, f.home_database, f.home_extension) a(home)
     WHERE x.stream = s.stream AND v.rebuilds IS NULL) n ON true
  LEFT JOIN LATERAL
    (SELECT pg_catalog.sum(p.messages)::bigint AS messages, pg_catalog.sum(p.bytes)::bigint AS bytes,
            pg_catalog.sum(p.tombstones)::bigint AS tombstones, pg_catalog.sum(p.skipped)::bigint AS skipped
     FROM (SELECT pg_catalog.max(o.messages) AS messages, pg_catalog.max(o.bytes) AS bytes,
                  pg_catalog.max(o.tombstones) AS tombstones, pg_catalog.max(o.skipped) AS skipped
           FROM millrace.feed f JOIN millrace.feed_offset o ON o.feed = f.id
           WHERE f.stream = s.stream
             AND (f.live OR EXISTS (SELECT FROM millrace.view_stream x JOIN millrace.continuous_view v USING (view)
                                    WHERE x.feed = f.id AND v.rebuilds IS NULL))
           GROUP BY o.partition) p) o ON true
  LEFT JOIN LATERAL
    (SELECT pg_catalog.bool_or(w.state = 'retrying') AS retrying, pg_catalog.min(w.state) AS state,
            pg_catalog.min(w.state) FILTER (WHERE f.live) AS live_state,
            (pg_catalog.array_agg(w.last_error ORDER BY w.last_error_at DESC NULLS LAST))[1] AS last_error,
            pg_catalog.max(w.last_error_at) AS last_error_at
     FROM millrace.worker_slots() w LEFT JOIN millrace.feed f ON f.id = w.feed
     WHERE w.stream = s.stream) w ON true
  CROSS JOIN millrace.worker_shortage() h(shortage)
  WHERE pg_catalog.has_table_privilege(s.stream, 'SELECT')
  UNION ALL
  SELECT t.relation, NULL, 'table',
         CASE WHEN n.running > 0 THEN 'running' WHEN n.failed > 0 THEN 'failed' WHEN n.views > 0 THEN 'paused' ELSE 'stopped' END,
         CASE WHEN n.running = 0 THEN n.last_error END,
         CASE WHEN n.running = 0 THEN n.last_error_at END,
         NULL, NULL, 0, 0, 0
  FROM millrace.table_stream t,
       LATERAL (SELECT pg_catalog.count(*) AS views,
                       pg_catalog.count(*) FILTER (WHERE v.active AND NOT v.failed) AS running,
                       pg_catalog.count(*) FILTER (WHERE v.failed) AS failed,
                       (pg_catalog.array_agg(millrace.readable_error(v.last_error, v.view)
                                             ORDER BY pg_catalog.has_table_privilege(v.view, 'SELECT') DESC, v.last_error_at DESC)
                          FILTER (WHERE v.failed))[1] AS last_error,
                       pg_catalog.max(v.last_error_at) FILTER (WHERE v.failed) AS last_error_at
                FROM millrace.view_stream x JOIN millrace.continuous_view v USING (view)
                WHERE x.stream = t.relation AND x.feed = 0) n
  WHERE pg_catalog.has_table_privilege(t.relation, 'SELECT');
COMMENT ON VIEW millrace.streams IS 'streams and what their ingest does now';

CREATE VIEW millrace.partitions WITH (security_barrier) AS
  WITH w AS MATERIALIZED
    (SELECT s.stream, w.* FROM (SELECT DISTINCT stream FROM millrace.view_stream WHERE feed <> 0) s,
            LATERAL millrace.watermarks(s.stream) w),
  p AS
    (SELECT stream, partition FROM w
     UNION
     SELECT f.stream, o.partition FROM millrace.feed f JOIN millrace.feed_offset o ON o.feed = f.id)
  SELECT v.view, v.stream, p.partition, o.next_offset, w.low_watermark, w.high_watermark,
         -- of another log, or one that has lost messages, which ingest has not noticed yet or has stopped at
         CASE WHEN coalesce(o.next_offset, w.low_watermark) <= w.high_watermark
              THEN w.high_watermark - coalesce(o.next_offset, w.low_watermark)
         END AS lag,
         CASE WHEN w.high_watermark IS NULL OR o.next_offset > w.high_watermark THEN NULL
              WHEN w.high_watermark = coalesce(o.next_offset, w.low_watermark) THEN 0
              ELSE pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - o."timestamp")
         END AS lag_seconds,
         r.next_offset AS rebuild_next_offset
  FROM millrace.view_stream v
  JOIN millrace.continuous_view c ON c.view = v.view AND c.rebuilds IS NULL
  JOIN p ON p.stream = v.stream
  LEFT JOIN w ON w.stream = p.stream AND w.partition = p.partition
  LEFT JOIN millrace.feed_offset o ON o.feed = v.feed AND o.partition = p.partition
  LEFT JOIN millrace.continuous_view s ON s.rebuilds = v.view
  LEFT JOIN millrace.view_stream x ON x.view = s.view AND x.stream = v.stream
  LEFT JOIN millrace.feed_offset r ON r.feed = x.feed AND r.partition = p.partition
  WHERE pg_catalog.has_table_privilege(v.view, 'SELECT')
  ORDER BY v.view::oid, v.stream::oid, p.partition;
COMMENT ON VIEW millrace.partitions IS 'how far each view is in each partition; asks the broker';

CREATE VIEW millrace.dead_letters WITH (security_barrier) AS
  SELECT id, stream, view, partition, message_offset, message_timestamp, key, value, headers, sqlstate,
         millrace.readable_error(error, view) AS error, failed_at, missed
  FROM millrace.dead_letter d
  WHERE NOT EXISTS (SELECT FROM millrace.continuous_view c WHERE c.view = d.view AND c.rebuilds IS NOT NULL)
    AND pg_catalog.has_table_privilege(stream, 'SELECT');
COMMENT ON VIEW millrace.dead_letters IS 'messages that could not be used; view is null where no view took the message: missed tells which ones did not';

CREATE VIEW millrace.gaps WITH (security_barrier) AS
  SELECT stream, partition, from_offset, to_offset, reason, detected_at, passed
  FROM millrace.gap
  WHERE pg_catalog.has_table_privilege(stream, 'SELECT');
COMMENT ON VIEW millrace.gaps IS 'ranges of offsets that the broker no longer had; to_offset is the first one not lost; passed: ingest has gone on after it';
