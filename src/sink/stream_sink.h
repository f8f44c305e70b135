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

/*
 * The same place of a step whose messages have been produced already: only find out whether the
 * broker would take them, by producing them in a transaction that is aborted.
 */
extern void mr_stream_sink_try(MrStreamSink *sink);

/* after an ERROR: has somebody else begun to produce for the same transform? */
extern bool mr_stream_sink_is_fenced(const MrStreamSink *sink);

/*
 * Messages that are larger than the topic allows.  _learned: after an ERROR, and once: is more known of
 * which they are?  Then the next attempt is to be made at once, with careful steps.  _knows: each
 * message goes alone, so steps are to be of few of them.  _forget: from the next sink on no longer.
 */
extern bool mr_stream_sink_learned(void);
extern bool mr_stream_sink_knows(void);
extern void mr_stream_sink_forget(void);

#endif							/* MR_SINK_STREAM_SINK_H */
