/*
 * kafka/ask.c
 *		What a broker tells of a topic besides its messages, and what it is told.
 *
 * How many partitions, their first and last offsets, offsets for a time, the cluster's id.
 * Asking neither needs nor changes an assignment.
 */
#include "postgres.h"

#include "kafka/ask.h"
#include "kafka/consumer_internal.h"

void
mr_consumer_throw_no_answer(MrConsumer *consumer, rd_kafka_resp_err_t err)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
			 errmsg("could not read topic \"%s\": %s",
					consumer->topic, mr_trouble_explain(consumer->trouble, err)),
			 mr_trouble_hint(consumer->trouble)));
}

int
mr_consumer_partitions(MrConsumer *consumer, int timeout_ms, bool error_ok)
{
	rd_kafka_resp_err_t err = mr_client_ask(consumer->client,
											mr_question_topic(consumer->topic), timeout_ms);

	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		return mr_client_partitions(consumer->client);
	if (!error_ok)
		mr_consumer_throw_no_answer(consumer, err);
	return -1;
}

/* Offsets for a time or a logical offset; false on failure if error_ok. */
static bool
ask_offsets(MrConsumer *consumer, const int32 *partitions, int n, int64 what,
			int64 *offsets, int timeout_ms, bool error_ok)
{
	rd_kafka_resp_err_t err;

	if (n == 0)
		return true;
	err = mr_client_ask(consumer->client,
						mr_question_offsets(consumer->topic, partitions, n, what),
						timeout_ms);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (!error_ok)
			mr_consumer_throw_no_answer(consumer, err);
		return false;
	}
	for (int i = 0; i < n; i++)
		offsets[i] = mr_client_offset(consumer->client, i);
	return true;
}

/*
 * Low first: were it second, messages removed in between could make it larger than high.
 */
bool
mr_consumer_watermarks(MrConsumer *consumer, const int32 *partitions, int n,
					   int64 *low, int64 *high, int timeout_ms, bool error_ok)
{
	return ask_offsets(consumer, partitions, n, RD_KAFKA_OFFSET_BEGINNING,
					   low, timeout_ms, error_ok) &&
		ask_offsets(consumer, partitions, n, RD_KAFKA_OFFSET_END,
					high, timeout_ms, error_ok);
}

void
mr_consumer_cached_watermarks(MrConsumer *consumer, int32 partition, int64 *low, int64 *high)
{
	if (rd_kafka_get_watermark_offsets(mr_client_handle(consumer->client), consumer->topic,
									   partition, low, high) != RD_KAFKA_RESP_ERR_NO_ERROR)
		*low = *high = -1;
	*low = Max(*low, -1);
	*high = Max(*high, -1);
}

/*
 * The end is asked for first, so that a message which arrives in between is after it.
 */
void
mr_consumer_offsets_for_time(MrConsumer *consumer, int64 timestamp_ms,
							 MrPartitionOffset *parts, int n, int timeout_ms)
{
	int32	   *partitions = palloc(n * sizeof(int32));
	int64	   *ends = palloc(n * sizeof(int64));
	int64	   *offsets = palloc(n * sizeof(int64));

	for (int i = 0; i < n; i++)
		partitions[i] = parts[i].partition;
	/* negative times are the protocol's special ones */
	timestamp_ms = Max(timestamp_ms, 0);
	(void) ask_offsets(consumer, partitions, n, RD_KAFKA_OFFSET_END, ends, timeout_ms, false);
	(void) ask_offsets(consumer, partitions, n, timestamp_ms, offsets, timeout_ms, false);
	for (int i = 0; i < n; i++)
		parts[i].offset = offsets[i] < 0 ? ends[i] : offsets[i];

	pfree(partitions);
	pfree(ends);
	pfree(offsets);
}

/* Nobody wants to know. */
static void
drop_replies(MrConsumer *consumer)
{
	rd_kafka_event_t *event;

	while ((event = rd_kafka_queue_poll(consumer->replies, 0)) != NULL)
		rd_kafka_event_destroy(event);
}

/*
 * Not by rd_kafka_commit: as long as the group's coordinator is not known the handle keeps
 * the request, and then destroying it takes session.timeout.ms.
 */
void
mr_consumer_commit_courtesy(MrConsumer *consumer, const MrPartitionOffset *parts, int n)
{
	rd_kafka_t *rk = mr_client_handle(consumer->client);
	rd_kafka_AlterConsumerGroupOffsets_t *request;
	rd_kafka_topic_partition_list_t *list;

	if (n == 0)
		return;
	if (consumer->replies == NULL)
		consumer->replies = rd_kafka_queue_new(rk);
	drop_replies(consumer);
	list = mr_consumer_partition_list(consumer, parts, n);
	request = rd_kafka_AlterConsumerGroupOffsets_new(consumer->group_id, list);
	rd_kafka_topic_partition_list_destroy(list);
	rd_kafka_AlterConsumerGroupOffsets(rk, &request, 1, NULL, consumer->replies);
	rd_kafka_AlterConsumerGroupOffsets_destroy(request);
}

/* librdkafka keeps it up to date with each answer about the cluster. */
char *
mr_consumer_cluster_id(MrConsumer *consumer)
{
	char	   *id = rd_kafka_clusterid(mr_client_handle(consumer->client), 0);
	char	   *result = NULL;

	if (id != NULL)
	{
		result = pstrdup(id);
		rd_kafka_mem_free(mr_client_handle(consumer->client), id);
	}
	return result;
}
