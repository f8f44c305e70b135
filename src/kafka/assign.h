/*
 * kafka/assign.h
 *		Which partitions a consumer reads, and from where on.
 */
#ifndef MR_KAFKA_ASSIGN_H
#define MR_KAFKA_ASSIGN_H

#include "kafka/consumer.h"

/* Where to go on, and the message before, by which the log is recognized. */
typedef struct MrPartitionResume
{
	int32		partition;
	int64		offset;
	MrRecord	last;
} MrPartitionResume;

/*
 * Start reading these partitions at these offsets (exact, no fallback); replaces any
 * former assignment.  A partition can be moved to another offset by _seek.
 */
extern void mr_consumer_assign(MrConsumer *consumer, const MrPartitionOffset *parts, int n);
extern void mr_consumer_seek(MrConsumer *consumer, int32 partition, int64 offset);

/*
 * Start reading more partitions.  Where a last message is given, the log is read from there, and
 * nothing is handed out before it was seen again.  If it has become another one, status tells.
 * Later on _took says which message is the last: it is looked at again when messages come after
 * a pause.
 */
extern void mr_consumer_resume(MrConsumer *consumer, const MrPartitionResume *parts, int n);
extern void mr_consumer_took(MrConsumer *consumer, int32 partition, int64 next_offset,
							 const MrRecord *last);

#endif							/* MR_KAFKA_ASSIGN_H */
