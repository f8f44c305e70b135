-- Options of servers, user mappings, streams and columns: what is refused, and how it is said.
CREATE SCHEMA stream_options;
SET search_path = stream_options;
\set VERBOSITY default

-- servers: librdkafka's properties
CREATE SERVER so_bad FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.server" 'localhost:1');
CREATE SERVER so_bad FOREIGN DATA WRAPPER millrace OPTIONS ("no such thing" 'x');
CREATE SERVER so_bad FOREIGN DATA WRAPPER millrace OPTIONS ("socket.timeout.ms" 'soon');
CREATE SERVER so_bad FOREIGN DATA WRAPPER millrace OPTIONS ("group.id" 'mine');
CREATE SERVER so_bad FOREIGN DATA WRAPPER millrace OPTIONS ("enable.auto.commit" 'true');
CREATE SERVER so_bad FOREIGN DATA WRAPPER millrace OPTIONS ("auto.offset.reset" 'earliest');
CREATE SERVER so_bad FOREIGN DATA WRAPPER millrace OPTIONS ("sasl.password" 'secret');
CREATE SERVER so_bad FOREIGN DATA WRAPPER millrace OPTIONS (topic 'x');
CREATE SERVER so FOREIGN DATA WRAPPER millrace OPTIONS ("client.id" 'stream_options', "socket.timeout.ms" '5000');
ALTER SERVER so OPTIONS (SET "socket.timeout.ms" '6000', ADD "fetch.min.bytes" '1');

-- user mappings: secrets and credentials
CREATE USER MAPPING FOR CURRENT_USER SERVER so OPTIONS ("sasl.username" 'app', "sasl.password" 'secret');
ALTER USER MAPPING FOR CURRENT_USER SERVER so OPTIONS (ADD "bootstrap.servers" 'localhost:1');
ALTER USER MAPPING FOR CURRENT_USER SERVER so OPTIONS (ADD "group.id" 'mine');
\set VERBOSITY terse
ALTER USER MAPPING FOR CURRENT_USER SERVER so OPTIONS (ADD "sasl.pasword" 'secret');
\set VERBOSITY default

-- streams
CREATE FOREIGN TABLE bad (a int) SERVER so;
CREATE FOREIGN TABLE bad (a int) SERVER so OPTIONS (topic 'no spaces, please');
CREATE FOREIGN TABLE bad (a int) SERVER so OPTIONS (topic '..');
CREATE FOREIGN TABLE bad (a int) SERVER so OPTIONS (topic 't', fromat 'json');
CREATE FOREIGN TABLE bad (a int) SERVER so OPTIONS (topic 't', "group.id" 'mine');
CREATE FOREIGN TABLE bad (a int) SERVER so OPTIONS (topic 't', format 'xml');
CREATE FOREIGN TABLE bad (a int) SERVER so OPTIONS (topic 't', on_error 'ignore');
CREATE FOREIGN TABLE bad (a int) SERVER so OPTIONS (topic 't', on_gap 'skip');
CREATE FOREIGN TABLE bad (a int) SERVER so OPTIONS (topic 't', workers '0');
CREATE FOREIGN TABLE bad (a int) SERVER so OPTIONS (topic 't', workers 'two');
CREATE FOREIGN TABLE ok (a int) SERVER so
  OPTIONS (topic 't', format 'json', on_error 'stop', on_gap 'latest', workers '2');
ALTER FOREIGN TABLE ok OPTIONS (DROP topic);
ALTER FOREIGN TABLE ok OPTIONS (SET on_error 'skip');

-- columns
ALTER FOREIGN TABLE ok ALTER a OPTIONS (ADD metadata 'partitions');
ALTER FOREIGN TABLE ok ALTER a OPTIONS (ADD path '');
ALTER FOREIGN TABLE ok ALTER a OPTIONS (ADD path 'a..b');
ALTER FOREIGN TABLE ok ALTER a OPTIONS (ADD pth 'b');
ALTER FOREIGN TABLE ok ALTER a OPTIONS (ADD path 'b.c', ADD metadata 'offset');
ALTER FOREIGN TABLE ok ALTER a OPTIONS (ADD path 'b.c');

-- what is found out only when the stream is used; none of these contacts a broker
SELECT * FROM ok;
INSERT INTO ok VALUES (1);
CREATE FOREIGN TABLE wrong_offset (o integer OPTIONS (metadata 'offset')) SERVER so OPTIONS (topic 't');
EXPLAIN SELECT * FROM wrong_offset;
CREATE FOREIGN TABLE wrong_partition (p text OPTIONS (metadata 'partition')) SERVER so OPTIONS (topic 't');
EXPLAIN SELECT * FROM wrong_partition;
CREATE FOREIGN TABLE wrong_timestamp (t date OPTIONS (metadata 'timestamp')) SERVER so OPTIONS (topic 't');
EXPLAIN SELECT * FROM wrong_timestamp;
CREATE FOREIGN TABLE wrong_key (k integer OPTIONS (metadata 'key')) SERVER so OPTIONS (topic 't');
EXPLAIN SELECT * FROM wrong_key;
CREATE FOREIGN TABLE wrong_headers (h json OPTIONS (metadata 'headers')) SERVER so OPTIONS (topic 't');
EXPLAIN SELECT * FROM wrong_headers;
CREATE FOREIGN TABLE generated (a integer, b integer GENERATED ALWAYS AS (a + 1) STORED) SERVER so OPTIONS (topic 't');
EXPLAIN SELECT * FROM generated;

-- who may do what
CREATE ROLE regress_stream_user;
GRANT ALL ON SCHEMA stream_options TO regress_stream_user;
GRANT USAGE ON FOREIGN DATA WRAPPER millrace TO regress_stream_user;
GRANT USAGE ON SCHEMA millrace TO regress_stream_user;
SET ROLE regress_stream_user;
CREATE FOREIGN TABLE not_mine (a int) SERVER so OPTIONS (topic 't');
SELECT millrace.create_topic('so', 't');
CREATE SERVER so_user FOREIGN DATA WRAPPER millrace OPTIONS ("plugin.library.paths" 'evil');
CREATE SERVER so_user FOREIGN DATA WRAPPER millrace OPTIONS ("sasl.kerberos.kinit.cmd" 'evil');
CREATE SERVER so_user FOREIGN DATA WRAPPER millrace OPTIONS ("ssl.ca.location" '/etc/passwd');
\set VERBOSITY terse
CREATE SERVER so_user FOREIGN DATA WRAPPER millrace OPTIONS ("security.protocol" ' sasl_plaintext');
CREATE SERVER so_user FOREIGN DATA WRAPPER millrace
  OPTIONS ("security.protocol" 'sasl_ssl', "sasl.mechanisms" 'PLAIN', "sasl.mechanism" 'GSSAPI');
\set VERBOSITY default
CREATE SERVER so_user FOREIGN DATA WRAPPER millrace OPTIONS ("client.id" 'user');
CREATE USER MAPPING FOR CURRENT_USER SERVER so_user OPTIONS ("ssl.key.location" '/etc/passwd');
RESET ROLE;

-- create_topic's own arguments
SELECT millrace.create_topic(NULL, 't');
SELECT millrace.create_topic('so', NULL);
SELECT millrace.create_topic('so', 't', config => NULL);
SELECT millrace.create_topic('nowhere', 't');
SELECT millrace.create_topic('so', 'a/b');
SELECT millrace.create_topic('so', 't', partitions => 0);
SELECT millrace.create_topic('so', 't', replication => -1);
SELECT millrace.create_topic('so', 't', config => '[]');
SELECT millrace.create_topic('so', 't', config => '{"retention.ms": [1]}');
SELECT millrace.create_topic('so', 't');

\set VERBOSITY terse
SET client_min_messages = warning;
DROP SCHEMA stream_options CASCADE;
DROP SERVER so CASCADE;
DROP SERVER so_user CASCADE;
DROP OWNED BY regress_stream_user;
DROP ROLE regress_stream_user;
