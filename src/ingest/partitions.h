/*
 * ingest/partitions.h
 *		Which partitions the topic has by now, and reading those that are ours and new.
 */
#ifndef MR_INGEST_PARTITIONS_H
#define MR_INGEST_PARTITIONS_H

#include "ingest/step.h"
#include "shmem.h"

/* What a worker knows of its topic's partitions; n and fewer_since begin with a consumer, at 0. */
typedef struct MrPartitions
{
	int			n;				/* before it, ours are read */
	TimestampTz looked_at;		/* when they were looked for */
	TimestampTz fewer_since;	/* when there were fewer for the first time;
								 * 0: there are not */
} MrPartitions;

/* what a look for partitions found */
typedef enum MrPartitionsFound
{
	MR_FOUND_ALL,
	MR_FOUND_NO_ANSWER,
	MR_FOUND_TOO_FEW,			/* no such topic, or without partitions that
								 * were read */
	MR_FOUND_ANOTHER			/* the topic is another one: open anew */
} MrPartitionsFound;

/* look for partitions, and read those that are new; troubles are shown in the slot */
extern MrPartitionsFound mr_partitions_find(MrPartitions *partitions, MrWorkerSlot *slot,
											MrIngest *ingest, MrConsumer *consumer);

#endif							/* MR_INGEST_PARTITIONS_H */
