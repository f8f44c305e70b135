/*
 * gap.c
 *		Offsets that the broker does not have: what becomes of a stream then.
 *
 * The consumer is told to start exactly where the catalog says and nowhere else, so a
 * missing offset is never skipped by itself.  What is skipped in the end (on_gap) is
 * recorded in the transaction that moves the offset.
 */
#include "millrace.h"

#include "access/xact.h"
#include "ingest/dead_letter.h"
#include "ingest/gap.h"
#include "shmem.h"
#include "utils/snapmgr.h"

#define BROKER_TIMEOUT_MS	10000

static const char *
gap_reason(int64 next, int64 low)
{
	if (next < low)
		return "the broker has deleted these messages (retention)";
	return "the topic ends before this offset: it was truncated or created again";
}

static void
record_gap(MrIngest *ingest, MrPosition *position, int64 go_on, const char *reason)
{
	MrStream   *stream = ingest->stream;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	mr_offsets_reset(ingest->offsets);
	if (mr_offsets_lock_feed(ingest->offsets) && mr_offsets_lock(ingest->offsets))
	{
		mr_gap_insert(stream->relid, position->partition, position->next_offset, go_on, reason,
					  stream->on_gap != MR_ON_GAP_STOP);
		if (stream->on_gap == MR_ON_GAP_STOP)
		{
			mr_catalog_stop_feed(ingest->feed,
								 psprintf("partition %d: offset %lld is not available: %s",
										  position->partition,
										  (long long) position->next_offset, reason));
			mr_catalog_changed();
		}
		else
		{
			position->new_offset = go_on;
			mr_offsets_store(ingest->offsets);
		}
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	ConditionVariableBroadcast(mr_shmem_progress(stream->relid));
}

bool
mr_gap_check(MrIngest *ingest, MrConsumer *consumer)
{
	int			n;
	const MrPartitionStatus *status = mr_consumer_status(consumer, &n);

	for (int i = 0; i < n; i++)
	{
		int32		partition = status[i].partition;
		MrPosition *position;
		int64		low;
		int64		high;

		if (!status[i].out_of_range)
			continue;
		position = mr_offsets_find(ingest->offsets, partition);
		(void) mr_consumer_watermarks(consumer, &partition, 1, &low, &high, BROKER_TIMEOUT_MS, false);
		if (position->next_offset >= low && position->next_offset <= high)
			return false;
		record_gap(ingest, position,
				   ingest->stream->on_gap == MR_ON_GAP_LATEST ? high : low,
				   gap_reason(position->next_offset, low));
		return false;
	}
	return true;
}
