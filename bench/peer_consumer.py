#!/usr/bin/env python3
"""The consumer that one would write by hand, as a peer of the benchmark.

confluent-kafka and orjson; partial sums in a dictionary; every BATCH messages one
transaction that upserts them and stores the offsets beside them, from which a restart
goes on: every message counts exactly once, as with millrace.

usage: peer_consumer.py BOOTSTRAP TOPIC L|H|N CONNINFO

Prints NAME VALUE lines as bare_consumer does.
"""
import resource
import sys
import time

import orjson
import psycopg2
from confluent_kafka import Consumer, KafkaError, TopicPartition
from psycopg2.extras import execute_values

BATCH = 100000
PARTITIONS = 4
KEYS = {"L": ("minute text, url text", "minute, url"),
        "H": ("minute text, user_id bigint", "minute, user_id"),
        "N": ("everything text", "everything")}


def key_function(workload):
    if workload == "L":
        return lambda m: (m["ts"][:16], m["url"])
    if workload == "H":
        return lambda m: (m["ts"][:16], m["user_id"])
    return lambda m: ("all",)


def flush(conn, groups, positions, keys):
    """One transaction: groups and the offsets that they stand for."""
    rows = sorted(key + tuple(state) for key, state in groups.items())
    with conn, conn.cursor() as cur:
        execute_values(cur, f"""INSERT INTO peer AS p ({keys}, hits, total, worst) VALUES %s
            ON CONFLICT ({keys}) DO UPDATE SET hits = p.hits + excluded.hits,
            total = p.total + excluded.total, worst = greatest(p.worst, excluded.worst)""", rows, page_size=10000)
        execute_values(cur, """INSERT INTO peer_offset VALUES %s ON CONFLICT (part)
            DO UPDATE SET next = excluded.next""", list(positions.items()))
    groups.clear()


def main():
    bootstrap, topic, workload, conninfo = sys.argv[1:]
    columns, keys = KEYS[workload]
    key_of = key_function(workload)
    conn = psycopg2.connect(conninfo)
    with conn, conn.cursor() as cur:
        cur.execute(f"""DROP TABLE IF EXISTS peer, peer_offset;
            CREATE TABLE peer ({columns}, hits bigint, total float8, worst float8, PRIMARY KEY ({keys}));
            CREATE TABLE peer_offset (part int PRIMARY KEY, next bigint)""")
    began = time.monotonic()
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "peer", "enable.auto.commit": False,
                         "enable.partition.eof": True, "auto.offset.reset": "error"})
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    groups, positions, total, pending, ended = {}, {}, 0, 0, 0
    while ended < PARTITIONS:
        for message in consumer.consume(10000, 0.1):
            if message.error():
                if message.error().code() != KafkaError._PARTITION_EOF:
                    raise SystemExit(str(message.error()))
                ended += 1
                continue
            fields = orjson.loads(message.value())
            latency = fields["latency"]
            state = groups.get(key := key_of(fields))
            if state is None:
                groups[key] = [1, latency, latency]
            else:
                state[0] += 1
                state[1] += latency
                if latency > state[2]:
                    state[2] = latency
            positions[message.partition()] = message.offset() + 1
            pending += 1
        if pending >= BATCH or (pending and ended == PARTITIONS):
            flush(conn, groups, positions, keys)
            total, pending = total + pending, 0
    seconds = time.monotonic() - began
    main_cpu = time.thread_time()
    print(f"messages {total}\nseconds {seconds:.6f}\nmain_cpu {main_cpu:.6f}\n"
          f"other_cpu {time.process_time() - main_cpu:.6f}\n"
          f"hwm_kb {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}", flush=True)


main()
