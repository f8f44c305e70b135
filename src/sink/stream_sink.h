/*
 * sink/stream_sink.h
 *		A stream as the sink of a transform: what is produced, and the position that is
 *		committed with it.
 */
#ifndef MR_SINK_STREAM_SINK_H
#define MR_SINK_STREAM_SINK_H

#include "catalog_view.h"
#include "kafka/consumer.h"
#include "stream/option.h"

typedef struct MrStreamSink MrStreamSink;

/*
 * In the current memory context and transaction; does not wait.  feed: the transform's own;
 * owner: who produces.  From here on this process may insert into the target stream, as long
 * as the memory context lives.
 */
extern MrStreamSink *mr_stream_sink_create(const MrView *view, const MrFeed *feed,
										   const MrStream *source, Oid owner);

/*
 * Not in a transaction: end what a former process has begun, for good, and find out up to where
 * the messages of the source have been produced, by partition; offset -1: nothing is known.
 * Waits for the broker; ERROR when it does not answer.
 */
extern MrPartitionOffset *mr_stream_sink_recover(MrStreamSink *sink, int *n);

/*
 * In the step's transaction, last of all: produce what was inserted, together with the
 * position, in one Kafka transaction, which is committed when this returns.  Does nothing
 * when nothing was inserted.
 */
extern void mr_stream_sink_deliver(MrStreamSink *sink, const MrPartitionOffset *offsets, int n);

#endif							/* MR_SINK_STREAM_SINK_H */
