-- Reading topics: columns, metadata, bounds, plans, messages that cannot be used.
CREATE SCHEMA streams;
SET search_path = streams;
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
SELECT 'streams_' || gen_random_uuid() AS topic, 'streams_' || gen_random_uuid() AS topic2 \gset

-- Plans do not contact a broker: nobody listens there.
CREATE SERVER streams_nobody FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.servers" '127.0.0.1:1');
CREATE FOREIGN TABLE planned (
  a int, part int OPTIONS (metadata 'partition'), off bigint OPTIONS (metadata 'offset'),
  arrived timestamptz OPTIONS (metadata 'timestamp'), utc timestamp OPTIONS (metadata 'timestamp'),
  k text OPTIONS (metadata 'key')
) SERVER streams_nobody OPTIONS (topic 'page_views');
CREATE FUNCTION plan_lines(query text) RETURNS SETOF text LANGUAGE plpgsql AS
$$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || query; END $$;
EXPLAIN (COSTS OFF) SELECT * FROM planned;
EXPLAIN (COSTS OFF) SELECT * FROM planned WHERE part = 1 AND off BETWEEN 10 AND 20 AND a > 0;
EXPLAIN (COSTS OFF) SELECT * FROM planned WHERE 1 >= part AND part IN (0, 1) AND part::text = '1';
EXPLAIN (COSTS OFF) SELECT * FROM planned WHERE arrived >= now() - interval '1 hour' AND utc > '2024-01-01';
EXPLAIN (COSTS OFF) SELECT * FROM planned WHERE part = 1 OR off = 1;
EXPLAIN (COSTS OFF) SELECT * FROM planned WHERE off > random() * 10 AND off <> 3 AND part NOT IN (1, 2) AND k = 'x';
SELECT * FROM plan_lines('SELECT * FROM planned p JOIN planned q ON p.off = q.off WHERE p.part = 1') AS l
WHERE l LIKE '%Pushed Down%';
DO $$
DECLARE
  plan json;
BEGIN
  EXECUTE 'EXPLAIN (FORMAT json) SELECT a FROM planned WHERE off < 5' INTO plan;
  RAISE NOTICE '%, %', plan->0->'Plan'->>'Kafka Topic', plan->0->'Plan'->>'Pushed Down';
END $$;
PREPARE p(int, bigint) AS SELECT a FROM planned WHERE part = $1 AND off < $2;
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE p(1, 4);
RESET plan_cache_mode;
EXPLAIN (COSTS OFF) SELECT a, count(*) FROM planned GROUP BY a;
EXPLAIN (COSTS OFF) INSERT INTO planned (a) VALUES (1);

CREATE SERVER streams_kafka FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.servers" :'bootstrap');
SELECT millrace.create_topic('streams_kafka', :'topic', partitions => 3, config => '{"retention.ms": -1}');
CREATE FOREIGN TABLE s (
  i int, t text, country text OPTIONS (path 'geo.country'), "weird.name" int,
  part int OPTIONS (metadata 'partition'), off bigint OPTIONS (metadata 'offset'),
  arrived timestamptz OPTIONS (metadata 'timestamp'),
  k text OPTIONS (metadata 'key'), h jsonb OPTIONS (metadata 'headers')
) SERVER streams_kafka OPTIONS (topic :'topic');

-- an empty topic
SELECT * FROM s;
SELECT count(*) FROM s;

INSERT INTO s (i, t, country, "weird.name", part, arrived, k, h)
SELECT i, 'text ' || i, CASE WHEN i % 2 = 0 THEN 'HU' END, -i, i % 3,
       timestamptz '2024-05-01 00:00:00' + make_interval(mins => i), 'key ' || i % 4, '{"n": "1"}'
FROM generate_series(0, 29) AS i;
SELECT FROM wait_for('(SELECT count(*) FROM s) = 30');

SELECT * FROM s WHERE i < 4 ORDER BY i;
SELECT part, count(*), min(off), max(off), sum(i) FROM s GROUP BY part ORDER BY part;
SELECT s FROM s WHERE i = 5;
SELECT tableoid::regclass, i FROM s WHERE i = 5;
SELECT count(*) FROM s;
SELECT part, off, i FROM s WHERE part = 1 AND off >= 8 ORDER BY off;
SELECT part, off, i FROM s WHERE part IN (0, 2, 7) AND off BETWEEN 2 AND 3 ORDER BY i;
SELECT i FROM s WHERE arrived > '2024-05-01 00:27' ORDER BY i;
SELECT i FROM s WHERE arrived >= '2024-05-01 00:27' AND arrived < '2024-05-01 00:29' ORDER BY i;
SELECT i FROM s WHERE arrived <= '2024-05-01 00:01' ORDER BY i;
SELECT i FROM s WHERE arrived >= '2024-05-02'::date;
SELECT count(*) FROM s WHERE arrived > '-infinity';
SELECT count(*) FROM s WHERE arrived > 'infinity';
SELECT count(*) FROM s WHERE arrived > '5000000-01-01'::date;
SET timezone = 'America/Los_Angeles';
SELECT count(*) FROM s WHERE arrived >= '294276-12-31 23:00'::timestamp;
SET timezone = 'Asia/Tokyo';
SELECT count(*) FROM s WHERE arrived > '4714-11-24 BC'::date;
SET timezone = 'UTC';
SELECT count(*) FROM s WHERE off < -5;
SELECT count(*) FROM s WHERE off > 9223372036854775806;
SELECT count(*) FROM s WHERE part > 3 AND part < 2;
SELECT count(*) FROM s WHERE part = NULL::int;
SELECT count(*) FROM (SELECT i FROM s LIMIT 7) AS l;

-- parameters, and rescans with other bounds
PREPARE q(int, bigint) AS SELECT count(*) FROM s WHERE part = $1 AND off < $2;
EXECUTE q(0, 5);
EXECUTE q(NULL, 5);
SET plan_cache_mode = force_generic_plan;
EXECUTE q(1, 4);
RESET plan_cache_mode;
SELECT x, (SELECT count(*) FROM s WHERE off < x AND part = 0) FROM generate_series(0, 3) AS x;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_material = off;
SELECT x, count(i) FROM generate_series(1, 3) AS x LEFT JOIN s ON s.i % 3 = x GROUP BY x ORDER BY x;
RESET ALL;
SET search_path = streams;
SET timezone = 'UTC';

-- cursors
BEGIN;
DECLARE c CURSOR FOR SELECT i FROM s WHERE part = 0;
FETCH 2 FROM c;
FETCH 2 FROM c;
CLOSE c;
DECLARE h CURSOR WITH HOLD FOR SELECT i FROM s WHERE part = 1;
COMMIT;
FETCH 2 FROM h;
CLOSE h;

-- ALTER takes effect at once
ALTER FOREIGN TABLE s ALTER country OPTIONS (SET path 't');
SELECT country FROM s WHERE i = 3;
ALTER FOREIGN TABLE s DROP COLUMN t;
ALTER FOREIGN TABLE s ADD COLUMN t2 text OPTIONS (path 't');
SELECT i, t2 FROM s WHERE i = 3;

-- messages that cannot be used
SELECT millrace.create_topic('streams_kafka', :'topic2');
CREATE FOREIGN TABLE raw (i text, v text, o bigint OPTIONS (metadata 'offset'))
  SERVER streams_kafka OPTIONS (topic :'topic2');
INSERT INTO raw VALUES ('1', '1 day'), ('x', '1 day'), ('2', 'nonsense'), ('99999999999', '2 days'), ('-3', '3 days');
SELECT FROM wait_for('(SELECT count(*) FROM raw) = 5');
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE FOREIGN TABLE typed (i int, v interval, o bigint OPTIONS (metadata 'offset'))
  SERVER streams_kafka OPTIONS (topic :'topic2');
CREATE FOREIGN TABLE in_domain (i positive, o bigint OPTIONS (metadata 'offset'))
  SERVER streams_kafka OPTIONS (topic :'topic2', on_error 'skip');
CREATE FOREIGN TABLE strict (i int, o bigint OPTIONS (metadata 'offset'))
  SERVER streams_kafka OPTIONS (topic :'topic2', on_error 'stop');
SELECT i, v FROM typed ORDER BY o;
SELECT i FROM typed ORDER BY o;
SELECT v FROM typed ORDER BY o;
SELECT count(*) FROM typed;
SELECT i FROM in_domain ORDER BY o;
SELECT o FROM strict ORDER BY o;
SELECT i FROM strict LIMIT 1;
SELECT i FROM strict;
SELECT i FROM strict WHERE o >= 4;
-- ... for whatever a type or a domain's own function raises
CREATE FUNCTION judge(i int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  CASE i WHEN 1 THEN RAISE 'no' USING ERRCODE = 'MY001'; WHEN 2 THEN RAISE 'no' USING ERRCODE = '38001'; WHEN -3 THEN RETURN true; END CASE;
END $$;
CREATE DOMAIN judged AS int CHECK (judge(value));
CREATE FOREIGN TABLE judged_rows (i judged, o bigint OPTIONS (metadata 'offset'))
  SERVER streams_kafka OPTIONS (topic :'topic2');
SELECT * FROM judged_rows;
CREATE FOREIGN TABLE named (v regclass) SERVER streams_kafka OPTIONS (topic :'topic2');
INSERT INTO raw (v) VALUES ('a.b.c.d');
SELECT FROM wait_for('(SELECT count(*) FROM raw) = 6');
SELECT count(v) FROM named;

-- topics and servers that are not there
CREATE FOREIGN TABLE missing (i int) SERVER streams_kafka OPTIONS (topic 'millrace_no_such_topic');
SELECT * FROM missing;

-- topics only grow
UPDATE s SET i = 1;
DELETE FROM s;
TRUNCATE s;
SELECT millrace.create_topic('streams_kafka', 'millrace_too_replicated', replication => 99);

-- everybody reads with their own rights
CREATE ROLE regress_stream_reader;
GRANT USAGE ON SCHEMA streams TO regress_stream_reader;
SET ROLE regress_stream_reader;
SELECT count(*) FROM s;
RESET ROLE;
GRANT SELECT (i) ON s TO regress_stream_reader;
SET ROLE regress_stream_reader;
SELECT count(i) FROM s;
SELECT count(k) FROM s;
INSERT INTO s (i) VALUES (1);
RESET ROLE;

SET client_min_messages = warning;
DROP SCHEMA streams CASCADE;
DROP SERVER streams_kafka;
DROP SERVER streams_nobody;
DROP ROLE regress_stream_reader;
