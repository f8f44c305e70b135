/*-------------------------------------------------------------------------
 *
 * kafka_client.c
 *		A Kafka client that does as it is told on standard input, for tests.
 *
 * MillraceTest.pm builds and drives it.  It is a process of its own rather than
 * the extension's INSERT, because a test must be able to put into a topic what
 * the extension never would, and to hold a transaction open.
 *
 * usage: kafka_client BOOTSTRAP [PROPERTY=VALUE]...
 *
 * One command a line, fields separated by tabs, with \xHH for any byte and \N
 * for NULL.  Every command but "send" is answered by one line, "ok ..." or
 * "error ...".  With the property transactional.id, sends belong between
 * "begin" and "commit" or "abort".
 *
 *	send TOPIC PARTITION TIMESTAMP KEY VALUE [NAME VALUE]...	-1, 0: default
 *	flush								waits for all acknowledgements
 *	begin
 *	commit, abort						waits until readers see the end of it
 *	create TOPIC PARTITIONS REPLICATION [NAME VALUE]...
 *										REPLICATION: so many replicas; or, of one
 *										partition, on which brokers, as in 2:3
 *	delete TOPIC
 *	partitions TOPIC COUNT				adds partitions up to COUNT
 *	truncate TOPIC PARTITION OFFSET		deletes what lies before
 *	allow PRINCIPAL TOPIC				lets somebody read a topic
 *	forbid PRINCIPAL TOPIC				no more
 *	watermarks TOPIC PARTITION			answers with the first and the next offset,
 *										at most that of an open transaction's
 *										beginning, if not told otherwise by
 *										isolation.level=read_uncommitted
 *	replicas TOPIC PARTITION			answers with the leader and those in sync,
 *										as in 2 2:3; or not: ask again
 *
 *-------------------------------------------------------------------------
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <librdkafka/rdkafka.h>

#define MAX_FIELDS 256

/* how long to wait for a broker, as the tests do: a third of PG_TEST_TIMEOUT_DEFAULT seconds */
static int	patience_ms = 60000;

typedef struct Field
{
	char	   *data;			/* NULL: \N */
	size_t		len;
}			Field;

static rd_kafka_conf_t *conf;
static rd_kafka_t *rk;
static char failure[512];		/* the first since the last answer, or empty */
static long delivered;			/* since the last answer */

/* Where the current transaction wrote, and the last offset there. */
#define MAX_WRITTEN 64
static struct
{
	char		topic[256];
	int32_t		partition;
	int64_t		offset;
}			written[MAX_WRITTEN];
static int	nwritten;

static void
fail(const char *fmt,...)
{
	va_list		args;

	if (failure[0] != '\0')
		return;
	va_start(args, fmt);
	vsnprintf(failure, sizeof(failure), fmt, args);
	va_end(args);
}

static bool
open_handle(void)
{
	char		err[512];

	rk = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_dup(conf), err, sizeof(err));
	if (rk == NULL)
		fail("%s", err);
	return rk != NULL;
}

static void
remember_written(const rd_kafka_message_t *message)
{
	const char *topic = rd_kafka_topic_name(message->rkt);
	int			i;

	for (i = 0; i < nwritten; i++)
		if (written[i].partition == message->partition && strcmp(written[i].topic, topic) == 0)
			break;
	if (i == MAX_WRITTEN)
		return;
	if (i == nwritten)
	{
		snprintf(written[i].topic, sizeof(written[i].topic), "%s", topic);
		written[i].partition = message->partition;
		nwritten++;
	}
	written[i].offset = message->offset;
}

static void
on_delivery(rd_kafka_t *handle, const rd_kafka_message_t *message, void *opaque)
{
	if (message->err)
		fail("%s", rd_kafka_err2str(message->err));
	else
	{
		delivered++;
		remember_written(message);
	}
}

static void
on_log(const rd_kafka_t *handle, int level, const char *fac, const char *buf)
{
}

static void
check(rd_kafka_error_t *error)
{
	if (error == NULL)
		return;
	fail("%s", rd_kafka_error_string(error));
	rd_kafka_error_destroy(error);
}

static int
hex(char c)
{
	return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* Splits a line in place. */
static int
split(char *line, size_t len, Field * fields)
{
	char	   *end = line + len;
	int			n = 0;

	while (n < MAX_FIELDS)
	{
		char	   *to = line;

		fields[n].data = line;
		if (end - line >= 2 && line[0] == '\\' && line[1] == 'N')
		{
			fields[n].data = NULL;
			line += 2;
		}
		while (line < end && *line != '\t')
		{
			if (*line == '\\' && end - line >= 4 && line[1] == 'x')
			{
				*to++ = (char) (hex(line[2]) * 16 + hex(line[3]));
				line += 4;
			}
			else
				*to++ = *line++;
		}
		fields[n].len = fields[n].data ? (size_t) (to - fields[n].data) : 0;
		n++;
		if (line >= end)
		{
			*to = '\0';
			break;
		}
		line++;
		*to = '\0';
	}
	return n;
}

static void
send_message(Field * f, int n)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(4);
	rd_kafka_resp_err_t err;
	int			i;

	for (i = 6; i + 1 < n; i += 2)
		rd_kafka_header_add(headers, f[i].data, (ssize_t) f[i].len,
							f[i + 1].data, (ssize_t) f[i + 1].len);

	for (;;)
	{
		rd_kafka_headers_t *copy = rd_kafka_headers_copy(headers);

		err = rd_kafka_producev(rk,
								RD_KAFKA_V_TOPIC(f[1].data),
								RD_KAFKA_V_PARTITION(atoi(f[2].data)),
								RD_KAFKA_V_TIMESTAMP(atoll(f[3].data)),
								RD_KAFKA_V_KEY(f[4].data, f[4].len),
								RD_KAFKA_V_VALUE(f[5].data, f[5].len),
								RD_KAFKA_V_HEADERS(copy),
								RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
								RD_KAFKA_V_END);
		if (err)
			rd_kafka_headers_destroy(copy);
		if (err != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			break;
		rd_kafka_poll(rk, 100);
	}
	rd_kafka_headers_destroy(headers);
	if (err)
		fail("%s", rd_kafka_err2str(err));
	rd_kafka_poll(rk, 0);
}

/*
 * The coordinator answers before it has written the markers that end the
 * transaction.  Waits until readers get past what was written, or, where
 * somebody else's transaction is in the way, for two seconds.
 */
static void
wait_markers(void)
{
	int			i,
				tries;

	rd_kafka_poll(rk, 0);
	for (i = 0; i < nwritten && failure[0] == '\0'; i++)
		for (tries = 0; tries < 200; tries++)
		{
			int64_t		low,
						high;

			if (rd_kafka_query_watermark_offsets(rk, written[i].topic, written[i].partition,
												 &low, &high, 5000) == RD_KAFKA_RESP_ERR_NO_ERROR &&
				high > written[i].offset + 1)
				break;
			rd_kafka_poll(rk, 10);
		}
}

/* Waits for the answer to an administrative request. */
static void
admin_answer(rd_kafka_queue_t *queue)
{
	rd_kafka_event_t *event = rd_kafka_queue_poll(queue, patience_ms);
	const rd_kafka_topic_result_t **results = NULL;
	size_t		n = 0,
				i;

	if (event == NULL)
	{
		fail("timed out");
		return;
	}
	if (rd_kafka_event_error(event))
		fail("%s", rd_kafka_event_error_string(event));
	else if (rd_kafka_event_CreateTopics_result(event))
		results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
	else if (rd_kafka_event_DeleteTopics_result(event))
		results = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &n);
	else if (rd_kafka_event_CreatePartitions_result(event))
		results = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event), &n);
	else if (rd_kafka_event_DeleteRecords_result(event))
	{
		const rd_kafka_topic_partition_list_t *offsets =
		rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(event));

		if (offsets->elems[0].err)
			fail("%s", rd_kafka_err2str(offsets->elems[0].err));
	}
	for (i = 0; i < n; i++)
		if (rd_kafka_topic_result_error(results[i]))
			fail("%s", rd_kafka_topic_result_error_string(results[i]));
	rd_kafka_event_destroy(event);
}

/* READ on a topic implies DESCRIBE. */
static void
control_access(int allow, const char *principal, const char *topic)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	rd_kafka_event_t *event;
	char		err[256] = "";
	rd_kafka_AclBinding_t *acl = allow
	? rd_kafka_AclBinding_new(RD_KAFKA_RESOURCE_TOPIC, topic, RD_KAFKA_RESOURCE_PATTERN_LITERAL, principal, "*",
							  RD_KAFKA_ACL_OPERATION_READ, RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW, err, sizeof(err))
	: rd_kafka_AclBindingFilter_new(RD_KAFKA_RESOURCE_TOPIC, topic, RD_KAFKA_RESOURCE_PATTERN_LITERAL, principal, "*",
									RD_KAFKA_ACL_OPERATION_READ, RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW, err, sizeof(err));

	if (acl == NULL)
	{
		fail("%s", err);
		return;
	}
	if (allow)
		rd_kafka_CreateAcls(rk, &acl, 1, NULL, queue);
	else
		rd_kafka_DeleteAcls(rk, &acl, 1, NULL, queue);
	event = rd_kafka_queue_poll(queue, patience_ms);
	if (event == NULL)
		fail("timed out");
	else if (rd_kafka_event_error(event))
		fail("%s", rd_kafka_event_error_string(event));
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_AclBinding_destroy(acl);
	rd_kafka_queue_destroy(queue);
}

/*
 * The broker answers before it leads the new partitions, or has forgotten the
 * old ones; waits until there are count partitions that can be asked for their
 * offsets, 0 for no topic.
 */
static void
wait_partitions(const char *name, int count)
{
	time_t		deadline = time(NULL) + patience_ms / 1000;

	while (time(NULL) < deadline && failure[0] == '\0')
	{
		rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
		const struct rd_kafka_metadata *metadata;
		int			led = 0,
					i;

		if (rd_kafka_metadata(rk, 0, topic, &metadata, 5000) == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			for (i = 0; i < metadata->topics[0].partition_cnt; i++)
			{
				int64_t		low,
							high;

				if (rd_kafka_query_watermark_offsets(rk, name, i, &low, &high,
													 5000) == RD_KAFKA_RESP_ERR_NO_ERROR)
					led++;
			}
			rd_kafka_metadata_destroy(metadata);
		}
		else
			led = -1;
		rd_kafka_topic_destroy(topic);
		if (led == count)
			return;
		rd_kafka_poll(rk, 50);
	}
	fail("topic \"%s\" did not get %d partitions", name, count);
}

/* on these brokers, the first of which leads */
static void
place(rd_kafka_NewTopic_t *new, const char *brokers, char *err, size_t len)
{
	int32_t		ids[16];
	size_t		n = 0;

	for (const char *id = brokers; id != NULL && n < 16; id = strchr(id, ':'), id += id != NULL)
		ids[n++] = atoi(id);
	rd_kafka_NewTopic_set_replica_assignment(new, 0, ids, n, err, len);
}

/*
 * Of a partition; leader -1: it has none.  No answer where none comes soon: the broker asked may
 * just have been killed.
 */
static void
show_replicas(const char *name, int partition, char *text, size_t len)
{
	rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
	const rd_kafka_metadata_t *metadata;

	if (rd_kafka_metadata(rk, 0, topic, &metadata, 1000) == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		const rd_kafka_metadata_topic_t *found = &metadata->topics[0];

		for (int i = 0; i < found->partition_cnt; i++)
			if (found->partitions[i].id == partition)
			{
				int			used = snprintf(text, len, "%d ", found->partitions[i].leader);

				for (int j = 0; j < found->partitions[i].isr_cnt; j++)
					used += snprintf(text + used, len - used, j ? ":%d" : "%d", found->partitions[i].isrs[j]);
			}
		rd_kafka_metadata_destroy(metadata);
	}
	rd_kafka_topic_destroy(topic);
}

static void
administer(Field * f, int n)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	const char *command = f[0].data;
	char	   *topic = f[1].data;
	char		err[256] = "";
	int			i;

	if (strcmp(command, "create") == 0)
	{
		bool		placed = strchr(f[3].data, ':') != NULL;
		rd_kafka_NewTopic_t *new = rd_kafka_NewTopic_new(topic, atoi(f[2].data), placed ? -1 : atoi(f[3].data),
														 err, sizeof(err));

		if (new != NULL && placed)
			place(new, f[3].data, err, sizeof(err));
		for (i = 4; new != NULL && i + 1 < n; i += 2)
			rd_kafka_NewTopic_set_config(new, f[i].data, f[i + 1].data);
		if (new != NULL)
		{
			rd_kafka_CreateTopics(rk, &new, 1, NULL, queue);
			rd_kafka_NewTopic_destroy(new);
		}
	}
	else if (strcmp(command, "delete") == 0)
	{
		rd_kafka_DeleteTopic_t *old = rd_kafka_DeleteTopic_new(topic);

		rd_kafka_DeleteTopics(rk, &old, 1, NULL, queue);
		rd_kafka_DeleteTopic_destroy(old);
	}
	else if (strcmp(command, "partitions") == 0)
	{
		rd_kafka_NewPartitions_t *more = rd_kafka_NewPartitions_new(topic, (size_t) atoi(f[2].data),
																	err, sizeof(err));

		if (more != NULL)
		{
			rd_kafka_CreatePartitions(rk, &more, 1, NULL, queue);
			rd_kafka_NewPartitions_destroy(more);
		}
	}
	else
	{
		rd_kafka_topic_partition_list_t *before = rd_kafka_topic_partition_list_new(1);
		rd_kafka_DeleteRecords_t *records;

		rd_kafka_topic_partition_list_add(before, topic, atoi(f[2].data))->offset = atoll(f[3].data);
		records = rd_kafka_DeleteRecords_new(before);
		rd_kafka_DeleteRecords(rk, &records, 1, NULL, queue);
		rd_kafka_DeleteRecords_destroy(records);
		rd_kafka_topic_partition_list_destroy(before);
	}

	if (err[0] != '\0')
		fail("%s", err);
	else
		admin_answer(queue);
	rd_kafka_queue_destroy(queue);

	if (strcmp(command, "create") == 0 || strcmp(command, "partitions") == 0)
		wait_partitions(topic, atoi(f[2].data));
	else if (strcmp(command, "delete") == 0)
	{
		wait_partitions(topic, 0);
		/* librdkafka 2.4 to 2.8 may crash when a topic of the same name comes with another id */
		rd_kafka_flush(rk, patience_ms);
		rd_kafka_destroy(rk);
		if (!open_handle())
			exit(1);
	}
}

static void
answer(const char *text)
{
	if (failure[0] != '\0')
		printf("error %s\n", failure);
	else
		printf("ok %s\n", text);
	fflush(stdout);
	failure[0] = '\0';
	delivered = 0;
}

static void
execute(Field * f, int n)
{
	static const struct
	{
		const char *name;
		int			fields;
	}			commands[] =
	{
		{"send", 6}, {"flush", 1}, {"begin", 1}, {"commit", 1}, {"abort", 1},
		{"create", 4}, {"delete", 2}, {"partitions", 3}, {"truncate", 4}, {"watermarks", 3},
		{"allow", 3}, {"forbid", 3}, {"replicas", 3}
	};
	const int	ncommands = sizeof(commands) / sizeof(commands[0]);
	const char *command = f[0].data;
	char text[	128] = "";
	int			i;

	for (i = 0; i < ncommands && strcmp(command, commands[i].name) != 0; i++)
		;
	if (i == ncommands || n < commands[i].fields)
		fail("bad command \"%s\" with %d fields", command, n);
	else if (strcmp(command, "send") == 0)
	{
		send_message(f, n);
		return;
	}
	else if (strcmp(command, "flush") == 0)
	{
		if (rd_kafka_flush(rk, patience_ms))
			fail("timed out");
		snprintf(text, sizeof(text), "%ld", delivered);
	}
	else if (strcmp(command, "begin") == 0)
	{
		nwritten = 0;
		check(rd_kafka_begin_transaction(rk));
	}
	else if (strcmp(command, "commit") == 0)
	{
		check(rd_kafka_commit_transaction(rk, patience_ms));
		wait_markers();
	}
	else if (strcmp(command, "abort") == 0)
	{
		check(rd_kafka_abort_transaction(rk, patience_ms));
		if (strstr(failure, "urged") != NULL)	/* that is what an abort does */
			failure[0] = '\0';
		wait_markers();
	}
	else if (strcmp(command, "watermarks") == 0)
	{
		int64_t		low = -1,
					high = -1;
		rd_kafka_resp_err_t err = rd_kafka_query_watermark_offsets(rk, f[1].data, atoi(f[2].data),
																   &low, &high, patience_ms);

		if (err)
			fail("%s", rd_kafka_err2str(err));
		snprintf(text, sizeof(text), "%lld %lld", (long long) low, (long long) high);
	}
	else if (strcmp(command, "replicas") == 0)
		show_replicas(f[1].data, atoi(f[2].data), text, sizeof(text));
	else if (strcmp(command, "allow") == 0 || strcmp(command, "forbid") == 0)
		control_access(strcmp(command, "allow") == 0, f[1].data, f[2].data);
	else
		administer(f, n);
	answer(text);
}

int
main(int argc, char **argv)
{
	char		err[512];
	int			transactional = 0;
	char	   *line = NULL;
	size_t		size = 0;
	ssize_t		len;
	int			i;

	if (argc < 2)
		return 2;
	if (getenv("PG_TEST_TIMEOUT_DEFAULT") && atoi(getenv("PG_TEST_TIMEOUT_DEFAULT")) > 0)
		patience_ms = atoi(getenv("PG_TEST_TIMEOUT_DEFAULT")) * 1000 / 3;
	conf = rd_kafka_conf_new();
	rd_kafka_conf_set(conf, "bootstrap.servers", argv[1], NULL, 0);
	rd_kafka_conf_set(conf, "linger.ms", "0", NULL, 0);
	rd_kafka_conf_set(conf, "queue.buffering.max.kbytes", "262144", NULL, 0);
	rd_kafka_conf_set(conf, "topic.metadata.refresh.fast.interval.ms", "50", NULL, 0);
	rd_kafka_conf_set(conf, "reconnect.backoff.max.ms", "500", NULL, 0);
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	rd_kafka_conf_set_log_cb(conf, on_log);
	for (i = 2; i < argc; i++)
	{
		char	   *value = strchr(argv[i], '=');

		if (value == NULL)
			return 2;
		*value++ = '\0';
		if (strcmp(argv[i], "transactional.id") == 0)
			transactional = 1;
		if (rd_kafka_conf_set(conf, argv[i], value, err, sizeof(err)) != RD_KAFKA_CONF_OK)
		{
			printf("error %s\n", err);
			return 1;
		}
	}
	if (!open_handle())
	{
		printf("error %s\n", failure);
		return 1;
	}
	if (transactional)
		check(rd_kafka_init_transactions(rk, patience_ms));
	answer("ready");

	while ((len = getline(&line, &size, stdin)) > 0)
	{
		Field		fields[MAX_FIELDS];

		if (line[len - 1] == '\n')
			line[--len] = '\0';
		execute(fields, split(line, (size_t) len, fields));
	}
	rd_kafka_flush(rk, 5000);
	return 0;
}
