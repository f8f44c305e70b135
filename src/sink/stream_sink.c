/*
 * stream_sink.c
 *		A stream as the sink of a transform: what is produced, and the position that is
 *		committed with it.
 *
 * PostgreSQL and Kafka do not commit together.  So the position is kept in both: in
 * millrace.feed_offset as every feed's, and as a group's offsets that are part of the Kafka
 * transaction with the messages.  Kafka commits first.  Whatever happens between the two, the
 * group's offsets tell what has been produced, and the worker that comes after steps over it
 * (ingest/step_over.c).  To readers under read_committed each message is there exactly once.
 *
 * The producer's transactional id belongs to the transform, in this database of this cluster,
 * and to its one worker: initializing it ends what a killed worker has left, before the
 * group's offsets are read, so nobody can commit after that but us.
 *
 * The group has the same name and a number: that of the log which the offsets belong to.
 * When the source's log has become another (a topic that was created again, an end that was
 * cut off), offsets of the former one mean nothing, and the number changes with the
 * position, in PostgreSQL.  A token of the transform's own is part of both names: a cluster
 * that was set back in time may give its OID to another one.
 *
 * The offsets are the source's, kept by the cluster that is produced to: so both streams must
 * be of one server.
 *
 * Messages that are larger than the topic allows: librdkafka does not know that limit, and the
 * broker refuses a batch as a whole, by its compressed size.  A refused batch ends the
 * transaction.  From the next attempt on each message goes alone for a while, first in transactions
 * that are aborted, so that refusals tell which ones they are; when there are some, they are errors of
 * their rows in the attempt after that, and so dead letters.  Later batches are smaller, in case
 * that they were nothing but too many.
 *
 * What a server that was set back steps over might contain such messages, too.  It produces
 * them in transactions that are aborted, to find the same dead letters.
 */
#include "millrace.h"

#include "access/xlog.h"
#include "failpoint.h"
#include "kafka/group_offsets.h"
#include "kafka/too_large.h"
#include "miscadmin.h"
#include "sink/stream_sink.h"
#include "stream/produce.h"
#include "utils/memutils.h"

#define BATCH_SIZE	1000000		/* librdkafka's default */
#define BATCH_SIZE_MIN	16384

struct MrStreamSink
{
	MrProducer *producer;
	char	   *group;
	char	   *topic;			/* the source's */
};

/* what the broker has refused as too large; a process has one sink at a time, for one transform */
typedef struct TooLarge
{
	bool		alone;			/* each message is a batch */
	int			batch_size;		/* of later batches; 0: as the user says */
	bool		learned;		/* since somebody asked */
	uint64	   *fingerprints;	/* of messages of the step at hand; in
								 * TopMemoryContext */
	int			n;
} TooLarge;

static TooLarge too_large;

/* a position to go with what is produced */
typedef struct Position
{
	MrStreamSink *sink;
	const MrPartitionOffset *offsets;
	int			n;
} Position;

MrStreamSink *
mr_stream_sink_create(const MrView *view, const MrFeed *feed, const MrStream *source, Oid owner)
{
	MrStreamSink *sink = palloc0(sizeof(MrStreamSink));
	MrStream   *target = mr_stream_get(view->sink);
	char	   *id = psprintf("millrace-" UINT64_FORMAT "-%u-transform-%u-%016llx", GetSystemIdentifier(),
							  MyDatabaseId, view->view, (unsigned long long) view->token);

	sink->topic = source->topic;
	sink->group = psprintf("%s-%d", id, feed->log);
	sink->producer = mr_producer_create(mr_server_properties(target->serverid, owner), id,
										too_large.alone ? MR_BATCH_ALONE : too_large.batch_size);
	mr_producer_refuse(sink->producer, too_large.fingerprints, too_large.n);
	mr_produce_restrict(target->relid, sink->producer);
	return sink;
}

MrPartitionOffset *
mr_stream_sink_recover(MrStreamSink *sink, int *n)
{
	mr_producer_init(sink->producer);
	return mr_producer_group_offsets(sink->producer, sink->group, sink->topic, n);
}

bool
mr_stream_sink_is_fenced(const MrStreamSink *sink)
{
	return mr_producer_is_fenced(sink->producer);
}

static void
send_position(void *arg)
{
	const Position *position = arg;

	mr_producer_send_offsets(position->sink->producer, position->sink->group, position->sink->topic,
							 position->offsets, position->n);
	MR_FAILPOINT("deliver-sent");
}

/* ---------- messages that are too large ---------- */

/* after an error of the producer's: was it that? */
static void
learn(const MrStreamSink *sink)
{
	if (!mr_producer_met_too_large(sink->producer))
		return;
	if (!too_large.alone)
		too_large.batch_size = Max((too_large.batch_size > 0 ? too_large.batch_size : BATCH_SIZE) / 4, BATCH_SIZE_MIN);
	too_large.alone = too_large.learned = true;
}

static void
remember(const uint64 *fingerprints, int n)
{
	if (too_large.fingerprints != NULL)
		pfree(too_large.fingerprints);
	too_large.fingerprints = NULL;
	too_large.n = 0;
	if (n == 0)
		return;
	too_large.fingerprints = MemoryContextAllocHuge(TopMemoryContext, sizeof(uint64) * n);
	memcpy(too_large.fingerprints, fingerprints, sizeof(uint64) * n);
	too_large.n = n;
}

/* before a step's messages go: those that are too large become errors of their rows, in the next attempt */
static void
look_for_too_large(MrStreamSink *sink)
{
	int			n;
	const uint64 *fingerprints;
	int			known = too_large.n;

	if (!too_large.alone)
		return;
	mr_produce_survey(sink->producer);
	fingerprints = mr_producer_refused(sink->producer, &n);
	if (n == known)
		return;
	remember(fingerprints, n);
	too_large.learned = true;
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg_plural("%d message is too large for the topic", "%d messages are too large for the topic", n, n)));
}

bool
mr_stream_sink_learned(void)
{
	bool		result = too_large.learned;

	too_large.learned = false;
	return result;
}

bool
mr_stream_sink_knows(void)
{
	return too_large.alone;
}

void
mr_stream_sink_forget(void)
{
	too_large.alone = false;
}

/* ---------- delivering ---------- */

/* position: what commits with the messages; NULL: nobody is to see them */
static void
produce(MrStreamSink *sink, Position *position)
{
	look_for_too_large(sink);
	PG_TRY();
	{
		if (position != NULL)
			mr_produce_now(sink->producer, send_position, position);
		else
			mr_produce_in_vain(sink->producer);
	}
	PG_CATCH();
	{
		learn(sink);
		PG_RE_THROW();
	}
	PG_END_TRY();
	remember(NULL, 0);
}

void
mr_stream_sink_deliver(MrStreamSink *sink, const MrPartitionOffset *offsets, int n)
{
	Position	position = {sink, offsets, n};

	produce(sink, &position);
}

void
mr_stream_sink_try(MrStreamSink *sink)
{
	produce(sink, NULL);
}
