/*
 * bare_consumer.c
 *		What everything is compared with: reads a topic to its end and does nothing.
 *
 * It takes messages the way src/kafka/consumer.c does: the same properties, partitions
 * assigned from the beginning, rd_kafka_consume_batch_queue by 1024, and before librdkafka
 * 2.2 the same nudge of the fetchers, without which it would rest a second whenever
 * queued.min.messages were waiting.  It touches every value's bytes no further than to add
 * up their lengths.
 *
 * usage: bare_consumer BOOTSTRAP TOPIC PARTITIONS
 *
 * Prints NAME VALUE lines: messages, bytes, seconds (from before the handle was made to the
 * end of the last partition's messages), busy_seconds (from the first message on),
 * main_cpu and other_cpu in seconds, main_wait (ready to run while others had the CPUs),
 * hwm_kb.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <librdkafka/rdkafka.h>

#define TAKE_MESSAGES			1024
#define NUDGE_MESSAGES			1000
#define NUDGE_INTERVAL			0.005
#define FETCH_BACKOFF_VERSION	0x02020000

static double
clock_seconds(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* how long the main thread waited for a CPU; 0 where the kernel does not tell */
static double
waited_seconds(void)
{
	FILE	   *file = fopen("/proc/self/schedstat", "r");
	double		waited = 0;

	if (file == NULL)
		return 0;
	if (fscanf(file, "%*s %lf", &waited) != 1)
		waited = 0;
	fclose(file);
	return waited / 1e9;
}

static rd_kafka_t *
create(const char *bootstrap)
{
	static const char *const settings[][2] = {
		{"isolation.level", "read_committed"},
		{"group.id", "bare"},
		{"enable.auto.commit", "false"},
		{"enable.auto.offset.store", "false"},
		{"auto.offset.reset", "error"},
		{"enable.partition.eof", "true"},
	};
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char		err[512];
	rd_kafka_t *rk;

	rd_kafka_conf_set(conf, "bootstrap.servers", bootstrap, NULL, 0);
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		rd_kafka_conf_set(conf, settings[i][0], settings[i][1], NULL, 0);
	if (rd_kafka_version() >= FETCH_BACKOFF_VERSION)
		rd_kafka_conf_set(conf, "fetch.queue.backoff.ms", "10", NULL, 0);
	rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, err, sizeof(err));
	if (rk == NULL)
	{
		fprintf(stderr, "bare_consumer: %s\n", err);
		exit(1);
	}
	return rk;
}

static void
assign(rd_kafka_t *rk, const char *topic, int partitions)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);

	for (int p = 0; p < partitions; p++)
		rd_kafka_topic_partition_list_add(list, topic, p)->offset = 0;
	rd_kafka_assign(rk, list);
	rd_kafka_topic_partition_list_destroy(list);
}

/* see mr_client_nudge */
static void
nudge(rd_kafka_t *rk)
{
	static double last = 0;
	double		now = clock_seconds(CLOCK_MONOTONIC);
	rd_kafka_error_t *error;

	if (rd_kafka_version() >= FETCH_BACKOFF_VERSION || now - last < NUDGE_INTERVAL)
		return;
	last = now;
	error = rd_kafka_sasl_set_credentials(rk, "", "");
	if (error)
		rd_kafka_error_destroy(error);
}

int
main(int argc, char **argv)
{
	static rd_kafka_message_t *batch[TAKE_MESSAGES];
	double		began = clock_seconds(CLOCK_MONOTONIC);
	double		first = 0;
	double		last = 0;
	double		main_cpu;
	long long	messages = 0;
	long long	bytes = 0;
	long		unnudged = 0;
	rd_kafka_queue_t *queue;
	rd_kafka_t *rk;
	struct rusage usage;
	int			ended = 0;
	int			partitions;

	if (argc != 4)
		return 2;
	partitions = atoi(argv[3]);
	rk = create(argv[1]);
	queue = rd_kafka_queue_get_consumer(rk);
	assign(rk, argv[2], partitions);
	while (ended < partitions)
	{
		ssize_t		n = rd_kafka_consume_batch_queue(queue, 100, batch, TAKE_MESSAGES);

		for (ssize_t i = 0; i < n; i++)
		{
			if (batch[i]->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
				ended++;
			else if (batch[i]->err)
			{
				fprintf(stderr, "bare_consumer: %s\n", rd_kafka_message_errstr(batch[i]));
				return 1;
			}
			else
			{
				messages++;
				bytes += batch[i]->len;
				last = 0;
			}
			rd_kafka_message_destroy(batch[i]);
		}
		if (n > 0 && last == 0)
		{
			/* the time that the broker waits before it reports an end is not counted */
			last = clock_seconds(CLOCK_MONOTONIC);
			if (first == 0)
				first = last;
		}
		unnudged += n > 0 ? n : 0;
		if (unnudged >= NUDGE_MESSAGES)
		{
			nudge(rk);
			unnudged = 0;
		}
	}
	main_cpu = clock_seconds(CLOCK_THREAD_CPUTIME_ID);
	getrusage(RUSAGE_SELF, &usage);
	printf("messages %lld\nbytes %lld\nseconds %.6f\nbusy_seconds %.6f\nmain_cpu %.6f\n"
		   "other_cpu %.6f\nmain_wait %.6f\nhwm_kb %ld\n", messages, bytes, last - began, last - first,
		   main_cpu, clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - main_cpu, waited_seconds(), usage.ru_maxrss);
	fflush(stdout);
	_Exit(0);
}
