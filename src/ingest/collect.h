/*
 * ingest/collect.h
 *		Filling the batch: the messages that a worker has in hand.
 */
#ifndef MR_INGEST_COLLECT_H
#define MR_INGEST_COLLECT_H

#include "ingest/step.h"
#include "utils/timestamp.h"

/* A worker's; begins as zeros.  Others read it, and write it by the functions below. */
typedef struct MrCollector
{
	/* from _open to _close */
	MrConsumer *consumer;
	MemoryContext context;		/* of messages */
	MrMessage  *messages;		/* in hand */
	int			nmessages;
	int			capacity;
	Size		memory;			/* held by messages, roughly */
	int			portion;		/* messages to have in hand at most */
	int64		taken;			/* messages that the step at hand was given */
	/* the last step, whichever consumer its messages came from */
	TimestampTz last_commit;
	double		last_step_ms;
	int64		last_step_messages;
} MrCollector;

/* A consumer is there; it is about to be thrown away, with whatever of it is in hand. */
extern void mr_collect_open(MrCollector *collector, MrConsumer *consumer, MemoryContext context);
extern void mr_collect_close(MrCollector *collector);

/*
 * Fill the batch, with no more than portion messages in hand at a time; returns with none when
 * there was none for wait_ms or the latch was set.  No transaction may be open.
 */
extern void mr_collect(MrCollector *collector, int portion, long wait_ms);

/* give the messages in hand back */
extern void mr_collect_release(MrCollector *collector);

/*
 * A step begins with the messages in hand: where it gets further ones, which then are those in
 * hand.
 */
extern MrStepSource mr_collect_source(MrCollector *collector);

/*
 * Where the consumer stands, control records and aborted messages passed included; in the
 * current context.
 */
extern const MrPartitionOffset *mr_collect_ends(MrCollector *collector, int *n);

/* a step was committed, after so many ms, which tell when the next one is due */
extern void mr_collect_committed(MrCollector *collector, int64 nmessages, double ms);

#endif							/* MR_INGEST_COLLECT_H */
