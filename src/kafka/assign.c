/*
 * kafka/assign.c
 *		Which partitions a consumer reads, from where on, and where it stands in them.
 *
 * Partitions are assigned explicitly, all anew or in addition.  Each has a status, which begins
 * here and is brought up to date here with the position that librdkafka knows; consumer.c
 * enters what comes through the queue.
 *
 * Positions: control records and aborted messages are never handed out, but they occupy
 * offsets, so the position can be larger than the last message's offset + 1.  librdkafka
 * tells where it is when a control record passes; and an end-of-partition report carries the
 * offset at which it would fetch next, but comes only after the broker has waited
 * fetch.wait.max.ms in vain for more.
 */
#include "postgres.h"

#include "elapsed.h"
#include "kafka/assign.h"
#include "kafka/consumer_internal.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

static void *
resize(MrConsumer *consumer, void *array, Size size)
{
	return array == NULL ? MemoryContextAlloc(consumer->cxt, size) : repalloc(array, size);
}

/* Make room so that index[partition] exists. */
static void
extend_index(MrConsumer *consumer, int32 partition)
{
	int			n = Max(partition + 1, consumer->nindex * 2);

	if (partition < consumer->nindex)
		return;
	consumer->index = resize(consumer, consumer->index, n * sizeof(int));
	for (int i = consumer->nindex; i < n; i++)
		consumer->index[i] = -1;
	consumer->nindex = n;
}

/* One that was not assigned before, or is again after others. */
static MrPartitionStatus *
new_status(MrConsumer *consumer, int32 partition)
{
	if (consumer->nstatus == consumer->status_size)
	{
		int			n = Max(16, consumer->status_size * 2);

		consumer->status = resize(consumer, consumer->status, n * sizeof(MrPartitionStatus));
		consumer->settled = resize(consumer, consumer->settled, n * sizeof(bool));
		consumer->continuity = resize(consumer, consumer->continuity, n * sizeof(MrContinuity));
		consumer->stood_at = resize(consumer, consumer->stood_at, n * sizeof(int64));
		consumer->status_size = n;
	}
	extend_index(consumer, partition);
	consumer->index[partition] = consumer->nstatus;
	consumer->continuity[consumer->nstatus] = (MrContinuity)
	{
		.last = MR_NO_RECORD
	};
	return &consumer->status[consumer->nstatus++];
}

static void
start_status(MrConsumer *consumer, int32 partition, int64 offset)
{
	MrPartitionStatus *status = mr_consumer_find_status(consumer, partition);
	MrContinuity *continuity;

	if (status == NULL)
		status = new_status(consumer, partition);
	status->partition = partition;
	status->position = offset;
	status->eof = -1;
	status->out_of_range = false;
	status->another = false;
	consumer->settled[status - consumer->status] = false;
	consumer->stood_at[status - consumer->status] = -1;

	continuity = mr_consumer_continuity(consumer, status);
	continuity->state = MR_RECALL_NONE;
	continuity->heard_at = mr_steady_time();
}

rd_kafka_topic_partition_list_t *
mr_consumer_partition_list(MrConsumer *consumer, const MrPartitionOffset *parts, int n)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n);

	for (int i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, consumer->topic,
										  parts[i].partition)->offset = parts[i].offset;
	return list;
}

static void
throw_assign_error(MrConsumer *consumer, const char *reason)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_ERROR),
			 errmsg("could not assign partitions of topic \"%s\": %s",
					consumer->topic, mr_client_scrub(consumer->client, reason))));
}

/* Takes over the list and the error. */
static void
check_assigned(MrConsumer *consumer, rd_kafka_topic_partition_list_t *list,
			   rd_kafka_error_t *error)
{
	char		reason[256];

	rd_kafka_topic_partition_list_destroy(list);
	if (error == NULL)
		return;
	strlcpy(reason, rd_kafka_error_string(error), sizeof(reason));
	rd_kafka_error_destroy(error);
	throw_assign_error(consumer, reason);
}

/* Assigned anew: librdkafka's positions have to be asked for with another list. */
static void
forget_positions(MrConsumer *consumer)
{
	if (consumer->positions != NULL)
		rd_kafka_topic_partition_list_destroy(consumer->positions);
	consumer->positions = NULL;
	consumer->heard = false;
	consumer->last_probe = mr_steady_time();
	consumer->stall.asked = 0;
}

static void
started(MrConsumer *consumer, const MrPartitionOffset *parts, int n)
{
	for (int i = 0; i < n; i++)
		start_status(consumer, parts[i].partition, parts[i].offset);
	forget_positions(consumer);
}

void
mr_consumer_assign(MrConsumer *consumer, const MrPartitionOffset *parts, int n)
{
	rd_kafka_topic_partition_list_t *list = mr_consumer_partition_list(consumer, parts, n);
	rd_kafka_resp_err_t err = rd_kafka_assign(mr_client_handle(consumer->client), list);

	rd_kafka_topic_partition_list_destroy(list);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		throw_assign_error(consumer, rd_kafka_err2str(err));

	for (int i = 0; i < consumer->nindex; i++)
		consumer->index[i] = -1;
	consumer->nstatus = 0;
	started(consumer, parts, n);
}

/*
 * Not by rd_kafka_seek: that is lost, without an error, when the partition's fetcher has
 * not started yet.
 */
void
mr_consumer_seek(MrConsumer *consumer, int32 partition, int64 offset)
{
	MrPartitionOffset part = {partition, offset};
	rd_kafka_topic_partition_list_t *list = mr_consumer_partition_list(consumer, &part, 1);

	check_assigned(consumer, list,
				   rd_kafka_incremental_unassign(mr_client_handle(consumer->client), list));
	list = mr_consumer_partition_list(consumer, &part, 1);
	check_assigned(consumer, list,
				   rd_kafka_incremental_assign(mr_client_handle(consumer->client), list));
	started(consumer, &part, 1);
}

void
mr_consumer_resume(MrConsumer *consumer, const MrPartitionResume *parts, int n)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n);

	for (int i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, consumer->topic, parts[i].partition)->offset =
			parts[i].last.offset >= 0 ? parts[i].last.offset : parts[i].offset;
	check_assigned(consumer, list,
				   rd_kafka_incremental_assign(mr_client_handle(consumer->client), list));
	for (int i = 0; i < n; i++)
	{
		MrContinuity *continuity;

		start_status(consumer, parts[i].partition, parts[i].offset);
		continuity = mr_consumer_continuity(consumer, mr_consumer_find_status(consumer, parts[i].partition));
		continuity->last = parts[i].last;
		continuity->end = parts[i].offset;
		continuity->met = false;
		if (continuity->last.offset >= 0)
			continuity->state = MR_RECALL_BEGUN;
	}
	forget_positions(consumer);
}

void
mr_consumer_took(MrConsumer *consumer, int32 partition, int64 next_offset, const MrRecord *last)
{
	MrPartitionStatus *status = mr_consumer_find_status(consumer, partition);

	if (status == NULL)
		return;
	mr_consumer_continuity(consumer, status)->last = *last;
	mr_consumer_continuity(consumer, status)->end = next_offset;
}

/*
 * Take over positions that control records have moved.  The position of an earlier
 * assignment stays in librdkafka for a moment, until the fetcher has started anew: either
 * there is none, or something has come from the new one.
 */
void
mr_consumer_refresh_positions(MrConsumer *consumer)
{
	if (mr_consumer_position_counts_ends())
		return;
	if (consumer->positions == NULL)
	{
		consumer->positions = rd_kafka_topic_partition_list_new(Max(consumer->nstatus, 1));
		for (int i = 0; i < consumer->nstatus; i++)
			rd_kafka_topic_partition_list_add(consumer->positions, consumer->topic,
											  consumer->status[i].partition);
	}
	(void) rd_kafka_position(mr_client_handle(consumer->client), consumer->positions);

	for (int i = 0; i < consumer->nstatus; i++)
	{
		MrPartitionStatus *status = &consumer->status[i];
		int64		position = consumer->positions->elems[i].offset;

		/* it counts what is left out */
		if (status->another || consumer->continuity[i].state != MR_RECALL_NONE)
			continue;
		if (position < 0)
			consumer->settled[i] = true;
		else if (consumer->settled[i] && position > status->position)
		{
			status->position = position;
			if (status->eof < position)
				status->eof = -1;
		}
	}
}
