-- Writing topics: what becomes of rows, transactions and subtransactions.
CREATE SCHEMA stream_insert;
SET search_path = stream_insert;
SET timezone = 'UTC';
\getenv bootstrap MILLRACE_BOOTSTRAP
-- Kafka completes a commit shortly after it is acknowledged: wait for a condition.
CREATE FUNCTION wait_for(condition text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  met boolean;
  give_up timestamptz := clock_timestamp() + current_setting('test.patience')::interval;
BEGIN
  LOOP
    EXECUTE 'SELECT ' || condition INTO met;
    EXIT WHEN met;
    IF clock_timestamp() > give_up THEN
      RAISE EXCEPTION 'waited in vain for %', condition;
    END IF;
  END LOOP;
END $$;
SELECT 'stream_insert_' || gen_random_uuid() AS topic, 'stream_insert_' || gen_random_uuid() AS topic2 \gset
CREATE SERVER stream_insert_kafka FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.servers" :'bootstrap');
SELECT millrace.create_topic('stream_insert_kafka', :'topic', partitions => 2, config => '{"retention.ms": -1}');
SELECT millrace.create_topic('stream_insert_kafka', :'topic2');
CREATE FOREIGN TABLE s (
  i int, t text DEFAULT 'default', n numeric OPTIONS (path 'nested.deep.n'), j jsonb, a int[],
  k text OPTIONS (metadata 'key'), h jsonb OPTIONS (metadata 'headers'),
  p int OPTIONS (metadata 'partition'), o bigint OPTIONS (metadata 'offset'),
  ts timestamptz OPTIONS (metadata 'timestamp')
) SERVER stream_insert_kafka OPTIONS (topic :'topic');
CREATE FOREIGN TABLE s2 (i int, o bigint OPTIONS (metadata 'offset'))
  SERVER stream_insert_kafka OPTIONS (topic :'topic2');

-- what goes in comes out
INSERT INTO s VALUES
  (1, 'one', 1.50, '{"x": [1, null]}', '{1,2,NULL}', 'k1', '{"a": "x", "b": 1, "c": null}', 1, NULL, '2024-05-01 12:00:00.123'),
  (2, E'quo"te \\ \n \t é 😀', 12345678901234567890.123456789, '"text"', '{}', '', '{}', 0, NULL, NULL),
  (NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL)
  RETURNING i, n, k, p, o;
INSERT INTO s (i, p) VALUES (3, 0);
SELECT FROM wait_for('(SELECT count(*) FROM s) = 4');
SELECT i, t = 'one' AS one, t = E'quo"te \\ \n \t é 😀' AS odd, n, j, a, k, h, p, o, ts = '2024-05-01 12:00:00.123' AS ts, ts > '2024-05-02' AS later FROM s ORDER BY p, o;

COPY s (i, t, p) FROM stdin;
4	copied	1
5	\N	1
\.
COPY s (i, p, ts) FROM stdin WITH (FORMAT csv, HEADER);
i,p,ts
6,1,2024-05-01 12:00:01
\.
SELECT FROM wait_for('(SELECT count(*) FROM s) = 7');
SELECT i, t FROM s WHERE i >= 4 ORDER BY i;

-- what a message cannot have
INSERT INTO s (i, o) VALUES (1, 1);
INSERT INTO s (i, p) VALUES (1, -1);
INSERT INTO s (i, ts) VALUES (1, 'infinity');
INSERT INTO s (i, ts) VALUES (1, '1969-12-31');
INSERT INTO s (i, h) VALUES (1, '[1]');
INSERT INTO s (i) VALUES (1) ON CONFLICT (i) DO UPDATE SET t = 'x';
CREATE FOREIGN TABLE two_keys (i int, k1 text OPTIONS (metadata 'key'), k2 bytea OPTIONS (metadata 'key'))
  SERVER stream_insert_kafka OPTIONS (topic :'topic2');
INSERT INTO two_keys VALUES (1, 'a', 'b');
CREATE FOREIGN TABLE missing (i int) SERVER stream_insert_kafka OPTIONS (topic 'millrace_no_such_topic');
INSERT INTO missing VALUES (1);
SELECT count(*) FROM s;

-- transactions
BEGIN;
INSERT INTO s2 VALUES (1);
SELECT count(*) AS not_before_commit FROM s2;
COMMIT;
BEGIN;
INSERT INTO s2 VALUES (2);
ROLLBACK;
BEGIN;
INSERT INTO s2 VALUES (3);
SELECT 1 / 0;
COMMIT;
-- the commit fails as a whole
CREATE TABLE beside (i int);
BEGIN;
INSERT INTO s2 VALUES (4);
INSERT INTO beside VALUES (4);
INSERT INTO missing VALUES (4);
COMMIT;
SELECT FROM wait_for('(SELECT count(*) FROM s2) = 1');
SELECT i FROM s2 ORDER BY o;
SELECT * FROM beside;

-- savepoints
BEGIN;
INSERT INTO s2 VALUES (10);
SAVEPOINT a;
INSERT INTO s2 VALUES (11);
SAVEPOINT b;
INSERT INTO s2 VALUES (12);
RELEASE b;
INSERT INTO s2 VALUES (13);
ROLLBACK TO a;
INSERT INTO s2 VALUES (14);
SAVEPOINT c;
SAVEPOINT d;
INSERT INTO s2 VALUES (15);
RELEASE c;
INSERT INTO s2 VALUES (16);
COMMIT;
SELECT FROM wait_for('(SELECT max(i) FROM s2) = 16');
SELECT i FROM s2 WHERE i >= 10 ORDER BY o;

-- exception blocks
DO $$
BEGIN
  FOR n IN 20..25 LOOP
    BEGIN
      INSERT INTO s2 VALUES (n);
      IF n % 2 = 0 THEN
        RAISE EXCEPTION 'no';
      END IF;
    EXCEPTION WHEN raise_exception THEN
      NULL;
    END;
  END LOOP;
END $$;
SELECT FROM wait_for('(SELECT max(i) FROM s2) = 25');
SELECT i FROM s2 WHERE i >= 20 ORDER BY o;

-- the same beyond what fits into memory
BEGIN;
INSERT INTO s SELECT i, repeat('a', 500) FROM generate_series(1001, 1010) AS i;
SAVEPOINT a;
INSERT INTO s SELECT i, repeat('b', 500) FROM generate_series(2001, 32000) AS i;
ROLLBACK TO a;
INSERT INTO s SELECT i, repeat('c', 500) FROM generate_series(40001, 70000) AS i;
SAVEPOINT b;
INSERT INTO s SELECT i, repeat('d', 500) FROM generate_series(80001, 80010) AS i;
ROLLBACK TO b;
INSERT INTO s SELECT i, repeat('e', 500) FROM generate_series(90001, 90010) AS i;
COMMIT;
SELECT FROM wait_for('(SELECT count(*) FROM s WHERE i > 1000) = 30020');
SELECT left(t, 1) AS what, count(*), min(i), max(i), sum(i), bool_and(t = repeat(left(t, 1), 500)) AS intact
FROM s WHERE i > 1000 GROUP BY 1 ORDER BY 1;

-- what was in hand when the disk was full is forgotten with its savepoint
SET temp_file_limit = '1MB';
BEGIN;
SAVEPOINT a;
\set VERBOSITY sqlstate
INSERT INTO s SELECT i, repeat('f', 500) FROM generate_series(100001, 120000) AS i;
\set VERBOSITY default
ROLLBACK TO a;
INSERT INTO s2 VALUES (26);
COMMIT;
RESET temp_file_limit;
SELECT FROM wait_for('(SELECT count(*) FROM s2 WHERE i = 26) = 1');

-- deferred triggers write at commit
CREATE FUNCTION forward() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO stream_insert.s2 VALUES (NEW.i); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER forward AFTER INSERT ON beside DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION forward();
INSERT INTO beside VALUES (30), (31);
SELECT FROM wait_for('(SELECT max(i) FROM s2) = 31');
SELECT i FROM s2 WHERE i >= 30 ORDER BY o;

-- a serializable transaction
BEGIN ISOLATION LEVEL SERIALIZABLE;
INSERT INTO s2 SELECT i + 10 FROM beside;
COMMIT;
SELECT FROM wait_for('(SELECT max(i) FROM s2) = 41');
SELECT i FROM s2 WHERE i >= 40 ORDER BY o;

-- read only, prepared
BEGIN READ ONLY;
INSERT INTO s2 VALUES (1);
ROLLBACK;
BEGIN;
INSERT INTO s2 VALUES (50);
PREPARE TRANSACTION 'stream_insert';
BEGIN;
SAVEPOINT a;
INSERT INTO s2 VALUES (51);
ROLLBACK TO a;
PREPARE TRANSACTION 'stream_insert';
COMMIT PREPARED 'stream_insert';
SELECT i FROM s2 WHERE i >= 50 ORDER BY o;

-- a partition of a table
CREATE TABLE parted (i int, t text) PARTITION BY LIST (i);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE FOREIGN TABLE parted_2 PARTITION OF parted FOR VALUES IN (60)
  SERVER stream_insert_kafka OPTIONS (topic :'topic2');
INSERT INTO parted VALUES (1, 'here'), (60, 'there') RETURNING tableoid::regclass, *;
COPY parted FROM stdin;
60	copied
\.
SELECT FROM wait_for('(SELECT count(*) FROM parted_2 WHERE t IS NOT NULL) = 2');
SELECT tableoid::regclass, i, t FROM parted WHERE t IS NOT NULL ORDER BY i, t;

-- other options take effect in the session, too
ALTER SERVER stream_insert_kafka OPTIONS (ADD "message.max.bytes" '1000');
INSERT INTO s2 VALUES (70);
\set VERBOSITY sqlstate
INSERT INTO s (i, t) VALUES (70, repeat('long', 1000));
\set VERBOSITY default
ALTER SERVER stream_insert_kafka OPTIONS (DROP "message.max.bytes");
INSERT INTO s (i, t) VALUES (71, repeat('long', 1000));
SELECT FROM wait_for('(SELECT count(*) FROM s WHERE i = 71) = 1');
SELECT i, length(t) FROM s WHERE i IN (70, 71);

SET client_min_messages = warning;
DROP SCHEMA stream_insert CASCADE;
DROP SERVER stream_insert_kafka;
