/*
 * kafka/recall.c
 *		Reading messages once more, to recognize the log; see continuity.c for why.
 *
 * It is a second consumer of the same topic that reads them, the recaller: made when it is
 * needed first, without partitions until the next time, and gone with the consumer, in whose
 * memory context it lives.  The first one goes on fetching meanwhile.
 */
#include "postgres.h"

#include "elapsed.h"
#include "kafka/ask.h"
#include "kafka/assign.h"
#include "kafka/consumer_internal.h"
#include "kafka/recall.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* How long the broker may take to show the messages again that are in doubt. */
#define RECALL_TIMEOUT_MS	10000

static MrConsumer *
recaller_of(MrConsumer *consumer)
{
	if (consumer->recaller == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(consumer->cxt);

		consumer->recaller = mr_consumer_create_recaller(consumer);
		MemoryContextSwitchTo(old);
	}
	return consumer->recaller;
}

static bool
is_recalling(const MrConsumer *recaller)
{
	for (int i = 0; i < recaller->nstatus; i++)
		if (recaller->continuity[i].state == MR_RECALL_BEGUN &&
			!recaller->status[i].another && !recaller->status[i].out_of_range)
			return true;
	return false;
}

/* Look for the last messages of parts; the results are in the recaller until the next time. */
static MrConsumer *
recall(MrConsumer *consumer, const MrPartitionResume *parts, int n, int timeout_ms)
{
	MrConsumer *recaller = recaller_of(consumer);
	TimestampTz end = TimestampTzPlusMilliseconds(mr_steady_time(), timeout_ms);
	MrMessage	msgs[16];

	mr_consumer_assign(recaller, NULL, 0);
	mr_consumer_resume(recaller, parts, n);
	while (is_recalling(recaller))
	{
		long		remaining = TimestampDifferenceMilliseconds(mr_steady_time(), end);

		if (remaining <= 0 || mr_trouble_kind(recaller->trouble) == MR_KAFKA_AUTH)
			mr_consumer_throw_no_answer(recaller, RD_KAFKA_RESP_ERR__TIMED_OUT);
		mr_consumer_release(recaller, msgs,
							mr_consumer_poll(recaller, msgs, lengthof(msgs), (int) remaining));
	}
	/* it may have consumed the event; looking once more does no harm */
	SetLatch(MyLatch);
	return recaller;
}

static MrRecall
recall_result(MrConsumer *recaller, int32 partition)
{
	const MrPartitionStatus *status = mr_consumer_find_status(recaller, partition);

	if (status->another)
		return MR_RECALLED_ANOTHER;
	return mr_consumer_continuity(recaller, status)->met ? MR_RECALLED : MR_RECALLED_NOTHING;
}

/* No more fetches until the next time. */
static void
rest(MrConsumer *recaller)
{
	rd_kafka_assign(mr_client_handle(recaller->client), NULL);
}

static void
take_results(MrConsumer *consumer, MrConsumer *recaller)
{
	TimestampTz now = mr_steady_time();

	for (int i = 0; i < consumer->nstatus; i++)
	{
		MrContinuity *continuity = &consumer->continuity[i];

		if (continuity->state != MR_RECALL_WANTED)
			continue;
		mr_continuity_confirm(continuity, now);
		if (recall_result(recaller, consumer->status[i].partition) != MR_RECALLED_ANOTHER)
			continue;
		/* no message of it is plain any more */
		continuity->state = MR_RECALL_BEGUN;
		consumer->status[i].another = true;
		consumer->events++;
	}
}

void
mr_consumer_resolve_doubts(MrConsumer *consumer)
{
	MrPartitionResume *parts = palloc(sizeof(MrPartitionResume) * (consumer->nstatus + 1));
	MrConsumer *recaller;
	int			n = 0;

	for (int i = 0; i < consumer->nstatus; i++)
	{
		const MrContinuity *continuity = &consumer->continuity[i];

		if (continuity->state != MR_RECALL_WANTED)
			continue;
		parts[n].partition = consumer->status[i].partition;
		parts[n].offset = continuity->end;
		parts[n++].last = continuity->last;
	}
	if (n > 0)
	{
		recaller = recall(consumer, parts, n, RECALL_TIMEOUT_MS);
		take_results(consumer, recaller);
		rest(recaller);
	}
	pfree(parts);
}

void
mr_consumer_doubt(MrConsumer *consumer)
{
	for (int i = 0; i < consumer->nstatus; i++)
	{
		MrContinuity *continuity = &consumer->continuity[i];

		if (mr_continuity_may_doubt(continuity) &&
			!consumer->status[i].another && !consumer->status[i].out_of_range)
			mr_continuity_doubt(continuity);
	}
	mr_consumer_resolve_doubts(consumer);
}

bool
mr_consumer_may_doubt(MrConsumer *consumer)
{
	TimestampTz now = mr_steady_time();

	for (int i = 0; i < consumer->nstatus; i++)
	{
		const MrContinuity *continuity = &consumer->continuity[i];
		int64		low;
		int64		high;

		if (continuity->pauses == consumer->pauses || consumer->status[i].another ||
			!mr_continuity_in_doubt(continuity, now))
			continue;
		mr_consumer_cached_watermarks(consumer, consumer->status[i].partition, &low, &high);
		if (high > consumer->status[i].position)
			return true;
	}
	return false;
}

MrRecall
mr_consumer_recall(MrConsumer *consumer, int32 partition, const MrRecord *record, int timeout_ms)
{
	MrPartitionResume part = {partition, record->offset + 1, *record};
	MrConsumer *recaller = recall(consumer, &part, 1, timeout_ms);
	MrRecall	result = recall_result(recaller, partition);

	rest(recaller);
	return result;
}
