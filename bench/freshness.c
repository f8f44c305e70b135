/*
 * freshness.c
 *		How long after rd_kafka_produce() a view shows a message.
 *
 * One thread sends numbered messages at a steady rate, message i to partition i mod 4, and
 * remembers when.  The main thread runs a query that returns (partition, highest number
 * shown) as fast as it can, a millisecond apart, and takes the time when the answer is
 * there.  A partition is in order, so every message up to the highest number is visible;
 * its latency contains the producer's linger (1 ms), the broker, the worker, the query and
 * the wait for the next query.
 *
 * usage: freshness BOOTSTRAP TOPIC CONNINFO QUERY PER_SECOND SECONDS
 *
 * Prints NAME VALUE lines: sent, seen, rate, queries, and p50_ms, p95_ms, p99_ms, max_ms.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include <libpq-fe.h>
#include <librdkafka/rdkafka.h>

#include "message.h"

#define PARTITIONS		4
#define GIVE_UP_SECONDS	30

static rd_kafka_t *rk;
static rd_kafka_topic_t *topic;
static double *sent_at;			/* by number */
static atomic_llong sent = 0;
static long long total;
static double per_second;
static double producing_took;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void
nap(double seconds)
{
	struct timespec t = {(time_t) seconds, (long) ((seconds - (time_t) seconds) * 1e9)};

	nanosleep(&t, NULL);
}

static void *
produce(void *arg)
{
	double		began = now();
	char		text[MESSAGE_MAX];

	for (long long i = 0; i < total; i++)
	{
		int			len = message_make(text, MESSAGE_NUMBERED, i);
		double		ahead = began + i / per_second - now();

		/* in steps of a millisecond, so that the producer itself is not the load */
		if (ahead > 0)
			nap(ahead > 0.001 ? ahead : 0.001);
		sent_at[i] = now();
		while (rd_kafka_produce(topic, i % PARTITIONS, RD_KAFKA_MSG_F_COPY, text, len, NULL, 0, NULL) != 0)
			rd_kafka_poll(rk, 1);
		atomic_store(&sent, i + 1);
		if (i % 100 == 0)
			rd_kafka_poll(rk, 0);
	}
	producing_took = now() - began;
	rd_kafka_flush(rk, 10000);
	return NULL;
}

static int
compare(const void *a, const void *b)
{
	float		x = *(const float *) a;
	float		y = *(const float *) b;

	return (x > y) - (x < y);
}

int
main(int argc, char **argv)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char		err[512];
	float	   *latency;
	long long	seen = 0;
	long long	next[PARTITIONS];
	long		queries = 0;
	double		give_up;
	pthread_t	producer;
	PGconn	   *conn;

	if (argc != 7)
		return 2;
	per_second = atof(argv[5]);
	total = (long long) (per_second * atof(argv[6]));
	sent_at = calloc(total + 1, sizeof(double));
	latency = calloc(total + 1, sizeof(float));
	for (int p = 0; p < PARTITIONS; p++)
		next[p] = p;

	rd_kafka_conf_set(conf, "bootstrap.servers", argv[1], NULL, 0);
	rd_kafka_conf_set(conf, "linger.ms", "1", NULL, 0);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, err, sizeof(err));
	topic = rk ? rd_kafka_topic_new(rk, argv[2], NULL) : NULL;
	conn = PQconnectdb(argv[3]);
	if (topic == NULL || PQstatus(conn) != CONNECTION_OK)
	{
		fprintf(stderr, "freshness: %s\n", topic ? PQerrorMessage(conn) : err);
		return 1;
	}
	PQclear(PQprepare(conn, "q", argv[4], 0, NULL));
	pthread_create(&producer, NULL, produce, NULL);
	give_up = now() + total / per_second + GIVE_UP_SECONDS;
	while (seen < total && now() < give_up)
	{
		PGresult   *result = PQexecPrepared(conn, "q", 0, NULL, NULL, NULL, 0);
		double		at = now();

		if (PQresultStatus(result) != PGRES_TUPLES_OK)
		{
			fprintf(stderr, "freshness: %s", PQerrorMessage(conn));
			return 1;
		}
		queries++;
		for (int row = 0; row < PQntuples(result); row++)
		{
			int			p = atoi(PQgetvalue(result, row, 0));
			long long	top = PQgetisnull(result, row, 1) ? -1 : atoll(PQgetvalue(result, row, 1));

			for (; next[p] <= top && next[p] < total; next[p] += PARTITIONS)
				latency[seen++] = (at - sent_at[next[p]]) * 1000;
		}
		PQclear(result);
		nap(0.001);
	}
	pthread_join(producer, NULL);
	PQfinish(conn);
	if (seen == 0)
	{
		fprintf(stderr, "freshness: nothing was seen\n");
		return 1;
	}
	qsort(latency, seen, sizeof(float), compare);
	printf("sent %lld\nseen %lld\nrate %.0f\nqueries %ld\np50_ms %.2f\np95_ms %.2f\np99_ms %.2f\nmax_ms %.2f\n",
		   (long long) atomic_load(&sent), seen, total / producing_took, queries, latency[seen / 2],
		   latency[seen * 95 / 100], latency[seen * 99 / 100], latency[seen - 1]);
	return seen < total;
}
