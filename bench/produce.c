/*
 * produce.c
 *		Fills a topic with the benchmark's messages, or prints them.
 *
 * usage: produce BOOTSTRAP TOPIC event|wide|numbered COUNT [PER_SECOND]
 *		  produce - - event|wide|csv COUNT
 *
 * Message i goes to partition i mod 4.  Prints nothing but errors.
 */
#include <stdlib.h>
#include <time.h>

#include <librdkafka/rdkafka.h>

#include "message.h"

#define PARTITIONS	4

static long failed = 0;

static void
on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	if (message->err)
	{
		if (failed++ == 0)
			fprintf(stderr, "produce: %s\n", rd_kafka_err2str(message->err));
	}
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int
print(MessageKind kind, uint64_t count)
{
	char		text[MESSAGE_MAX];

	for (uint64_t i = 0; i < count; i++)
	{
		int			len = message_make(text, kind, i);

		if (kind != MESSAGE_CSV)
			text[len++] = '\n';
		fwrite(text, 1, len, stdout);
	}
	return fflush(stdout) != 0;
}

/* sleep until message i is due */
static void
pace(rd_kafka_t *rk, double began, uint64_t i, double per_second)
{
	double		ahead = began + i / per_second - now();

	if (ahead > 0.001)
	{
		struct timespec t = {0, (long) (ahead > 0.5 ? 5e8 : ahead * 1e9)};

		nanosleep(&t, NULL);
	}
	rd_kafka_poll(rk, 0);
}

int
main(int argc, char **argv)
{
	static const char *const settings[][2] = {
		{"linger.ms", "20"},
		{"batch.size", "500000"},
		{"queue.buffering.max.messages", "500000"},
		{"queue.buffering.max.kbytes", "262144"},
	};
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_topic_t *topic;
	rd_kafka_t *rk;
	MessageKind kind;
	uint64_t	count;
	double		per_second;
	double		began = now();
	char		err[512];
	char		text[MESSAGE_MAX];

	if (argc < 5)
		return 2;
	kind = strcmp(argv[3], "wide") == 0 ? MESSAGE_WIDE :
		strcmp(argv[3], "numbered") == 0 ? MESSAGE_NUMBERED :
		strcmp(argv[3], "csv") == 0 ? MESSAGE_CSV : MESSAGE_EVENT;
	count = strtoull(argv[4], NULL, 10);
	per_second = argc > 5 ? atof(argv[5]) : 0;
	if (strcmp(argv[1], "-") == 0)
		return print(kind, count);

	rd_kafka_conf_set(conf, "bootstrap.servers", argv[1], NULL, 0);
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		rd_kafka_conf_set(conf, settings[i][0], settings[i][1], NULL, 0);
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, err, sizeof(err));
	topic = rk ? rd_kafka_topic_new(rk, argv[2], NULL) : NULL;
	if (topic == NULL)
	{
		fprintf(stderr, "produce: could not start\n");
		return 1;
	}
	for (uint64_t i = 0; i < count; i++)
	{
		int			len = message_make(text, kind, i);

		if (per_second > 0 && i % 64 == 0)
			pace(rk, began, i, per_second);
		while (rd_kafka_produce(topic, i % PARTITIONS, RD_KAFKA_MSG_F_COPY, text, len,
								NULL, 0, NULL) != 0)
		{
			if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			{
				fprintf(stderr, "produce: %s\n", rd_kafka_err2str(rd_kafka_last_error()));
				return 1;
			}
			rd_kafka_poll(rk, 20);
		}
	}
	return rd_kafka_flush(rk, 60000) != RD_KAFKA_RESP_ERR_NO_ERROR || failed > 0;
}
