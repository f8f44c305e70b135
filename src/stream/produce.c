/*
 * stream/produce.c
 *		Messages that the current transaction sends when it commits.
 *
 * Nothing is sent before: messages are kept in a spill (memory, then a temporary file), one
 * for each pair of server and user, and go out in one Kafka transaction when the
 * PostgreSQL transaction is about to commit.  The obvious alternative, sending each at
 * once within an open Kafka transaction, cannot take back what a savepoint or a PL/pgSQL
 * exception block rolls back, holds up all read_committed readers of the topic for as long
 * as the client idles, and is fenced by the broker's time-out.
 *
 * What is guaranteed.  If the broker does not acknowledge every message and the Kafka
 * transaction, COMMIT is an ERROR and readers with read_committed see nothing.  Both
 * commits are not one: when the server crashes between them, or another library's
 * pre-commit callback throws after ours, the messages are there and the rows of the
 * PostgreSQL transaction are not.  A serializable transaction is therefore checked for
 * conflicts before the Kafka commit.  With several servers, they are committed one after
 * the other, and an error at the second leaves the first committed.
 *
 * Memory: everything is in a context below TopTransactionContext.
 */
#include "millrace.h"

#include "failpoint.h"
#include "kafka/too_large.h"
#include "stream/produce.h"
#include "stream/producer_cache.h"
#include "stream/spill.h"

#include "access/xact.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/predicate.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/timeout.h"

/* Messages, and bytes, that are tried together when those are looked for that are too large. */
#define CHUNK_MESSAGES	64
#define CHUNK_BYTES		(1024 * 1024)

/* what goes to one server as one user */
typedef struct ProduceBuffer
{
	Oid			serverid;
	Oid			userid;
	MrSpill    *spill;
	int			ntargets;
	MrProduceTarget **targets;
} ProduceBuffer;

struct MrProduceTarget
{
	ProduceBuffer *buffer;
	int			index;			/* in its targets */
	char	   *topic;
	char	   *stream;			/* for messages */
};

/*
 * A message in a spill: this, then key, value, and for each header its name with the NUL
 * and its value, with a HeaderRecord before.  Lengths are -1 for null.
 */
typedef struct MessageRecord
{
	int32		target;
	int32		partition;
	int64		timestamp_ms;
	int32		key_len;
	int32		value_len;
	int32		nheaders;
	int32		headers_len;
} MessageRecord;

typedef struct HeaderRecord
{
	int32		name_len;		/* with the NUL */
	int32		value_len;
} HeaderRecord;

/* what is read back, and its memory */
typedef struct RecordReader
{
	StringInfoData body;
	MrHeader   *headers;
	int			headers_size;
} RecordReader;

/* of the current transaction: ProduceBuffer *; NIL between transactions */
static List *buffers = NIL;
static MemoryContext buffers_context = NULL;

/* in processes of ours */
static bool restricted = false;
static Oid	allowed = InvalidOid;
static MrProducer *sender = NULL;


/*
 * Collecting
 */

static ProduceBuffer *
get_buffer(Oid serverid, Oid userid)
{
	ProduceBuffer *buffer;
	ListCell   *lc;

	foreach(lc, buffers)
	{
		buffer = lfirst(lc);
		if (buffer->serverid == serverid && buffer->userid == userid)
			return buffer;
	}

	buffer = palloc0(sizeof(ProduceBuffer));
	buffer->serverid = serverid;
	buffer->userid = userid;
	buffer->spill = mr_spill_create();
	buffers = lappend(buffers, buffer);
	return buffer;
}

static MrProduceTarget *
get_target(ProduceBuffer *buffer, const MrStream *stream)
{
	MrProduceTarget *target;

	for (int i = 0; i < buffer->ntargets; i++)
	{
		if (strcmp(buffer->targets[i]->topic, stream->topic) == 0 &&
			strcmp(buffer->targets[i]->stream, stream->name) == 0)
			return buffer->targets[i];
	}

	target = palloc0(sizeof(MrProduceTarget));
	target->buffer = buffer;
	target->index = buffer->ntargets;
	target->topic = pstrdup(stream->topic);
	target->stream = pstrdup(stream->name);

	if (buffer->targets == NULL)
		buffer->targets = palloc(sizeof(MrProduceTarget *));
	else
		buffer->targets = repalloc(buffer->targets,
								   (buffer->ntargets + 1) * sizeof(MrProduceTarget *));
	buffer->targets[buffer->ntargets++] = target;
	return target;
}

void
mr_produce_restrict(Oid relid, MrProducer *producer)
{
	restricted = true;
	allowed = relid;
	sender = producer;
}

/* what a trigger would send at the commit would be neither exactly once nor anybody's fault */
static void
check_restricted(const MrStream *stream)
{
	if (restricted && stream->relid != allowed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot insert into stream %s while messages are taken in", stream->name),
				 errhint("Create a continuous transform into the stream.")));
}

MrProduceTarget *
mr_produce_target(const MrStream *stream, Oid userid)
{
	MemoryContext old;
	MrProduceTarget *target;

	check_restricted(stream);
	/* complain of missing options now, not at the commit */
	list_free(mr_server_properties(stream->serverid, userid));

	if (buffers_context == NULL)
		buffers_context = AllocSetContextCreate(TopTransactionContext, "millrace produce",
												ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(buffers_context);
	target = get_target(get_buffer(stream->serverid, userid), stream);
	MemoryContextSwitchTo(old);
	return target;
}

static size_t
headers_length(const MrOutMessage *msg)
{
	size_t		len = 0;

	for (int i = 0; i < msg->nheaders; i++)
		len += sizeof(HeaderRecord) + strlen(msg->headers[i].name) + 1 +
			(msg->headers[i].value == NULL ? 0 : msg->headers[i].value_len);
	return len;
}

static void
append_header(MrSpill *spill, const MrHeader *header)
{
	HeaderRecord record = {
		.name_len = strlen(header->name) + 1,
		.value_len = header->value == NULL ? -1 : (int32) header->value_len
	};

	mr_spill_append(spill, &record, sizeof(record));
	mr_spill_append(spill, header->name, record.name_len);
	if (record.value_len > 0)
		mr_spill_append(spill, header->value, record.value_len);
}

void
mr_produce_append(MrProduceTarget *target, const MrOutMessage *msg)
{
	ProduceBuffer *buffer = target->buffer;
	MessageRecord record = {
		.target = target->index,
		.partition = msg->partition,
		.timestamp_ms = msg->timestamp_ms,
		.key_len = msg->key == NULL ? -1 : (int32) msg->key_len,
		.value_len = msg->value == NULL ? -1 : (int32) msg->value_len,
		.nheaders = msg->nheaders,
		.headers_len = headers_length(msg)
	};

	if (sender != NULL)
		mr_producer_check(sender, target->topic, msg);
	mr_spill_begin_item(buffer->spill);
	mr_spill_append(buffer->spill, &record, sizeof(record));
	if (record.key_len > 0)
		mr_spill_append(buffer->spill, msg->key, record.key_len);
	if (record.value_len > 0)
		mr_spill_append(buffer->spill, msg->value, record.value_len);
	for (int i = 0; i < msg->nheaders; i++)
		append_header(buffer->spill, &msg->headers[i]);
}


/*
 * Sending
 */

/* Point reader->headers into the bytes at ptr. */
static void
parse_headers(RecordReader *reader, const char *ptr, int n)
{
	if (n > reader->headers_size)
	{
		if (reader->headers != NULL)
			pfree(reader->headers);
		reader->headers = palloc(n * sizeof(MrHeader));
		reader->headers_size = n;
	}
	for (int i = 0; i < n; i++)
	{
		HeaderRecord record;

		memcpy(&record, ptr, sizeof(record));
		ptr += sizeof(record);
		reader->headers[i].name = ptr;
		ptr += record.name_len;
		reader->headers[i].value = record.value_len < 0 ? NULL : ptr;
		reader->headers[i].value_len = Max(record.value_len, 0);
		ptr += Max(record.value_len, 0);
	}
}

/* The spill's next message, valid until the next call; returns its target's index. */
static int
read_message(MrSpill *spill, RecordReader *reader, MrOutMessage *msg)
{
	MessageRecord record;
	int			key_len;
	int			value_len;
	char	   *body;

	mr_spill_read(spill, &record, sizeof(record));
	key_len = Max(record.key_len, 0);
	value_len = Max(record.value_len, 0);

	resetStringInfo(&reader->body);
	enlargeStringInfo(&reader->body, key_len + value_len + record.headers_len);
	body = reader->body.data;
	mr_spill_read(spill, body, (size_t) key_len + value_len + record.headers_len);
	parse_headers(reader, body + key_len + value_len, record.nheaders);

	msg->partition = record.partition;
	msg->timestamp_ms = record.timestamp_ms;
	msg->key = record.key_len < 0 ? NULL : body;
	msg->key_len = key_len;
	msg->value = record.value_len < 0 ? NULL : body + key_len;
	msg->value_len = value_len;
	msg->headers = reader->headers;
	msg->nheaders = record.nheaders;
	return record.target;
}

static void
error_context(void *arg)
{
	const MrProduceTarget *target = *(MrProduceTarget **) arg;

	errcontext("sending to topic \"%s\" of stream %s", target->topic, target->stream);
}

/* All of a buffer's messages in a Kafka transaction, which is begun. */
static void
send_messages(ProduceBuffer *buffer, MrProducer *producer)
{
	uint64		left = mr_spill_length(buffer->spill);
	MrProduceTarget *target = buffer->targets[0];
	RecordReader reader = {0};
	ErrorContextCallback context = {
		.callback = error_context,
		.arg = &target,
		.previous = error_context_stack
	};

	error_context_stack = &context;
	initStringInfo(&reader.body);
	mr_producer_begin(producer);
	MR_FAILPOINT("produce-begun");
	mr_spill_rewind(buffer->spill);
	for (uint64 done = 0; done < left; done = mr_spill_position(buffer->spill))
	{
		MrOutMessage msg;

		target = buffer->targets[read_message(buffer->spill, &reader, &msg)];
		mr_producer_send(producer, target->topic, &msg);
	}
	MR_FAILPOINT("produce-sent");
	error_context_stack = context.previous;
}

static void
send_buffer(ProduceBuffer *buffer)
{
	MrProducer *producer;

	if (mr_spill_length(buffer->spill) > 0)
	{
		producer = mr_cached_producer(buffer->serverid, buffer->userid);
		PG_TRY();
		{
			send_messages(buffer, producer);

			/*
			 * what may fail in PostgreSQL should fail before Kafka has
			 * committed
			 */
			if (IsolationIsSerializable())
				PreCommit_CheckForSerializationFailure();
			mr_producer_commit(producer);
		}
		PG_CATCH();
		{
			(void) mr_producer_abort(producer);
			mr_cached_producer_drop(buffer->serverid, buffer->userid);
			PG_RE_THROW();
		}
		PG_END_TRY();
	}
	mr_spill_close(buffer->spill);
}

static bool
anything_to_send(void)
{
	ListCell   *lc;

	foreach(lc, buffers)
		if (mr_spill_length(((ProduceBuffer *) lfirst(lc))->spill) > 0)
		return true;
	return false;
}

/*
 * The server's own timer has ended when a statement commits, but this is where an INSERT may
 * wait.  So statement_timeout is for the commit, too, counted anew.  A cancel that comes when Kafka
 * has committed comes too late.
 */
static void
send_all(void)
{
	bool		any = anything_to_send();
	bool		timed = any && StatementTimeout > 0 && !get_timeout_active(STATEMENT_TIMEOUT);
	MemoryContext old = MemoryContextSwitchTo(buffers_context);
	ListCell   *lc;

	if (timed)
		enable_timeout_after(STATEMENT_TIMEOUT, StatementTimeout);
	foreach(lc, buffers)
		send_buffer(lfirst(lc));
	if (timed)
	{
		disable_timeout(STATEMENT_TIMEOUT, false);
		(void) get_timeout_indicator(STATEMENT_TIMEOUT, true);
	}
	if (any)
		QueryCancelPending = false;
	MemoryContextSwitchTo(old);
}

/* what is collected in a process of ours; NULL: nothing */
static ProduceBuffer *
only_buffer(void)
{
	ProduceBuffer *buffer = buffers == NIL ? NULL : linitial(buffers);

	Assert(list_length(buffers) <= 1);
	return buffer == NULL || mr_spill_length(buffer->spill) == 0 ? NULL : buffer;
}

/* what goes with the messages before their transaction commits */
typedef struct Companion
{
	void		(*send) (void *arg);
	void	   *arg;
} Companion;

static void
send_now(ProduceBuffer *buffer, MrProducer *producer, const Companion *with_them)
{
	send_messages(buffer, producer);
	with_them->send(with_them->arg);
	mr_producer_commit_unseen(producer);
	mr_spill_clear(buffer->spill);
}

static void
send_in_vain(ProduceBuffer *buffer, MrProducer *producer, const Companion *with_them)
{
	send_messages(buffer, producer);
	mr_producer_end_in_vain(producer);
	mr_spill_clear(buffer->spill);
}

/* some messages, with memory of their own */
typedef struct Chunk
{
	MrOutMessage messages[CHUNK_MESSAGES];
	const char *topics[CHUNK_MESSAGES];
	int			n;
} Chunk;

static void
read_chunk(ProduceBuffer *buffer, Chunk *chunk, uint64 end)
{
	size_t		size = 0;

	chunk->n = 0;
	while (chunk->n < CHUNK_MESSAGES && size < CHUNK_BYTES && mr_spill_position(buffer->spill) < end)
	{
		RecordReader reader = {0};
		MrOutMessage *msg = &chunk->messages[chunk->n];

		initStringInfo(&reader.body);
		chunk->topics[chunk->n++] = buffer->targets[read_message(buffer->spill, &reader, msg)]->topic;
		size += msg->key_len + msg->value_len;
	}
}

static void
survey(ProduceBuffer *buffer, MrProducer *producer, const Companion *with_them)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "millrace survey", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	uint64		end = mr_spill_length(buffer->spill);

	mr_spill_rewind(buffer->spill);
	while (mr_spill_position(buffer->spill) < end)
	{
		Chunk	   *chunk = palloc(sizeof(Chunk));

		read_chunk(buffer, chunk, end);
		mr_producer_survey(producer, chunk->topics, chunk->messages, chunk->n);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* whatever goes wrong, readers of the topic shall not wait for an open transaction */
static void
with_abort(void (*work) (ProduceBuffer *buffer, MrProducer *producer, const Companion *with_them),
		   MrProducer *producer, const Companion *with_them)
{
	ProduceBuffer *buffer = only_buffer();

	if (buffer == NULL)
		return;
	PG_TRY();
	{
		work(buffer, producer, with_them);
	}
	PG_CATCH();
	{
		(void) mr_producer_abort(producer);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

void
mr_produce_now(MrProducer *producer, void (*with_them) (void *arg), void *arg)
{
	const Companion companion = {with_them, arg};

	with_abort(send_now, producer, &companion);
}

void
mr_produce_in_vain(MrProducer *producer)
{
	with_abort(send_in_vain, producer, NULL);
}

void
mr_produce_survey(MrProducer *producer)
{
	with_abort(survey, producer, NULL);
}

static void
refuse_prepare(void)
{
	ListCell   *lc;

	foreach(lc, buffers)
	{
		ProduceBuffer *buffer = lfirst(lc);

		if (mr_spill_length(buffer->spill) > 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot prepare a transaction that has inserted into a stream")));
		mr_spill_close(buffer->spill);
	}
}


/*
 * Following transactions
 */

static void
xact_callback(XactEvent event, void *arg)
{
	if (buffers_context == NULL)
		return;

	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			send_all();
			break;
		case XACT_EVENT_PRE_PREPARE:
			refuse_prepare();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
			/* memory goes with the transaction, files with its resource owner */
			buffers = NIL;
			buffers_context = NULL;
			break;
		default:
			break;
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId mySubid,
				 SubTransactionId parentSubid, void *arg)
{
	ListCell   *lc;

	foreach(lc, buffers)
		mr_spill_end_subtransaction(((ProduceBuffer *) lfirst(lc))->spill, event);
}

void
mr_produce_init(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}
