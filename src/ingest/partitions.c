/*
 * ingest/partitions.c
 *		Which partitions the topic has by now, and reading those that are ours and new.
 *
 * A partition without an offset begins at its beginning: it was not there when the feed's
 * views were made.  It gets its offset when it is met, whatever becomes of the first step.  What a feed has missed
 * of one that was added meanwhile is a gap, which stops nothing.
 * A topic that is not there, or has too few partitions, is a trouble to show and to wait for, not an error.
 */
#include "millrace.h"

#include "elapsed.h"
#include "ingest/gap.h"
#include "ingest/partitions.h"
#include "ingest/slot.h"
#include "kafka/ask.h"
#include "kafka/assign.h"
#include "transaction.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define BROKER_TIMEOUT_MS	10000
#define FIRST_ANSWER_MS		2000	/* after which a silent broker is a
									 * trouble to show */
#define FEWER_MS			10000	/* until it is believed that partitions
									 * are gone: brokers learn of new ones one
									 * after the other */

static bool
lacks(const MrIngest *ingest, int n)
{
	MrOffsets  *offsets = ingest->offsets;

	for (int32 p = offsets->shard; p < n; p += offsets->nshards)
		if (!mr_offsets_find(offsets, p))
			return true;
	return false;
}

/* partitions before n that are ours and that we do not know */
static void
resolve_new(MrIngest *ingest, MrConsumer *consumer, int n)
{
	MrOffsets  *offsets = ingest->offsets;
	MemoryContext old = CurrentMemoryContext;

	if (!lacks(ingest, n))
		return;
	mr_start_transaction();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(ingest->context);
	mr_offsets_load_new(offsets);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	if (!lacks(ingest, n))
		return;

	/*
	 * the feed has changed just now, so it will be opened anew; or rows are
	 * gone
	 */
	for (int32 p = offsets->shard; p < n; p += offsets->nshards)
	{
		int64		low;
		int64		high;

		if (mr_offsets_find(offsets, p))
			continue;
		(void) mr_consumer_watermarks(consumer, &p, 1, &low, &high, BROKER_TIMEOUT_MS, false);
		MemoryContextSwitchTo(ingest->context);
		mr_offsets_add(offsets, p, low);
		MemoryContextSwitchTo(old);
	}
}

/* start reading our partitions that are new among those that there are */
static void
assign(MrIngest *ingest, MrConsumer *consumer, int from, int to)
{
	MrOffsets  *offsets = ingest->offsets;
	MrPartitionResume *parts = palloc(sizeof(MrPartitionResume) * (offsets->n + 1));
	int			n = 0;

	for (int i = 0; i < offsets->n; i++)
	{
		const MrPosition *position = &offsets->positions[i];

		if (position->partition < from || position->partition >= to)
			continue;
		parts[n].partition = position->partition;
		parts[n].offset = position->next_offset;
		parts[n++].last = position->last;
	}
	if (n > 0)
		mr_consumer_resume(consumer, parts, n);
	pfree(parts);
}

/*
 * Kafka never takes partitions away, so if some are missing for a while the topic is another
 * one.
 */
static MrPartitionsFound
note_missing(MrPartitions *partitions, MrWorkerSlot *slot, MrIngest *ingest,
			 MrConsumer *consumer, int n)
{
	mr_slot_set_state(slot, MR_WORKER_RETRYING,
					  psprintf("topic \"%s\" has only %d partitions, fewer than were read",
							   ingest->stream->topic, n));
	if (partitions->fewer_since == 0)
		partitions->fewer_since = partitions->looked_at;
	if (!TimestampDifferenceExceeds(partitions->fewer_since, partitions->looked_at, FEWER_MS))
		return MR_FOUND_TOO_FEW;
	if (mr_gap_check_cluster(ingest, consumer, n))
		mr_gap_fewer_partitions(ingest, consumer, n);
	return MR_FOUND_ANOTHER;
}

MrPartitionsFound
mr_partitions_find(MrPartitions *partitions, MrWorkerSlot *slot, MrIngest *ingest,
				   MrConsumer *consumer)
{
	const char *error;
	int			n = mr_consumer_partitions(consumer,
										   slot->state == MR_WORKER_RETRYING
										   ? BROKER_TIMEOUT_MS : FIRST_ANSWER_MS, true);

	partitions->looked_at = mr_steady_time();
	if (n <= 0)
	{
		if (n == 0)
			error = psprintf("topic \"%s\" does not exist", ingest->stream->topic);
		else
			(void) mr_consumer_error(consumer, &error);
		mr_slot_set_state(slot, MR_WORKER_RETRYING, error ? error : "the broker does not answer");
		return n == 0 ? MR_FOUND_TOO_FEW : MR_FOUND_NO_ANSWER;
	}
	if (mr_gap_misses_partitions(ingest, n))
		return note_missing(partitions, slot, ingest, consumer, n);
	partitions->fewer_since = 0;
	if (n > partitions->n)
	{
		if (!mr_gap_check_cluster(ingest, consumer, n))
			return MR_FOUND_ANOTHER;
		mr_gap_note_partitions(ingest, consumer, n);
		resolve_new(ingest, consumer, n);
		assign(ingest, consumer, partitions->n, n);
		partitions->n = n;
	}
	return MR_FOUND_ALL;
}
