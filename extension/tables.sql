
------------------------------------------------------------------------------
-- Tables whose INSERTs are streams
------------------------------------------------------------------------------

CREATE FUNCTION millrace.attach_table(relation regclass) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_attach_table';
COMMENT ON FUNCTION millrace.attach_table(regclass)
  IS 'makes the INSERTs of an ordinary table a stream for continuous views, without a broker';

CREATE FUNCTION millrace.detach_table(relation regclass) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'mr_detach_table';
COMMENT ON FUNCTION millrace.detach_table(regclass) IS 'undoes attach_table(); no view may follow the table';

CREATE FUNCTION millrace.stream_insert() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'mr_stream_insert';
COMMENT ON FUNCTION millrace.stream_insert() IS 'trigger of attached tables: gives inserted rows to the views that follow';
REVOKE ALL ON FUNCTION millrace.stream_insert() FROM PUBLIC;
