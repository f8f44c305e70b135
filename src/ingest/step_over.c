/*
 * step_over.c
 *		A transform into a stream: delivering a step, and not delivering it twice.
 *
 * Such a transform has a feed apart, which never becomes one with the live feed: its target
 * may be slow, and its steps wait for a broker.
 *
 * A step runs as any other; what the plan inserts is collected, and a part of it is taken
 * back when a message is refused.  Last of all, with the new offsets written but not
 * committed, it is delivered in one Kafka transaction, with the same offsets
 * (sink/stream_sink.c).  So this transaction waits for a broker, which others must not.  It
 * may: the rows depend on its snapshot, its commit must follow Kafka's at once, and nobody
 * else waits for it.  Its locks are the feed's, whose only worker this is, and those that a
 * reader of the same tables would have; the wait ends with an error when the broker does not
 * answer, and the next one comes after a pause without a transaction.
 *
 * When an attempt begins, the offsets that were delivered may be ahead of the feed's: the
 * server has crashed between the two commits, or has lost commits (they are asynchronous; a
 * standby that was behind was promoted).  The messages between the two are taken once more,
 * in steps that end there, and what they insert is produced for nobody to see.  That way their
 * dead letters and counters, which were lost, too, are written again.
 */
#include "millrace.h"

#include "failpoint.h"
#include "ingest/catchup.h"
#include "ingest/step_over.h"
#include "sink/stream_sink.h"
#include "stream/produce.h"

void
mr_step_over_open(MrIngest *ingest)
{
	const MrIngestView *view = linitial(ingest->views);

	mr_produce_restrict(InvalidOid, NULL);
	if (!ingest->feed->apart)
		return;
	Assert(list_length(ingest->views) == 1);
	ingest->sink = mr_stream_sink_create(view->view, ingest->feed, ingest->stream, view->owner);
}

void
mr_step_over_recover(MrIngest *ingest)
{
	MrPartitionOffset *offsets;
	int			n;

	if (ingest->sink == NULL)
		return;
	offsets = mr_stream_sink_recover(ingest->sink, &n);
	ingest->delivered = MemoryContextAllocZero(ingest->context, sizeof(MrFeedOffset) * (n + 1));
	ingest->ndelivered = 0;
	for (int i = 0; i < n; i++)
	{
		if (offsets[i].offset < 0)
			continue;
		ingest->delivered[ingest->ndelivered].partition = offsets[i].partition;
		ingest->delivered[ingest->ndelivered++].next_offset = offsets[i].offset;
	}
	pfree(offsets);
	MR_FAILPOINT("deliver-recovered");
}

/* are the delivered offsets ahead in some partition? */
static bool
is_behind(const MrIngest *ingest)
{
	for (int i = 0; i < ingest->ndelivered; i++)
	{
		const MrPosition *position = mr_offsets_find(ingest->offsets, ingest->delivered[i].partition);

		if (position != NULL && position->next_offset < ingest->delivered[i].next_offset)
			return true;
	}
	return false;
}

bool
mr_step_over_cut(MrIngest *ingest, MrMessage *messages, int *n)
{
	ingest->live = NULL;
	ingest->stepping_over = is_behind(ingest);
	if (!ingest->stepping_over)
		return false;
	ingest->live = ingest->delivered;
	ingest->nlive = ingest->ndelivered;
	(void) mr_catchup_cut(ingest, messages, n);
	return true;
}

void
mr_step_over_deliver(MrIngest *ingest)
{
	MrOffsets  *offsets = ingest->offsets;
	MrPartitionOffset *parts;

	if (ingest->sink == NULL)
		return;
	if (ingest->stepping_over)
	{
		mr_stream_sink_try(ingest->sink);
		return;
	}
	parts = palloc(sizeof(MrPartitionOffset) * (offsets->n + 1));
	for (int i = 0; i < offsets->n; i++)
	{
		parts[i].partition = offsets->positions[i].partition;
		parts[i].offset = offsets->positions[i].new_offset;
	}
	mr_stream_sink_deliver(ingest->sink, parts, offsets->n);
	MR_FAILPOINT("deliver-committed");
}

bool
mr_step_over_is_fenced(const MrIngest *ingest)
{
	return ingest->sink != NULL && mr_stream_sink_is_fenced(ingest->sink);
}
