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
 */
#include "millrace.h"

#include "access/xlog.h"
#include "failpoint.h"
#include "kafka/producer.h"
#include "miscadmin.h"
#include "sink/stream_sink.h"
#include "stream/produce.h"

struct MrStreamSink
{
	MrProducer *producer;
	char	   *group;
	char	   *topic;			/* the source's */
};

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
	sink->producer = mr_producer_create(mr_server_properties(target->serverid, owner), id);
	mr_produce_restrict(target->relid, sink->producer);
	return sink;
}

MrPartitionOffset *
mr_stream_sink_recover(MrStreamSink *sink, int *n)
{
	mr_producer_init(sink->producer);
	return mr_producer_group_offsets(sink->producer, sink->group, sink->topic, n);
}

static void
send_position(void *arg)
{
	const Position *position = arg;

	mr_producer_send_offsets(position->sink->producer, position->sink->group, position->sink->topic,
							 position->offsets, position->n);
	MR_FAILPOINT("deliver-sent");
}

void
mr_stream_sink_deliver(MrStreamSink *sink, const MrPartitionOffset *offsets, int n)
{
	Position	position = {sink, offsets, n};

	(void) mr_produce_now(sink->producer, send_position, &position);
}
