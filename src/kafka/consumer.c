/*
 * kafka/consumer.c
 *		A consumer's life, and the messages that it hands out.
 *
 * Which partitions it reads, and where it stands in them, is assign.c's affair; questions to
 * the broker are ask.c's.
 *
 * librdkafka fetches in its own threads into one queue; mr_consumer_poll takes messages out
 * of it in batches.  What comes through the same queue and is no message (the end of a
 * partition, an offset that the broker does not have, a topic that is gone) is turned into
 * the partition's status or the consumer's trouble.
 *
 * Troubles: librdkafka reports that something went wrong, but not that it is well again,
 * and nothing at all comes from an idle topic.  So as long as there is trouble, or nothing
 * was heard since the assignment, a poll that finds nothing asks the broker for the topic's
 * metadata now and then, without waiting for the answer.  Whether it will never be well again,
 * and needs another handle, is stall.c's affair.
 *
 * Doubts: whether the log is still the one that was read, see continuity.c.  When the first
 * message after a pause comes, they are resolved (recall.c) before it is handed out.
 *
 * Flow: librdkafka stops fetching while it has queued.min.messages, and before version 2.2,
 * which brought fetch.queue.backoff.ms, notices up to a second later that they have been
 * taken.  A caller who takes many messages and then works for a while would get no more
 * than that number per second.  So the broker threads are nudged when messages were taken.
 *
 * Memory: messages are used in place and must be destroyed before the handle.  Each one
 * taken occupies a slot, so that those which the caller did not give back, because of an
 * error, are found when the memory context goes.
 *
 * What waits in the queue: librdkafka looks at queued.max.messages.kbytes before it asks, for
 * one answer of each broker at a time, and takes whole answers apart, all partitions of one.
 * Messages that compress 250 times (and LZ4's buffers, which grow by three quarters) make of
 * a megabyte of each partition hundreds.  So answers are small, in proportion to
 * millrace.batch_memory: 128 kB of a partition and 512 kB in all by default, and 16 MB in the
 * queue.  A batch of a producer's that is larger comes whole in any case.  The broker pays for
 * small answers, with CPU for each: half of that in all cost a twentieth of the rate where broker
 * and worker share two CPUs.
 */
#include "postgres.h"

#include "elapsed.h"
#include "kafka/consumer_internal.h"
#include "kafka/headers.h"
#include "kafka/stall.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define PREFETCH				8	/* messages to fetch into the CPU's cache
									 * before they are looked at */
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

/* How often the broker is asked whether the trouble is over, and how long. */
#define PROBE_INTERVAL_MS	1000
#define PROBE_TIMEOUT_MS	10000

/* Of a partition in one answer: this part of millrace.batch_memory, within limits, in bytes. */
#define FETCH_PART			1024
#define FETCH_MIN			(64 * 1024)
#define FETCH_MAX			(1024 * 1024)

/* Partitions of a broker's that may fill an answer. */
#define FETCH_FULL			4

/* The part of millrace.batch_memory that may wait in the queue. */
#define QUEUE_PART			8

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

/* bytes of a partition in one answer, unless the user says otherwise */
static int
fetch_size(void)
{
	return Min(Max((int64) mr_batch_memory * 1024 / FETCH_PART, FETCH_MIN), FETCH_MAX);
}

/* bytes of an answer; NULL: librdkafka's default, because the user has said how much of a partition */
static const char *
answer_size(const List *props)
{
	if (mr_conf_value(props, "fetch.max.bytes") != NULL)
		return mr_conf_value(props, "fetch.max.bytes");
	if (mr_conf_value(props, "fetch.message.max.bytes") != NULL ||
		mr_conf_value(props, "max.partition.fetch.bytes") != NULL)
		return NULL;
	return psprintf("%d", FETCH_FULL * fetch_size());
}

/*
 * message.max.bytes is the producers' affair.  All that it does to a consumer is to be a lower bound of
 * fetch.max.bytes.
 */
static const char *
message_size(const char *answer)
{
	return answer == NULL ? NULL : psprintf("%d", Min(Max(atoi(answer), 1000), 1000000000));
}

/* recaller: reads single messages now and then, and then at once */
static MrConsumer *
create_in_current_context(List *props, const char *topic, const char *group_id, bool recaller)
{
	bool		nudging = rd_kafka_version() < FETCH_BACKOFF_VERSION;
	const char *answer = answer_size(props);
	const MrSetting defaults[] = {
		{"isolation.level", "read_committed"},
		{"fetch.message.max.bytes", psprintf("%d", fetch_size())},
		{"queued.max.messages.kbytes", psprintf("%d", Min(mr_batch_memory / QUEUE_PART, 2097151))},
		{"fetch.max.bytes", answer},
		{nudging ? NULL : "fetch.queue.backoff.ms", FETCH_BACKOFF_MS},
		{mr_consumer_position_counts_ends() ? "fetch.wait.max.ms" : NULL, END_WAIT_MS},
		{NULL, NULL}
	};
	const MrSetting owned[] = {
		{"group.id", group_id},
		{"enable.auto.commit", "false"},
		{"enable.auto.offset.store", "false"},
		{"auto.offset.reset", "error"},
		{"enable.partition.eof", "true"},
		{"message.max.bytes", message_size(answer)},
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
	consumer->trouble = mr_client_trouble(consumer->client);
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
mr_consumer_create_recaller(const MrConsumer *consumer)
{
	return create(consumer->props, consumer->topic, consumer->group_id, true);
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
	MrContinuity *continuity = mr_consumer_continuity(consumer, status);

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
	status = mr_consumer_find_status(consumer, rkmessage->partition);

	switch (rkmessage->err)
	{
		case RD_KAFKA_RESP_ERR__PARTITION_EOF:
			if (status != NULL)
				take_end(consumer, status, rkmessage->offset);
			mr_trouble_end(consumer->trouble, true);
			consumer->heard = true;
			break;
		case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:

			/*
			 * no offset: the client has found a later end of the log to be
			 * gone
			 */
			if (status != NULL && (rkmessage->offset < 0 || rkmessage->offset >= status->position ||
								   mr_consumer_continuity(consumer, status)->state != MR_RECALL_NONE))
				status->out_of_range = true;
			mr_trouble_end(consumer->trouble, true);
			consumer->heard = true;
			break;
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
			mr_trouble_note_denied(consumer->trouble, rd_kafka_message_errstr(rkmessage));
			break;
		default:
			mr_trouble_note(consumer->trouble, rkmessage->err, rd_kafka_message_errstr(rkmessage));
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
	MrContinuity *continuity = mr_consumer_continuity(consumer, status);
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
	TimestampTz now = mr_steady_time();
	int			n = consumer->nbatch;
	int			taken = 0;

	consumer->nbatch = 0;
	for (int i = 0; i < n; i++)
	{
		rd_kafka_message_t *rkmessage = consumer->batch[i];
		MrPartitionStatus *status;

		if (i + PREFETCH < n)
			__builtin_prefetch(consumer->batch[i + PREFETCH]);

		if (rkmessage->err == RD_KAFKA_RESP_ERR_NO_ERROR &&
			(status = mr_consumer_find_status(consumer, rkmessage->partition)) != NULL)
		{
			MrContinuity *continuity = mr_consumer_continuity(consumer, status);

			consumer->heard = true;
			continuity->heard_at = now;
			fill_message(&msgs[taken], rkmessage);
			if (mr_continuity_is_plain(continuity, consumer->pauses) ||
				passes(consumer, status, &msgs[taken]))
			{
				hand_out(consumer, status, &msgs[taken++], rkmessage);
				continue;
			}
		}
		else if (rkmessage->err != RD_KAFKA_RESP_ERR_NO_ERROR)
			take_event(consumer, rkmessage);
		rd_kafka_message_destroy(rkmessage);
	}
	if (taken > 0)
		mr_trouble_end(consumer->trouble, true);
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
	now = mr_steady_time();
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
		MrPartitionStatus *status = mr_consumer_find_status(consumer, consumer->batch[i]->partition);
		MrContinuity *continuity;

		if (status == NULL || status->another ||
			consumer->batch[i]->err != RD_KAFKA_RESP_ERR_NO_ERROR)
			continue;
		continuity = mr_consumer_continuity(consumer, status);
		if (continuity->pauses == consumer->pauses)
			continue;
		now = now == 0 ? mr_steady_time() : now;
		if (mr_continuity_in_doubt(continuity, now))
		{
			mr_continuity_doubt(continuity);
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
			mr_consumer_resolve_doubts(consumer);
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
	MrErrorKind trouble = mr_trouble_kind(consumer->trouble);

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
		mr_trouble_end(consumer->trouble, false);
		mr_trouble_note(consumer->trouble, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, reason);
		return;
	}
	mr_trouble_end(consumer->trouble, false);
	consumer->heard = true;
}

static void
take_answer(MrConsumer *consumer)
{
	rd_kafka_resp_err_t err;

	if (!mr_client_answered(consumer->client, &err))
		return;
	if (consumer->asked == MR_ASKED_ENDS)
	{
		mr_stall_judge(consumer, err);
		return;
	}
	consumer->last_probe = mr_steady_time();
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		judge_topic(consumer, mr_client_partitions(consumer->client));
	else
		mr_trouble_note(consumer->trouble, err, mr_trouble_explain(consumer->trouble, err));
}

static void
probe(MrConsumer *consumer)
{
	take_answer(consumer);
	if (mr_client_asking(consumer->client))
		return;
	if (needs_probe(consumer) &&
		TimestampDifferenceExceeds(consumer->last_probe, mr_steady_time(), PROBE_INTERVAL_MS))
	{
		consumer->asked = MR_ASKED_TOPIC;
		mr_client_ask_async(consumer->client, mr_question_topic(consumer->topic), PROBE_TIMEOUT_MS);
	}
	else if (mr_stall_is_due(consumer))
	{
		consumer->asked = MR_ASKED_ENDS;
		mr_client_ask_async(consumer->client, mr_stall_question(consumer), PROBE_TIMEOUT_MS);
	}
}

/* for messages, with none in the queue; true: the latch was set */
static bool
await(MrConsumer *consumer, long timeout_ms)
{
	instr_time	began;
	bool		latch;

	INSTR_TIME_SET_CURRENT(began);
	latch = mr_client_wait(consumer->client, timeout_ms);
	mr_stall_waited(consumer, mr_ms_since(began));
	return latch;
}

int
mr_consumer_poll(MrConsumer *consumer, MrMessage *msgs, int max, int timeout_ms)
{
	TimestampTz end = timeout_ms > 0 ?
	TimestampTzPlusMilliseconds(mr_steady_time(), timeout_ms) : 0;
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
		remaining = TimestampDifferenceMilliseconds(mr_steady_time(), end);
		if (remaining <= 0)
			break;
		nudge(consumer, true);
		latch = await(consumer, Min(remaining, PROBE_INTERVAL_MS));
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

		if (i + PREFETCH < n)
			__builtin_prefetch(held_message(&msgs[i + PREFETCH]));
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

const MrPartitionStatus *
mr_consumer_status(MrConsumer *consumer, int *n)
{
	mr_consumer_refresh_positions(consumer);
	*n = consumer->nstatus;
	return consumer->status;
}

MrErrorKind
mr_consumer_error(MrConsumer *consumer, const char **message)
{
	MrErrorKind trouble = mr_trouble_kind(consumer->trouble);

	if (message == NULL)
		return trouble;
	if (consumer->error != NULL)
		pfree(consumer->error);
	consumer->error = NULL;
	if (trouble != MR_KAFKA_OK)
	{
		MemoryContext old = MemoryContextSwitchTo(consumer->cxt);

		consumer->error = mr_trouble_report(consumer->trouble);
		MemoryContextSwitchTo(old);
	}
	*message = consumer->error;
	return trouble;
}
