/*
 * collect.c
 *		The messages that a worker has in hand: polled from the consumer until a step is due.
 *
 * When to commit: a stream that was idle commits its first message at once.  While
 * messages keep coming, a batch is closed when the time since the last commit is a few
 * times what the last step took (so light streams are fresh and heavy ones efficient), at
 * the latest after millrace.commit_interval.  Where the broker is known to hold much more
 * than what was collected, freshness does not matter, and the batch grows up to
 * millrace.batch_messages or millrace.batch_memory.
 *
 * Such a batch is not in hand all at once: a step begins with one portion, and asks here for
 * the next when it has decoded that.  It must not wait for the broker meanwhile, since its
 * transaction is open.
 *
 * Memory: the array of messages is the attempt's; what they point to is the consumer's until
 * they are released.
 */
#include "millrace.h"

#include <math.h>

#include "elapsed.h"
#include "ingest/collect.h"
#include "ingest/session.h"
#include "kafka/ask.h"
#include "kafka/recall.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#define POLL_CHUNK			10000	/* messages per call of the consumer */
#define PACE				4	/* commit when waiting took this many steps */
#define STEP_FIXED_MS		5	/* so much of a step's time, at most, does not
								 * depend on how many messages it takes */
#define BACKLOG_FACTOR		20	/* a backlog may stretch commit_interval that
								 * far */

void
mr_collect_open(MrCollector *collector, MrConsumer *consumer, MemoryContext context)
{
	collector->consumer = consumer;
	collector->context = context;
}

void
mr_collect_close(MrCollector *collector)
{
	collector->consumer = NULL;
	collector->context = NULL;
	collector->messages = NULL;
	collector->nmessages = 0;
	collector->memory = 0;
	collector->capacity = 0;
}

/* ---------- how much, and for how long ---------- */

/* does the broker hold much more than what was collected? */
static bool
has_backlog(MrCollector *collector)
{
	int			n;
	const MrPartitionStatus *status = mr_consumer_status(collector->consumer, &n);
	int64		behind = 0;

	for (int i = 0; i < n; i++)
	{
		int64		low;
		int64		high;

		mr_consumer_cached_watermarks(collector->consumer, status[i].partition, &low, &high);
		if (high > status[i].position)
			behind += high - status[i].position;
	}
	return behind > collector->nmessages;
}

/* messages that may be in hand: a portion, or what the step may take besides former ones */
static int
most_in_hand(const MrCollector *collector)
{
	return (int) Max(Min(mr_batch_messages - collector->taken, collector->portion), 0);
}

/* enough messages in hand to begin a step; it takes more if there are more */
static bool
portion_full(const MrCollector *collector)
{
	return collector->nmessages >= most_in_hand(collector) ||
		collector->memory >= (Size) mr_batch_memory * 1024 / 4;
}

/*
 * What a step with the messages in hand should take, judging by the last one.  That one may
 * have been many times as large, at the end of a backlog for one.
 */
static double
expected_step_ms(const MrCollector *collector)
{
	double		share = Min((double) collector->nmessages / Max(collector->last_step_messages, 1), 1);

	return Max(collector->last_step_ms * share, Min(collector->last_step_ms, STEP_FIXED_MS));
}

/* ms until the batch should be closed; 0: now */
static long
time_left(MrCollector *collector, bool queue_empty)
{
	double		pace = Min((double) mr_commit_interval, PACE * expected_step_ms(collector));
	long		elapsed = (long) TimestampDifferenceMilliseconds(collector->last_commit, mr_steady_time());
	long		left = (long) pace - elapsed;

	if (portion_full(collector))
		return 0;
	if (left <= 0 && !queue_empty && elapsed < (long) mr_commit_interval * BACKLOG_FACTOR && has_backlog(collector))
		return 1;
	return Max(left, 0);
}

/* ---------- collecting ---------- */

static void
make_room(MrCollector *collector, int n)
{
	if (collector->nmessages + n <= collector->capacity)
		return;
	collector->capacity = Max(collector->capacity * 2, collector->nmessages + n);
	collector->messages = collector->messages == NULL
		? MemoryContextAllocHuge(collector->context, sizeof(MrMessage) * collector->capacity)
		: repalloc_huge(collector->messages, sizeof(MrMessage) * collector->capacity);
}

static int
poll_once(MrCollector *collector, long timeout)
{
	int			room = Min(POLL_CHUNK, most_in_hand(collector) - collector->nmessages);
	int			n;

	make_room(collector, room);
	n = mr_consumer_poll(collector->consumer, collector->messages + collector->nmessages, room, (int) timeout);
	for (int i = 0; i < n; i++)
		collector->memory += mr_message_memory(&collector->messages[collector->nmessages + i]);
	collector->nmessages += n;
	return n;
}

void
mr_collect(MrCollector *collector, int portion, long wait_ms)
{
	long		timeout = wait_ms;

	collector->portion = portion;
	collector->taken = 0;
	for (;;)
	{
		int			n = poll_once(collector, timeout);

		mr_session_serve_interrupts();
		if (collector->nmessages == 0)
			return;
		timeout = time_left(collector, n == 0);
		if (timeout == 0)
		{
			/* what has come meanwhile is free */
			while (!portion_full(collector) && n > 0 && !has_backlog(collector))
				n = poll_once(collector, 0);
			return;
		}
	}
}

void
mr_collect_release(MrCollector *collector)
{
	mr_consumer_release(collector->consumer, collector->messages, collector->nmessages);
	collector->nmessages = 0;
	collector->memory = 0;
}

/* ---------- during a step, and after it ---------- */

const MrPartitionOffset *
mr_collect_ends(MrCollector *collector, int *n)
{
	int			nstatus;
	const MrPartitionStatus *status = mr_consumer_status(collector->consumer, &nstatus);
	MrPartitionOffset *ends = palloc(sizeof(MrPartitionOffset) * (nstatus + 1));

	*n = nstatus;
	for (int i = 0; i < nstatus; i++)
	{
		ends[i].partition = status[i].partition;
		ends[i].offset = Max(status[i].position, status[i].eof);
	}
	return ends;
}

static bool
reader_at_end(void *arg)
{
	MrCollector *collector = arg;
	int			n;
	const MrPartitionStatus *status = mr_consumer_status(collector->consumer, &n);

	for (int i = 0; i < n; i++)
		if (status[i].eof < status[i].position)
			return false;
	return n > 0;
}

/*
 * During a step: the next portion of a backlog, instead of the one in hand.  Nothing that would
 * have to be waited for with the transaction open.
 */
static int
next_portion(void *arg, MrMessage **messages)
{
	MrCollector *collector = arg;

	CHECK_FOR_INTERRUPTS();
	if (collector->taken >= mr_batch_messages || !has_backlog(collector) ||
		mr_consumer_may_doubt(collector->consumer))
		return 0;
	mr_collect_release(collector);
	while (!portion_full(collector) && poll_once(collector, 0) > 0)
		;
	*messages = collector->messages;
	collector->taken += collector->nmessages;
	return collector->nmessages;
}

static const MrPartitionOffset *
reader_positions(void *arg, int *n)
{
	return mr_collect_ends(arg, n);
}

static int64
end_of_partition(void *arg, int32 partition)
{
	MrCollector *collector = arg;
	int64		low;
	int64		high;

	mr_consumer_cached_watermarks(collector->consumer, partition, &low, &high);
	return high;
}

MrStepSource
mr_collect_source(MrCollector *collector)
{
	const MrStepSource source = {next_portion, reader_positions, reader_at_end, end_of_partition, collector};

	collector->taken = collector->nmessages;
	return source;
}

void
mr_collect_committed(MrCollector *collector, int64 nmessages, double ms)
{
	collector->last_commit = mr_steady_time();
	collector->last_step_ms = ceil(ms); /* nothing takes no time */
	collector->last_step_messages = nmessages;
}
