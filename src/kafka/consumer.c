/*
 * kafka/consumer.c
 *		Reading partitions of one topic, assigned explicitly, never subscribed.
 *
 * librdkafka fetches in its own threads into one queue; mr_consumer_poll takes messages out
 * of it in batches.  What comes through the same queue and is no message (the end of a
 * partition, an offset that the broker does not have, a topic that is gone) is turned into
 * the partition's status or the consumer's trouble.
 *
 * Positions: control records and aborted messages are never handed out, but they occupy
 * offsets, so the position can be larger than the last message's offset + 1.  librdkafka
 * tells where it is when a control record passes; and an end-of-partition report carries the
 * offset at which it would fetch next, but comes only after the broker has waited
 * fetch.wait.max.ms in vain for more.
 *
 * Troubles: librdkafka reports that something went wrong, but not that it is well again,
 * and nothing at all comes from an idle topic.  So as long as there is trouble, or nothing
 * was heard since the assignment, a poll that finds nothing asks the broker for the topic's
 * metadata now and then, without waiting for the answer.
 *
 * Doubts: whether the log is still the one that was read, see continuity.c.  When the first
 * message after a pause comes, they are resolved before it is handed out.
 *
 * Flow: librdkafka stops fetching while it has queued.min.messages, and before version 2.2,
 * which brought fetch.queue.backoff.ms, notices up to a second later that they have been
 * taken.  A caller who takes many messages and then works for a while would get no more
 * than that number per second.  So the broker threads are nudged when messages were taken.
 *
 * Memory: messages are used in place and must be destroyed before the handle.  Each one
 * taken occupies a slot, so that those which the caller did not give back, because of an
 * error, are found when the memory context goes.
 */
#include "postgres.h"

#include "kafka/client.h"
#include "kafka/continuity.h"
#include "kafka/headers.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Messages taken from librdkafka's queue in one call. */
#define TAKE_MESSAGES	1024

#define SLOTS_PER_CHUNK	4096

/* Nudge librdkafka's fetchers after so much was taken, but not more often than this. */
#define NUDGE_MESSAGES		1000
#define NUDGE_BYTES			(1024 * 1024)
#define NUDGE_INTERVAL_MS	5

/* From this version on librdkafka can be told to look in time itself. */
#define FETCH_BACKOFF_VERSION	0x02020000
#define FETCH_BACKOFF_MS		"10"

/* Longest wait of a fetch, as text, where only the report of an end tells a position. */
#define END_WAIT_MS			"100"

/* Longest wait of a fetch, as text, of a consumer that reads messages once more. */
#define RECALL_WAIT_MS		"10"
#define RECALL_TIMEOUT_MS	10000

/* How often the broker is asked whether the trouble is over, and how long. */
#define PROBE_INTERVAL_MS	1000
#define PROBE_TIMEOUT_MS	10000

/* Memory of a message besides its bytes, measured. */
#define MESSAGE_OVERHEAD	340

/* A message that the caller holds, or a link in the list of free slots. */
typedef struct Slot
{
	rd_kafka_message_t *message;	/* NULL: free */
	struct Slot *next_free;
} Slot;

typedef struct SlotChunk
{
	struct SlotChunk *next;
	Slot		slots[SLOTS_PER_CHUNK];
} SlotChunk;

struct MrConsumer
{
	MemoryContext cxt;
	MrClient   *client;
	rd_kafka_topic_t *rkt;
	rd_kafka_queue_t *queue;
	char	   *topic;

	MrPartitionStatus *status;	/* of the partitions assigned */
	bool	   *settled;		/* by place in status: may librdkafka's
								 * position be believed, or is it that of an
								 * earlier assignment? */
	MrContinuity *continuity;	/* by place in status */
	int			nstatus;
	int			status_size;
	uint64		pauses;			/* times that nothing was queued */
	List	   *props;			/* NIL: does not doubt */
	MrConsumer *recaller;		/* reads messages once more; NULL: there was
								 * no need yet */
	rd_kafka_topic_partition_list_t *positions; /* same order as status; or
												 * NULL */
	int		   *index;			/* by partition: place in status, or -1 */
	int			nindex;

	SlotChunk  *chunks;
	Slot	   *free_slots;
	int			nfree;
	rd_kafka_message_t *batch[TAKE_MESSAGES];
	int			nbatch;			/* taken, and not yet sorted */

	bool		nudging;		/* does this librdkafka need it? */
	int			unnudged;		/* messages taken since the last nudge */
	size_t		unnudged_bytes;
	TimestampTz last_nudge;

	uint64		events;			/* counts what was no message */
	bool		heard;			/* something came since the assignment */
	TimestampTz last_probe;
	char	   *error;			/* what mr_consumer_error returned last */
	char	   *group_id;
	rd_kafka_queue_t *replies;	/* to courtesies; or NULL */
};

static void resolve_doubts(MrConsumer *consumer);

/* ----------------------------------------------------------------
 * Life
 * ----------------------------------------------------------------
 */

/* Called before the handle is destroyed; the client's memory is still there. */
static void
release_consumer(void *arg)
{
	MrConsumer *consumer = arg;

	for (SlotChunk *chunk = consumer->chunks; chunk != NULL; chunk = chunk->next)
	{
		for (int i = 0; i < SLOTS_PER_CHUNK; i++)
		{
			if (chunk->slots[i].message != NULL)
				rd_kafka_message_destroy(chunk->slots[i].message);
		}
	}
	for (int i = 0; i < consumer->nbatch; i++)
		rd_kafka_message_destroy(consumer->batch[i]);
	if (consumer->positions != NULL)
		rd_kafka_topic_partition_list_destroy(consumer->positions);
	if (consumer->queue != NULL)
	{
		rd_kafka_queue_io_event_enable(consumer->queue, -1, NULL, 0);
		rd_kafka_queue_destroy(consumer->queue);
	}
	if (consumer->replies != NULL)
		rd_kafka_queue_destroy(consumer->replies);
	if (consumer->rkt != NULL)
		rd_kafka_topic_destroy(consumer->rkt);
}

/*
 * From 2.2 until it was mended in 2.13, librdkafka counts the report of a partition's end as
 * a message (its issue 4844), so the position that it tells is one too high.  What is left
 * then are messages and the reports themselves, which shall come soon.
 */
static bool
position_counts_ends(void)
{
	return rd_kafka_version() >= 0x02020000 && rd_kafka_version() < 0x020d0000;
}

/* recaller: reads single messages now and then, and then at once */
static MrConsumer *
create_in_current_context(List *props, const char *topic, const char *group_id, bool recaller)
{
	bool		nudging = rd_kafka_version() < FETCH_BACKOFF_VERSION;
	const MrSetting defaults[] = {
		{"isolation.level", "read_committed"},
		{nudging ? NULL : "fetch.queue.backoff.ms", FETCH_BACKOFF_MS},
		{position_counts_ends() ? "fetch.wait.max.ms" : NULL, END_WAIT_MS},
		{NULL, NULL}
	};
	const MrSetting owned[] = {
		{"group.id", group_id},
		{"enable.auto.commit", "false"},
		{"enable.auto.offset.store", "false"},
		{"auto.offset.reset", "error"},
		{"enable.partition.eof", "true"},
		{recaller ? "fetch.wait.max.ms" : NULL, RECALL_WAIT_MS},
		{NULL, NULL}
	};
	MrConsumer *consumer = palloc0(sizeof(MrConsumer));

	consumer->cxt = CurrentMemoryContext;
	consumer->topic = pstrdup(topic);
	consumer->group_id = pstrdup(group_id);
	consumer->props = recaller ? NIL : props;
	consumer->nudging = nudging;
	consumer->client = mr_client_create(RD_KAFKA_CONSUMER, props, defaults, owned,
										release_consumer, consumer, NULL);
	consumer->queue = rd_kafka_queue_get_consumer(mr_client_handle(consumer->client));
	consumer->rkt = rd_kafka_topic_new(mr_client_handle(consumer->client), topic, NULL);
	if (consumer->rkt == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("could not use topic \"%s\": %s",
						topic, rd_kafka_err2str(rd_kafka_last_error()))));
	mr_client_watch(consumer->client, consumer->queue);
	return consumer;
}

static MrConsumer *
create(List *props, const char *topic, const char *group_id, bool recaller)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace consumer",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	MrConsumer *consumer = create_in_current_context(props, topic, group_id, recaller);

	MemoryContextSwitchTo(old);
	return consumer;
}

MrConsumer *
mr_consumer_create(List *props, const char *topic, const char *group_id)
{
	return create(props, topic, group_id, false);
}

void
mr_consumer_destroy(MrConsumer *consumer)
{
	MemoryContextDelete(consumer->cxt);
}

bool
mr_consumer_any_stuck(void)
{
	return mr_handle_any_abandoned();
}

/* ----------------------------------------------------------------
 * Assignment
 * ----------------------------------------------------------------
 */

static MrPartitionStatus *
find_status(MrConsumer *consumer, int32 partition)
{
	if (partition < 0 || partition >= consumer->nindex || consumer->index[partition] < 0)
		return NULL;
	return &consumer->status[consumer->index[partition]];
}

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

static MrContinuity *
continuity_of(MrConsumer *consumer, const MrPartitionStatus *status)
{
	return &consumer->continuity[status - consumer->status];
}

static void
start_status(MrConsumer *consumer, int32 partition, int64 offset)
{
	MrPartitionStatus *status = find_status(consumer, partition);
	MrContinuity *continuity;

	if (status == NULL)
		status = new_status(consumer, partition);
	status->partition = partition;
	status->position = offset;
	status->eof = -1;
	status->out_of_range = false;
	status->another = false;
	consumer->settled[status - consumer->status] = false;

	continuity = continuity_of(consumer, status);
	continuity->state = MR_RECALL_NONE;
	continuity->heard_at = GetCurrentTimestamp();
}

static rd_kafka_topic_partition_list_t *
partition_list(MrConsumer *consumer, const MrPartitionOffset *parts, int n)
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
	consumer->last_probe = GetCurrentTimestamp();
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
	rd_kafka_topic_partition_list_t *list = partition_list(consumer, parts, n);
	rd_kafka_resp_err_t err = rd_kafka_assign(mr_client_handle(consumer->client), list);

	rd_kafka_topic_partition_list_destroy(list);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		throw_assign_error(consumer, rd_kafka_err2str(err));

	for (int i = 0; i < consumer->nindex; i++)
		consumer->index[i] = -1;
	consumer->nstatus = 0;
	started(consumer, parts, n);
}

void
mr_consumer_add(MrConsumer *consumer, const MrPartitionOffset *parts, int n)
{
	rd_kafka_topic_partition_list_t *list = partition_list(consumer, parts, n);

	check_assigned(consumer, list,
				   rd_kafka_incremental_assign(mr_client_handle(consumer->client), list));
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
	rd_kafka_topic_partition_list_t *list = partition_list(consumer, &part, 1);

	check_assigned(consumer, list,
				   rd_kafka_incremental_unassign(mr_client_handle(consumer->client), list));
	mr_consumer_add(consumer, &part, 1);
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
		continuity = continuity_of(consumer, find_status(consumer, parts[i].partition));
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
	MrPartitionStatus *status = find_status(consumer, partition);

	if (status == NULL)
		return;
	continuity_of(consumer, status)->last = *last;
	continuity_of(consumer, status)->end = next_offset;
}

/* ----------------------------------------------------------------
 * Messages
 * ----------------------------------------------------------------
 */

/* After this, n slots are free: nothing can fail while a batch is in our hands. */
static void
reserve_slots(MrConsumer *consumer, int n)
{
	while (consumer->nfree < n)
	{
		SlotChunk  *chunk = MemoryContextAllocZero(consumer->cxt, sizeof(SlotChunk));

		for (int i = SLOTS_PER_CHUNK - 1; i >= 0; i--)
		{
			chunk->slots[i].next_free = consumer->free_slots;
			consumer->free_slots = &chunk->slots[i];
		}
		consumer->nfree += SLOTS_PER_CHUNK;
		chunk->next = consumer->chunks;
		consumer->chunks = chunk;
	}
}

static Slot *
hold(MrConsumer *consumer, rd_kafka_message_t *rkmessage)
{
	Slot	   *slot = consumer->free_slots;

	consumer->free_slots = slot->next_free;
	consumer->nfree--;
	slot->message = rkmessage;
	return slot;
}

static rd_kafka_message_t *
held_message(const MrMessage *msg)
{
	return ((Slot *) msg->handle)->message;
}

static void
fill_message(MrMessage *msg, const rd_kafka_message_t *rkmessage)
{
	rd_kafka_timestamp_type_t type;
	int64		timestamp = rd_kafka_message_timestamp(rkmessage, &type);

	msg->partition = rkmessage->partition;
	msg->offset = rkmessage->offset;
	msg->timestamp_ms = type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE ? -1 : timestamp;
	msg->key = rkmessage->key;
	msg->key_len = rkmessage->key == NULL ? 0 : rkmessage->key_len;
	msg->value = rkmessage->payload;
	msg->value_len = rkmessage->payload == NULL ? 0 : rkmessage->len;
	msg->handle = NULL;
}

/*
 * A partition's end.  Where reading began again at the last message, it may lie before the
 * position: then the log is shorter than it was.
 */
static void
take_end(MrConsumer *consumer, MrPartitionStatus *status, int64 offset)
{
	MrContinuity *continuity = continuity_of(consumer, status);

	if (offset >= status->position)
	{
		if (status->another)
			return;
		status->eof = offset;
		consumer->settled[status - consumer->status] = true;
		mr_continuity_end(continuity);
	}
	else if (continuity->state == MR_RECALL_BEGUN || continuity->state == MR_RECALL_DONE)
		status->out_of_range = true;
}

/*
 * What came through the queue and is no message.  Errors without a topic are the group
 * coordinator's, which is of no interest: the group is a courtesy.
 */
static void
take_event(MrConsumer *consumer, const rd_kafka_message_t *rkmessage)
{
	MrPartitionStatus *status;

	if (rkmessage->rkt == NULL)
		return;
	consumer->events++;
	status = find_status(consumer, rkmessage->partition);

	switch (rkmessage->err)
	{
		case RD_KAFKA_RESP_ERR__PARTITION_EOF:
			if (status != NULL)
				take_end(consumer, status, rkmessage->offset);
			mr_client_well(consumer->client, true);
			consumer->heard = true;
			break;
		case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
			if (status != NULL && (rkmessage->offset >= status->position ||
								   continuity_of(consumer, status)->state != MR_RECALL_NONE))
				status->out_of_range = true;
			mr_client_well(consumer->client, true);
			consumer->heard = true;
			break;
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
			mr_client_note_denied(consumer->client, rd_kafka_message_errstr(rkmessage));
			break;
		default:
			mr_client_note(consumer->client, rkmessage->err, rd_kafka_message_errstr(rkmessage));
			break;
	}
}

/* A message for the caller. */
static void
hand_out(MrConsumer *consumer, MrPartitionStatus *status, MrMessage *msg,
		 rd_kafka_message_t *rkmessage)
{
	msg->handle = hold(consumer, rkmessage);
	consumer->unnudged++;
	consumer->unnudged_bytes += rkmessage->len;
	status->position = rkmessage->offset + 1;
	status->eof = -1;
	consumer->settled[status - consumer->status] = true;
}

/* Is a message that is not plain for the caller? */
static bool
passes(MrConsumer *consumer, MrPartitionStatus *status, const MrMessage *msg)
{
	MrContinuity *continuity = continuity_of(consumer, status);
	MrVerdict	verdict;

	continuity->pauses = consumer->pauses;
	if (status->another)
		return false;
	verdict = mr_continuity_judge(continuity, msg, status->position);
	if (verdict == MR_VERDICT_ANOTHER)
	{
		status->another = true;
		consumer->events++;
	}
	return verdict == MR_VERDICT_NEW;
}

/*
 * Sort a batch into messages for the caller and what is none.  Returns how many messages.
 */
static int
take_batch(MrConsumer *consumer, MrMessage *msgs)
{
	TimestampTz now = GetCurrentTimestamp();
	int			n = consumer->nbatch;
	int			taken = 0;

	consumer->nbatch = 0;
	for (int i = 0; i < n; i++)
	{
		rd_kafka_message_t *rkmessage = consumer->batch[i];
		MrPartitionStatus *status;

		if (rkmessage->err == RD_KAFKA_RESP_ERR_NO_ERROR &&
			(status = find_status(consumer, rkmessage->partition)) != NULL)
		{
			MrContinuity *continuity = continuity_of(consumer, status);

			consumer->heard = true;
			fill_message(&msgs[taken], rkmessage);
			if (mr_continuity_is_plain(continuity, consumer->pauses) ||
				passes(consumer, status, &msgs[taken]))
			{
				continuity->heard_at = now;
				hand_out(consumer, status, &msgs[taken++], rkmessage);
				continue;
			}
		}
		else if (rkmessage->err != RD_KAFKA_RESP_ERR_NO_ERROR)
			take_event(consumer, rkmessage);
		rd_kafka_message_destroy(rkmessage);
	}
	if (taken > 0)
		mr_client_well(consumer->client, true);
	return taken;
}

/* waiting: nothing more is queued, so it is high time */
static void
nudge(MrConsumer *consumer, bool waiting)
{
	TimestampTz now;

	if (!consumer->nudging ||
		(consumer->unnudged < NUDGE_MESSAGES && consumer->unnudged_bytes < NUDGE_BYTES))
		return;
	now = GetCurrentTimestamp();
	if (!waiting && !TimestampDifferenceExceeds(consumer->last_nudge, now, NUDGE_INTERVAL_MS))
		return;
	mr_client_nudge(consumer->client);
	consumer->unnudged = 0;
	consumer->unnudged_bytes = 0;
	consumer->last_nudge = now;
}

/* Are there messages that came after a pause?  Marks their partitions. */
static bool
any_doubt(MrConsumer *consumer)
{
	TimestampTz now = 0;
	bool		result = false;

	if (consumer->props == NIL)
		return false;
	for (int i = 0; i < consumer->nbatch; i++)
	{
		MrPartitionStatus *status = find_status(consumer, consumer->batch[i]->partition);
		MrContinuity *continuity;

		if (status == NULL || status->another ||
			consumer->batch[i]->err != RD_KAFKA_RESP_ERR_NO_ERROR)
			continue;
		continuity = continuity_of(consumer, status);
		if (continuity->pauses == consumer->pauses)
			continue;
		now = now == 0 ? GetCurrentTimestamp() : now;
		if (mr_continuity_in_doubt(continuity, now))
		{
			continuity->state = MR_RECALL_WANTED;
			result = true;
		}
	}
	return result;
}

/* Take what is queued, without waiting. */
static int
take(MrConsumer *consumer, MrMessage *msgs, int max)
{
	int			taken = 0;

	while (taken < max)
	{
		int			want = Min(max - taken, TAKE_MESSAGES);
		ssize_t		got;

		reserve_slots(consumer, want);
		got = rd_kafka_consume_batch_queue(consumer->queue, 0, consumer->batch, want);
		consumer->nbatch = (int) Max(got, 0);
		if (any_doubt(consumer))
			resolve_doubts(consumer);
		taken += take_batch(consumer, msgs + taken);
		nudge(consumer, false);
		if (got < want)
		{
			consumer->pauses++;
			break;
		}
	}
	return taken;
}

/* ----------------------------------------------------------------
 * Is it well again?
 * ----------------------------------------------------------------
 */

static bool
needs_probe(MrConsumer *consumer)
{
	MrErrorKind trouble = mr_client_trouble(consumer->client);

	return consumer->nstatus > 0 && trouble != MR_KAFKA_FATAL &&
		(trouble != MR_KAFKA_OK || !consumer->heard);
}

/* The broker has spoken of the topic: are all partitions assigned there? */
static void
judge_topic(MrConsumer *consumer, int partitions)
{
	char		reason[64];

	for (int i = 0; i < consumer->nstatus; i++)
	{
		int32		partition = consumer->status[i].partition;

		if (partition < partitions)
			continue;
		if (partitions == 0)
			strlcpy(reason, rd_kafka_err2str(RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART), sizeof(reason));
		else
			snprintf(reason, sizeof(reason), "there is no partition %d", partition);
		mr_client_well(consumer->client, false);
		mr_client_note(consumer->client, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, reason);
		return;
	}
	mr_client_well(consumer->client, false);
	consumer->heard = true;
}

static void
take_probe(MrConsumer *consumer)
{
	rd_kafka_resp_err_t err;

	if (!mr_client_answered(consumer->client, &err))
		return;
	consumer->last_probe = GetCurrentTimestamp();
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		judge_topic(consumer, mr_client_partitions(consumer->client));
	else
		mr_client_note(consumer->client, err, mr_client_explain(consumer->client, err));
}

static void
probe(MrConsumer *consumer)
{
	take_probe(consumer);
	if (!needs_probe(consumer) || mr_client_asking(consumer->client) ||
		!TimestampDifferenceExceeds(consumer->last_probe, GetCurrentTimestamp(),
									PROBE_INTERVAL_MS))
		return;
	mr_client_ask_async(consumer->client, mr_question_topic(consumer->topic), PROBE_TIMEOUT_MS);
}

int
mr_consumer_poll(MrConsumer *consumer, MrMessage *msgs, int max, int timeout_ms)
{
	TimestampTz end = timeout_ms > 0 ?
	TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms) : 0;
	uint64		events = consumer->events;
	bool		latch = false;
	int			n;

	CHECK_FOR_INTERRUPTS();
	mr_client_serve(consumer->client);
	while ((n = take(consumer, msgs, max)) == 0)
	{
		long		remaining;

		probe(consumer);
		if (timeout_ms <= 0 || latch || consumer->events != events)
			break;
		remaining = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);
		if (remaining <= 0)
			break;
		nudge(consumer, true);
		latch = mr_client_wait(consumer->client, Min(remaining, PROBE_INTERVAL_MS));
		mr_client_serve(consumer->client);
	}
	return n;
}

void
mr_consumer_release(MrConsumer *consumer, MrMessage *msgs, int n)
{
	for (int i = 0; i < n; i++)
	{
		Slot	   *slot = msgs[i].handle;

		rd_kafka_message_destroy(slot->message);
		slot->message = NULL;
		slot->next_free = consumer->free_slots;
		consumer->free_slots = slot;
		msgs[i].handle = NULL;
	}
	consumer->nfree += n;
}

uint32
mr_message_checksum(const MrMessage *msg)
{
	return mr_record_checksum(msg->timestamp_ms, msg->key, msg->key_len, msg->value, msg->value_len);
}

size_t
mr_message_memory(const MrMessage *msg)
{
	return MESSAGE_OVERHEAD + sizeof(Slot) + msg->key_len + msg->value_len;
}

Datum
mr_message_headers(const MrMessage *msg, bool *isnull)
{
	if (msg->handle == NULL)
	{
		*isnull = msg->headers == NULL;
		return PointerGetDatum(msg->headers);
	}
	return mr_headers_jsonb(held_message(msg), isnull);
}

/* ----------------------------------------------------------------
 * Status
 * ----------------------------------------------------------------
 */

/*
 * Take over positions that control records have moved.  The position of an earlier
 * assignment stays in librdkafka for a moment, until the fetcher has started anew: either
 * there is none, or something has come from the new one.
 */
static void
refresh_positions(MrConsumer *consumer)
{
	if (position_counts_ends())
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

const MrPartitionStatus *
mr_consumer_status(MrConsumer *consumer, int *n)
{
	refresh_positions(consumer);
	*n = consumer->nstatus;
	return consumer->status;
}

MrErrorKind
mr_consumer_error(MrConsumer *consumer, const char **message)
{
	MrErrorKind trouble = mr_client_trouble(consumer->client);

	if (message == NULL)
		return trouble;
	if (consumer->error != NULL)
		pfree(consumer->error);
	consumer->error = NULL;
	if (trouble != MR_KAFKA_OK)
	{
		MemoryContext old = MemoryContextSwitchTo(consumer->cxt);

		consumer->error = mr_client_reason(consumer->client);
		MemoryContextSwitchTo(old);
	}
	*message = consumer->error;
	return trouble;
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

/* ----------------------------------------------------------------
 * Questions
 * ----------------------------------------------------------------
 */

static void
throw_no_answer(MrConsumer *consumer, rd_kafka_resp_err_t err)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
			 errmsg("could not read topic \"%s\": %s",
					consumer->topic, mr_client_explain(consumer->client, err)),
			 mr_client_hint(consumer->client)));
}

int
mr_consumer_partitions(MrConsumer *consumer, int timeout_ms, bool error_ok)
{
	rd_kafka_resp_err_t err = mr_client_ask(consumer->client,
											mr_question_topic(consumer->topic), timeout_ms);

	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		return mr_client_partitions(consumer->client);
	if (!error_ok)
		throw_no_answer(consumer, err);
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
			throw_no_answer(consumer, err);
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
	list = partition_list(consumer, parts, n);
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

/* ----------------------------------------------------------------
 * Reading messages once more
 * ----------------------------------------------------------------
 */

static MrConsumer *
recaller_of(MrConsumer *consumer)
{
	if (consumer->recaller == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(consumer->cxt);

		consumer->recaller = create(consumer->props, consumer->topic, consumer->group_id, true);
		MemoryContextSwitchTo(old);
	}
	return consumer->recaller;
}

static bool
is_recalling(const MrConsumer *recaller)
{
	for (int i = 0; i < recaller->nstatus; i++)
		if (recaller->continuity[i].state == MR_RECALL_BEGUN &&
			!recaller->status[i].another && !recaller->status[i].out_of_range)
			return true;
	return false;
}

/* Look for the last messages of parts; the results are in the recaller until the next time. */
static MrConsumer *
recall(MrConsumer *consumer, const MrPartitionResume *parts, int n, int timeout_ms)
{
	MrConsumer *recaller = recaller_of(consumer);
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	MrMessage	msgs[16];

	mr_consumer_assign(recaller, NULL, 0);
	mr_consumer_resume(recaller, parts, n);
	while (is_recalling(recaller))
	{
		long		remaining = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);

		if (remaining <= 0 || mr_client_trouble(recaller->client) == MR_KAFKA_AUTH)
			throw_no_answer(recaller, RD_KAFKA_RESP_ERR__TIMED_OUT);
		mr_consumer_release(recaller, msgs,
							mr_consumer_poll(recaller, msgs, lengthof(msgs), (int) remaining));
	}
	/* it may have consumed the event; looking once more does no harm */
	SetLatch(MyLatch);
	return recaller;
}

static MrRecall
recall_result(MrConsumer *recaller, int32 partition)
{
	const MrPartitionStatus *status = find_status(recaller, partition);

	if (status->another)
		return MR_RECALLED_ANOTHER;
	return continuity_of(recaller, status)->met ? MR_RECALLED : MR_RECALLED_NOTHING;
}

/* No more fetches until the next time. */
static void
rest(MrConsumer *recaller)
{
	rd_kafka_assign(mr_client_handle(recaller->client), NULL);
}

static void
take_results(MrConsumer *consumer, MrConsumer *recaller)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < consumer->nstatus; i++)
	{
		MrContinuity *continuity = &consumer->continuity[i];

		if (continuity->state != MR_RECALL_WANTED)
			continue;
		continuity->state = MR_RECALL_NONE;
		continuity->heard_at = now;
		if (recall_result(recaller, consumer->status[i].partition) != MR_RECALLED_ANOTHER)
			continue;
		/* no message of it is plain any more */
		continuity->state = MR_RECALL_BEGUN;
		consumer->status[i].another = true;
		consumer->events++;
	}
}

static void
resolve_doubts(MrConsumer *consumer)
{
	MrPartitionResume *parts = palloc(sizeof(MrPartitionResume) * (consumer->nstatus + 1));
	MrConsumer *recaller;
	int			n = 0;

	for (int i = 0; i < consumer->nstatus; i++)
	{
		const MrContinuity *continuity = &consumer->continuity[i];

		if (continuity->state != MR_RECALL_WANTED)
			continue;
		parts[n].partition = consumer->status[i].partition;
		parts[n].offset = continuity->end;
		parts[n++].last = continuity->last;
	}
	if (n > 0)
	{
		recaller = recall(consumer, parts, n, RECALL_TIMEOUT_MS);
		take_results(consumer, recaller);
		rest(recaller);
	}
	pfree(parts);
}

void
mr_consumer_doubt(MrConsumer *consumer)
{
	for (int i = 0; i < consumer->nstatus; i++)
	{
		MrContinuity *continuity = &consumer->continuity[i];

		if (continuity->last.offset >= 0 && continuity->state == MR_RECALL_NONE &&
			!consumer->status[i].another && !consumer->status[i].out_of_range)
			continuity->state = MR_RECALL_WANTED;
	}
	resolve_doubts(consumer);
}

MrRecall
mr_consumer_recall(MrConsumer *consumer, int32 partition, const MrRecord *record, int timeout_ms)
{
	MrPartitionResume part = {partition, record->offset + 1, *record};
	MrConsumer *recaller = recall(consumer, &part, 1, timeout_ms);
	MrRecall	result = recall_result(recaller, partition);

	rest(recaller);
	return result;
}
