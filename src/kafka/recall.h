/*
 * kafka/recall.h
 *		Reading messages once more, to recognize the log.
 */
#ifndef MR_KAFKA_RECALL_H
#define MR_KAFKA_RECALL_H

#include "kafka/consumer.h"

/* What is found of a message that was taken before. */
typedef enum MrRecall
{
	MR_RECALLED,				/* it is there */
	MR_RECALLED_ANOTHER,		/* another one is in its place */
	MR_RECALLED_NOTHING			/* nothing is: removed, which proves nothing */
} MrRecall;

/* Look for a message taken before.  Throws when the broker does not answer in time. */
extern MrRecall mr_consumer_recall(MrConsumer *consumer, int32 partition,
								   const MrRecord *record, int timeout_ms);

/* look at the last messages of all partitions again, and throws likewise; status tells */
extern void mr_consumer_doubt(MrConsumer *consumer);

/*
 * Would mr_consumer_poll have to look at a last message again now, and so wait for the broker?
 * Not in a partition that has no messages, as far as is known.
 */
extern bool mr_consumer_may_doubt(MrConsumer *consumer);

#endif							/* MR_KAFKA_RECALL_H */
