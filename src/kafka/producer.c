/*
 * kafka/producer.c
 *		A transactional producer.
 *
 * All of librdkafka's transaction calls can be resumed: one that times out goes on in the
 * background, and the same call again waits for the rest.  So they are called in short
 * slices, with a look at interrupts in between.
 *
 * Deliveries: the first failed one is remembered, and whatever is called next throws it.  A
 * transaction with a failed delivery cannot be committed in any case, librdkafka sees to
 * that.  Of the others the last offset of each partition is kept, to know when readers can
 * see them.
 *
 * A topic is looked up at the broker once per producer, before the first message is sent:
 * librdkafka would hold messages to a topic that does not exist for half a minute.
 *
 * Memory: the local queue holds up to 64 MB, or the largest message that the properties allow;
 * when it is full, sending waits.
 */
#include "postgres.h"

#include <limits.h>

#include "elapsed.h"
#include "kafka/producer_error.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Longest blocking call between two looks at interrupts. */
#define SLICE_MS			100

/* How long the broker may take to answer for a topic, and to give us a producer id. */
#define TOPIC_TIMEOUT_MS	10000
#define BEGIN_TIMEOUT_MS	15000

/* The latter while no broker can be reached at all: every address was tried by then. */
#define DOWN_TIMEOUT_MS		3000

/* How long the broker may take to acknowledge what will not be committed. */
#define SETTLE_TIMEOUT_MS	15000

/* An abort that takes longer is left to the broker. */
#define ABORT_TIMEOUT_MS	3000
#define ABORT_IN_TROUBLE_MS	300

/* How long a cancel waits for the broker's answer to a commit. */
#define DECISION_MS			3000

/* Grace after transaction.timeout.ms, within which librdkafka itself should give up. */
#define COMMIT_GRACE_MS		10000

/* How long committed messages are waited for to become visible, and how often asked for. */
#define VISIBLE_TIMEOUT_MS	3000
#define VISIBLE_WAIT_MS		2

/* What the local queue holds. */
#define QUEUE_KBYTES		65536

/* Events are looked at after so many messages, and this often when the queue is full. */
#define SERVE_EVERY			4096
#define QUEUE_FULL_WAIT_MS	5

/* ----------------------------------------------------------------
 * Life
 * ----------------------------------------------------------------
 */

static void
release_producer(void *arg)
{
	MrProducer *producer = arg;

	for (ProducerTopic *topic = producer->topics; topic != NULL; topic = topic->next)
		rd_kafka_topic_destroy(topic->rkt);

	/*
	 * what is still queued belongs to a transaction that will not be
	 * committed
	 */
	rd_kafka_purge(mr_client_handle(producer->client),
				   RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
				   RD_KAFKA_PURGE_F_NON_BLOCKING);
}

static void
note_success(ProducerTopic *topic, const rd_kafka_message_t *rkmessage)
{
	if (topic != NULL && rkmessage->partition < topic->partitions)
		topic->delivered[rkmessage->partition] =
			Max(topic->delivered[rkmessage->partition], rkmessage->offset);
}

/* Run by mr_client_serve: must not throw. */
static void
note_delivery(void *arg, const rd_kafka_message_t *rkmessage)
{
	MrProducer *producer = arg;

	if (rkmessage->err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		note_success(rkmessage->_private, rkmessage);
		return;
	}
	if (rkmessage->err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE && producer->ntoo_large < TOO_LARGE_MAX)
		producer->too_large[producer->ntoo_large++] = mr_fingerprint_delivered(rkmessage);
	/* messages that an abort has purged are no news */
	if (producer->failure != RD_KAFKA_RESP_ERR_NO_ERROR ||
		rkmessage->err == RD_KAFKA_RESP_ERR__PURGE_QUEUE ||
		rkmessage->err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT)
		return;
	producer->failure = rkmessage->err;
	producer->failed_size = rkmessage->len + rkmessage->key_len;
	strlcpy(producer->failed_topic, rd_kafka_topic_name(rkmessage->rkt),
			sizeof(producer->failed_topic));
	strlcpy(producer->failed_reason, rd_kafka_err2str(rkmessage->err),
			sizeof(producer->failed_reason));
}

/* kB for the local queue: one that is smaller than a message would never take it */
static char *
queue_size(List *props)
{
	long		kbytes = QUEUE_KBYTES;
	ListCell   *lc;

	foreach(lc, props)
	{
		const MrProperty *prop = lfirst(lc);

		if (strcmp(prop->name, "message.max.bytes") == 0)
			kbytes = Max(kbytes, atol(prop->value) / 1024 + 1);
	}
	return psprintf("%ld", kbytes);
}

MrProducer *
mr_producer_create(List *props, const char *transactional_id, int batch_size)
{
	const MrSetting defaults[] = {
		{"partitioner", "murmur2_random"},
		{"queue.buffering.max.kbytes", queue_size(props)},
		{"queue.buffering.max.messages", "250000"},
		{"linger.ms", "20"},
		{"transaction.timeout.ms", "60000"},
		{NULL, NULL}
	};
	const MrSetting owned[] = {
		{"transactional.id", transactional_id},
		{"enable.idempotence", "true"},
		{"batch.num.messages", batch_size == MR_BATCH_ALONE ? "1" : NULL},

		/*
		 * or what follows a batch that is refused fails for its sequence
		 * number
		 */
		{"max.in.flight.requests.per.connection", batch_size == MR_BATCH_ALONE ? "1" : NULL},
		{"batch.size", batch_size > MR_BATCH_ALONE ? psprintf("%d", batch_size) : NULL},
		{NULL, NULL}
	};
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace producer",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	MrProducer *producer = palloc0(sizeof(MrProducer));

	producer->cxt = producer->refused.cxt = cxt;
	producer->client = mr_client_create(RD_KAFKA_PRODUCER, props, defaults, owned,
										release_producer, producer, note_delivery);
	producer->trouble = mr_client_trouble(producer->client);
	MemoryContextSwitchTo(old);
	return producer;
}

void
mr_producer_destroy(MrProducer *producer)
{
	MemoryContextDelete(producer->cxt);
}

/* for partitions from .. on */
static void
forget_deliveries(ProducerTopic *topic, int from)
{
	for (int i = from; i < topic->partitions; i++)
		topic->delivered[i] = -1;
}

/* ----------------------------------------------------------------
 * Transactions
 * ----------------------------------------------------------------
 */

typedef rd_kafka_error_t *(*TransactionCall) (rd_kafka_t *rk, int timeout_ms);

/*
 * Between two calls.  Once the broker is asked to commit nobody knows whether it has, so whoever wants
 * to cancel that waits for the answer, unless it takes long.  *asked: when that was, 0: not yet.
 */
static void
pause_call(MrProducer *producer, TransactionCall call, int ms, TimestampTz *asked)
{
	TimestampTz now = mr_steady_time();
	bool		deciding = call == rd_kafka_commit_transaction &&
	(*asked != 0 || rd_kafka_outq_len(mr_client_handle(producer->client)) == 0);

	if (deciding && *asked == 0)
		*asked = now;
	deciding = deciding && !TimestampDifferenceExceeds(*asked, now, DECISION_MS);
	if (deciding)
		HOLD_INTERRUPTS();
	mr_client_pause(producer->client, ms);
	if (deciding)
		RESUME_INTERRUPTS();
}

/*
 * Call until it is through, or timeout_ms have passed, or it fails for good; down_ms is enough
 * while no broker can be reached.
 */
static void
complete(MrProducer *producer, TransactionCall call, const char *what, int timeout_ms, int down_ms)
{
	rd_kafka_t *rk = mr_client_handle(producer->client);
	TimestampTz start = mr_steady_time();
	TimestampTz asked = 0;

	for (;;)
	{
		rd_kafka_error_t *error = call(rk, SLICE_MS);
		bool		slow;

		if (error == NULL)
			return;
		if (!rd_kafka_error_is_retriable(error))
			mr_producer_throw_transaction_error(producer, what, error);
		slow = rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR__TIMED_OUT;
		rd_kafka_error_destroy(error);

		mr_client_serve(producer->client);
		mr_producer_check_login(producer, what);
		if (TimestampDifferenceExceeds(start, mr_steady_time(),
									   mr_trouble_is_down(producer->trouble) ? down_ms : timeout_ms))
			mr_producer_throw_timed_out(producer, what);
		pause_call(producer, call, slow ? 0 : SLICE_MS, &asked);
	}
}

void
mr_producer_init(MrProducer *producer)
{
	if (producer->initialized)
		return;
	complete(producer, rd_kafka_init_transactions, "begin", BEGIN_TIMEOUT_MS, DOWN_TIMEOUT_MS);
	mr_client_keep_latch(producer->client);
	producer->initialized = true;
}

void
mr_producer_begin(MrProducer *producer)
{
	rd_kafka_error_t *error;

	producer->failure = RD_KAFKA_RESP_ERR_NO_ERROR;
	producer->ntoo_large = 0;
	for (ProducerTopic *topic = producer->topics; topic != NULL; topic = topic->next)
		forget_deliveries(topic, 0);
	mr_producer_init(producer);
	error = rd_kafka_begin_transaction(mr_client_handle(producer->client));
	if (error != NULL)
		mr_producer_throw_transaction_error(producer, "begin", error);
	producer->in_transaction = true;
}

/* Can readers under read_committed see what was written to the topic, as far as can be found out? */
static bool
is_visible(MrProducer *producer, ProducerTopic *topic)
{
	int32	   *partitions = palloc_extended(topic->partitions * sizeof(int32), MCXT_ALLOC_NO_OOM);
	int			n = 0;
	bool		visible = true;

	if (partitions == NULL)
		return true;
	for (int32 i = 0; i < topic->partitions; i++)
		if (topic->delivered[i] >= 0)
			partitions[n++] = i;
	if (n > 0 &&
		mr_client_try_to_ask(producer->client,
							 mr_question_offsets(topic->name, partitions, n, RD_KAFKA_OFFSET_END),
							 VISIBLE_TIMEOUT_MS) == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		for (int i = 0; i < n; i++)
			visible = visible && mr_client_offset(producer->client, i) > topic->delivered[partitions[i]];
	}
	pfree(partitions);
	return visible;
}

/*
 * The broker acknowledges a commit before its markers are written, a few milliseconds later.
 * Who commits an INSERT and then reads should find his rows.  Transactions of others that
 * are open can keep them hidden for longer; that is not waited for.  Nothing may interrupt
 * this, nor fail, for want of a thread or a descriptor: the transaction is committed.
 */
static void
wait_until_visible(MrProducer *producer)
{
	TimestampTz end = TimestampTzPlusMilliseconds(mr_steady_time(), VISIBLE_TIMEOUT_MS);

	HOLD_INTERRUPTS();
	mr_client_serve(producer->client);
	for (ProducerTopic *topic = producer->topics; topic != NULL; topic = topic->next)
	{
		while (!is_visible(producer, topic) && mr_steady_time() < end)
			mr_client_rest(producer->client, VISIBLE_WAIT_MS);
	}
	RESUME_INTERRUPTS();
}

void
mr_producer_commit_unseen(MrProducer *producer)
{
	char	   *timeout = mr_client_property(producer->client, "transaction.timeout.ms");
	int			timeout_ms = timeout == NULL ? 60000 : atoi(timeout);

	mr_client_serve(producer->client);
	mr_producer_check_failure(producer);
	timeout_ms = timeout_ms > INT_MAX - COMMIT_GRACE_MS ? INT_MAX : timeout_ms + COMMIT_GRACE_MS;
	complete(producer, rd_kafka_commit_transaction, "commit", timeout_ms, timeout_ms);
	mr_client_keep_latch(producer->client);
	/* librdkafka would not have committed, but let nobody rely on it unseen */
	mr_producer_check_failure(producer);
	producer->in_transaction = false;
}

void
mr_producer_commit(MrProducer *producer)
{
	mr_producer_commit_unseen(producer);
	wait_until_visible(producer);
}

/*
 * Interrupts stay where they are: this is called when a transaction is being rolled back.  A call to
 * commit that was left is in conflict with an abort for ever.
 */
bool
mr_producer_abort(MrProducer *producer)
{
	TimestampTz start = mr_steady_time();

	while (producer->in_transaction && !producer->dead)
	{
		int			patience = mr_trouble_kind(producer->trouble) == MR_KAFKA_OK ?
		ABORT_TIMEOUT_MS : ABORT_IN_TROUBLE_MS;
		rd_kafka_error_t *error = rd_kafka_abort_transaction(mr_client_handle(producer->client),
															 SLICE_MS);

		if (error == NULL)
			producer->in_transaction = false;
		else if (!rd_kafka_error_is_retriable(error) ||
				 rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR__CONFLICT ||
				 TimestampDifferenceExceeds(start, mr_steady_time(), patience))
			producer->dead = true;
		if (error != NULL)
			rd_kafka_error_destroy(error);
	}
	return !producer->dead;
}

void
mr_producer_abort_or_throw(MrProducer *producer)
{
	if (!mr_producer_abort(producer))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
				 errmsg("could not abort a Kafka transaction")));
}

bool
mr_producer_is_fenced(const MrProducer *producer)
{
	char		reason[1];		/* which nobody wants */

	return rd_kafka_fatal_error(mr_client_handle(producer->client), reason, sizeof(reason)) == RD_KAFKA_RESP_ERR__FENCED;
}

bool
mr_producer_failed_for_size(MrProducer *producer)
{
	mr_client_serve(producer->client);
	return producer->failure == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
}

/* as long as the broker takes messages, however slowly */
bool
mr_producer_settle(MrProducer *producer)
{
	rd_kafka_t *rk = mr_client_handle(producer->client);
	TimestampTz end = TimestampTzPlusMilliseconds(mr_steady_time(), SETTLE_TIMEOUT_MS);
	int			queued = rd_kafka_outq_len(rk);
	bool		too_large;

	while (rd_kafka_flush(rk, SLICE_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (mr_producer_failed_for_size(producer))
			break;
		mr_producer_check_failure(producer);
		mr_producer_check_login(producer, "finish");
		if (rd_kafka_outq_len(rk) < queued)
			end = TimestampTzPlusMilliseconds(mr_steady_time(), SETTLE_TIMEOUT_MS);
		queued = rd_kafka_outq_len(rk);
		if (mr_steady_time() >= end)
			mr_producer_throw_timed_out(producer, "finish");
		mr_client_pause(producer->client, 0);
	}
	mr_client_keep_latch(producer->client);
	too_large = mr_producer_failed_for_size(producer);
	if (!too_large)
		mr_producer_check_failure(producer);
	return !too_large;
}

void
mr_producer_end_in_vain(MrProducer *producer)
{
	if (!mr_producer_settle(producer))
		mr_producer_check_failure(producer);	/* says which message it was */
	mr_producer_abort_or_throw(producer);
}

/* ----------------------------------------------------------------
 * Messages
 * ----------------------------------------------------------------
 */

int
mr_producer_ask_partitions(MrProducer *producer, const char *topic)
{
	rd_kafka_resp_err_t err = mr_client_ask(producer->client, mr_question_topic(topic),
											TOPIC_TIMEOUT_MS);

	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		ereport(ERROR,
				(errcode(mr_producer_sqlstate(err)),
				 errmsg("could not produce to topic \"%s\": %s", topic,
						mr_trouble_explain(producer->trouble, err)),
				 mr_trouble_hint(producer->trouble)));
	if (mr_client_partitions(producer->client) == 0)
		mr_producer_throw_no_topic(topic);
	return mr_client_partitions(producer->client);
}

static ProducerTopic *
add_topic(MrProducer *producer, const char *name)
{
	int			partitions = mr_producer_ask_partitions(producer, name);
	ProducerTopic *topic = MemoryContextAllocZero(producer->cxt, sizeof(ProducerTopic));

	topic->name = MemoryContextStrdup(producer->cxt, name);
	topic->partitions = partitions;
	topic->delivered = MemoryContextAlloc(producer->cxt, partitions * sizeof(int64));
	forget_deliveries(topic, 0);
	topic->rkt = rd_kafka_topic_new(mr_client_handle(producer->client), name, NULL);
	if (topic->rkt == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("could not produce to topic \"%s\": %s", name,
						rd_kafka_err2str(rd_kafka_last_error()))));
	topic->next = producer->topics;
	producer->topics = topic;
	return topic;
}

static ProducerTopic *
find_topic(MrProducer *producer, const char *name)
{
	for (ProducerTopic *topic = producer->topics; topic != NULL; topic = topic->next)
	{
		if (strcmp(topic->name, name) == 0)
			return topic;
	}
	return add_topic(producer, name);
}

/* Partitions may have been added since the topic was looked up. */
static void
check_partition(MrProducer *producer, ProducerTopic *topic, int32 partition)
{
	int			before = topic->partitions;

	if (partition < before)
		return;
	topic->partitions = mr_producer_ask_partitions(producer, topic->name);
	topic->delivered = repalloc(topic->delivered, Max(topic->partitions, before) * sizeof(int64));
	forget_deliveries(topic, before);
	if (partition >= topic->partitions)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("topic \"%s\" has no partition %d", topic->name, partition),
				 errdetail_plural("It has %d partition.", "It has %d partitions.",
								  topic->partitions, topic->partitions)));
}

static size_t
max_size(MrProducer *producer)
{
	char	   *value;

	if (producer->max_size > 0)
		return producer->max_size;
	value = mr_client_property(producer->client, "message.max.bytes");
	producer->max_size = value == NULL ? INT_MAX : strtoul(value, NULL, 10);
	return producer->max_size;
}

void
mr_producer_check(MrProducer *producer, const char *topic, const MrOutMessage *msg)
{
	check_partition(producer, find_topic(producer, topic), msg->partition);
	if (msg->key_len + msg->value_len > max_size(producer) || mr_fingerprints_has(&producer->refused, msg))
		mr_producer_throw_too_large(producer, topic, msg->key_len + msg->value_len);
}

static rd_kafka_headers_t *
build_headers(const MrOutMessage *msg)
{
	rd_kafka_headers_t *headers;

	if (msg->nheaders == 0)
		return NULL;
	headers = rd_kafka_headers_new(msg->nheaders);
	for (int i = 0; i < msg->nheaders; i++)
		rd_kafka_header_add(headers, msg->headers[i].name, -1, msg->headers[i].value, msg->headers[i].value_len);
	return headers;
}

/* librdkafka owns the headers when this returns no error */
static rd_kafka_resp_err_t
produce(MrProducer *producer, ProducerTopic *topic, const MrOutMessage *msg)
{
	rd_kafka_headers_t *headers = build_headers(msg);
	int32		partition = msg->partition < 0 ? RD_KAFKA_PARTITION_UA : msg->partition;
	rd_kafka_resp_err_t err;

	err = rd_kafka_producev(mr_client_handle(producer->client),
							RD_KAFKA_V_RKT(topic->rkt),
							RD_KAFKA_V_PARTITION(partition),
							RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
							RD_KAFKA_V_TIMESTAMP(msg->timestamp_ms),
							RD_KAFKA_V_KEY(msg->key, msg->key_len),
							RD_KAFKA_V_VALUE((void *) msg->value, msg->value_len),
							RD_KAFKA_V_HEADERS(headers),
							RD_KAFKA_V_OPAQUE(topic),
							RD_KAFKA_V_END);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR && headers != NULL)
		rd_kafka_headers_destroy(headers);
	return err;
}

rd_kafka_resp_err_t
mr_producer_hand_over(MrProducer *producer, const char *topic_name, const MrOutMessage *msg)
{
	ProducerTopic *topic = find_topic(producer, topic_name);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;
	bool		empty = false;

	check_partition(producer, topic, msg->partition);
	if (++producer->sent % SERVE_EVERY == 0)
	{
		CHECK_FOR_INTERRUPTS();
		mr_client_serve(producer->client);
	}
	while (producer->failure == RD_KAFKA_RESP_ERR_NO_ERROR &&
		   (err = produce(producer, topic, msg)) == RD_KAFKA_RESP_ERR__QUEUE_FULL)
	{
		if (empty)
			mr_producer_throw_never_fits(producer, topic_name, msg->key_len + msg->value_len);
		mr_client_pause(producer->client, QUEUE_FULL_WAIT_MS);
		mr_client_serve(producer->client);
		empty = rd_kafka_outq_len(mr_client_handle(producer->client)) == 0;
	}
	mr_client_keep_latch(producer->client);
	return producer->failure == RD_KAFKA_RESP_ERR_NO_ERROR ? err : producer->failure;
}

void
mr_producer_send(MrProducer *producer, const char *topic, const MrOutMessage *msg)
{
	rd_kafka_resp_err_t err = mr_producer_hand_over(producer, topic, msg);

	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		mr_producer_throw_send_error(producer, topic, err, msg);
}
