/*
 * gap.c
 *		Offsets that the broker does not have, or that belong to another log: what becomes
 *		of a feed then.
 *
 * The consumer is told to start exactly where the catalog says and nowhere else, and looks
 * whether the message before is still the one that was taken, so a missing offset is never
 * skipped by itself, nor another log's message taken for the next one.  What is skipped in the
 * end (on_gap) is recorded in the transaction that moves the offset.
 *
 * Verdicts.  The log begins after the next offset: messages have been deleted, and reading
 * goes on at what is left.  It ends before it, or the last message has become another one:
 * if the anchor, an older message, is still as it was, then the log has lost its end, as
 * after an unclean leader election; what it had before was taken and must not be taken
 * twice, so reading goes on where it ends, or, if it has grown again, where it would have.
 * If the anchor is another one, too, or there is none to compare with, the topic was created
 * again, and reading goes on at its beginning.
 *
 * Clusters.  A feed remembers the id of the cluster that its offsets belong to.  If another
 * one answers, a wrong address is as likely as a move, so the feed stops whatever on_gap
 * says.  activate() accepts what was met.  A partition of which the new cluster has the last
 * message, being a copy, goes on after it; for others it is as if the topic had been created
 * again.  If the old cluster is back instead, nothing happens at all.
 */
#include "millrace.h"

#include "access/xact.h"
#include "failpoint.h"
#include "ingest/dead_letter.h"
#include "ingest/gap.h"
#include "ingest/monitor.h"
#include "kafka/ask.h"
#include "kafka/assign.h"
#include "kafka/recall.h"
#include "miscadmin.h"
#include "shmem.h"
#include "transaction.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define BROKER_TIMEOUT_MS	10000

#define REASON_DELETED \
	"the broker has deleted these messages (retention)"
#define REASON_SHORTER \
	"the topic ends before this offset: it was truncated or created again"
#define REASON_CUT \
	"the topic ends before this offset, older messages are as they were: " \
	"it has lost its last messages (unclean leader election)"
#define REASON_REWRITTEN \
	"the last message taken has become another one, older ones are as they were: " \
	"the topic has lost its last messages and others were written (unclean leader election)"
#define REASON_CREATED_AGAIN \
	"the last message taken has become another one: the topic was created again"
#define REASON_FEWER_PARTITIONS \
	"the topic has fewer partitions than before: it was created again"
#define REASON_CLUSTER \
	"the offset belongs to another Kafka cluster"

/* What is found about one partition. */
typedef struct Gap
{
	MrPosition *position;
	int64		from;
	int64		go_on;
	const char *reason;
	bool		another_log;	/* more than messages that are too old */
	MrRecord	last;			/* what is still there before go_on */
	MrRecord	anchor;
} Gap;

/* ---------- asking ---------- */

/*
 * The end of a partition, open transactions included: a reader of committed messages may
 * stand between the two when he was another kind of reader before.
 */
static int64
real_end(const MrIngest *ingest, int32 partition)
{
	MrStream   *stream = ingest->stream;
	MemoryContext old = CurrentMemoryContext;
	MrConsumer *consumer;
	List	   *props;
	int64		low;
	int64		high;

	mr_start_transaction();
	MemoryContextSwitchTo(old);
	props = mr_monitor_see_everything(mr_server_properties(stream->serverid, stream->owner));
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	consumer = mr_consumer_create(props, stream->topic, "millrace-gap");
	(void) mr_consumer_watermarks(consumer, &partition, 1, &low, &high, BROKER_TIMEOUT_MS, false);
	mr_consumer_destroy(consumer);
	return high;
}

static bool
is_there(MrConsumer *consumer, int32 partition, const MrRecord *record, int64 high)
{
	return record->offset >= 0 && record->offset < high &&
		mr_consumer_recall(consumer, partition, record, BROKER_TIMEOUT_MS) == MR_RECALLED;
}

/* ---------- verdicts ---------- */

static int64
begin_again(const MrIngest *ingest, int64 low, int64 high)
{
	return ingest->stream->on_gap == MR_ON_GAP_LATEST ? high : low;
}

static Gap
make_gap(MrPosition *position, int64 from, int64 go_on, const char *reason)
{
	Gap			gap = {position, from, go_on, reason, true, MR_NO_RECORD, MR_NO_RECORD};

	return gap;
}

static Gap
make_gap_of_deleted(MrPosition *position, int64 go_on)
{
	Gap			gap = make_gap(position, position->next_offset, go_on, REASON_DELETED);

	gap.another_log = false;
	return gap;
}

static Gap
make_gap_behind(MrPosition *position, int64 from, int64 go_on, const char *reason, MrRecord last, MrRecord anchor)
{
	Gap			gap = make_gap(position, from, go_on, reason);

	gap.last = last;
	gap.anchor = anchor;
	return gap;
}

/* the log ends before the next offset */
static Gap
judge_short(const MrIngest *ingest, MrConsumer *consumer, MrPosition *position, bool another,
			int64 low, int64 high)
{
	if (!another && is_there(consumer, position->partition, &position->last, high))
		return make_gap_behind(position, position->next_offset, high, REASON_CUT, position->last, position->last);
	if (is_there(consumer, position->partition, &position->anchor, high))
		return make_gap_behind(position, another ? position->anchor.offset + 1 : position->next_offset, high,
							   another ? REASON_REWRITTEN : REASON_CUT, MR_NO_RECORD, position->anchor);
	return make_gap(position, position->next_offset, begin_again(ingest, low, high),
					another ? REASON_CREATED_AGAIN : REASON_SHORTER);
}

/* the last message has become another one */
static Gap
judge_another(const MrIngest *ingest, MrConsumer *consumer, MrPosition *position,
			  int64 low, int64 high)
{
	if (is_there(consumer, position->partition, &position->anchor, high))
		return make_gap_behind(position, position->anchor.offset + 1, position->next_offset, REASON_REWRITTEN,
							   MR_NO_RECORD, position->anchor);
	return make_gap(position, position->next_offset, begin_again(ingest, low, high),
					REASON_CREATED_AGAIN);
}

/* false: the next offset is there after all */
static bool
judge(const MrIngest *ingest, MrConsumer *consumer, MrPosition *position, bool another,
	  int64 low, int64 high, Gap *gap)
{
	if (position->next_offset < low)
		*gap = make_gap_of_deleted(position, begin_again(ingest, low, high));
	else if (position->next_offset > high)
		*gap = judge_short(ingest, consumer, position, another, low, high);
	else if (another)
		*gap = judge_another(ingest, consumer, position, low, high);
	else
		return false;
	return true;
}

/* ---------- recording ---------- */

static void
stop_feed(const MrIngest *ingest, const Gap *gap)
{
	mr_catalog_stop_feed(ingest->feed,
						 psprintf("partition %d: offset %lld is not available: %s; millrace.activate() goes on at offset %lld",
								  gap->position->partition,
								  (long long) gap->from, gap->reason,
								  (long long) gap->go_on),
						 InvalidOid);
	mr_catalog_changed();
}

/* is something missing, or only another log met before anything was taken? */
static bool
is_missing(const Gap *gap)
{
	return gap->from != 0 || gap->go_on != 0;
}

static bool
is_any_missing(const Gap *gaps, int n)
{
	for (int i = 0; i < n; i++)
		if (is_missing(&gaps[i]))
			return true;
	return false;
}

static bool
is_any_another_log(const Gap *gaps, int n)
{
	for (int i = 0; i < n; i++)
		if (gaps[i].another_log)
			return true;
	return false;
}

/* gaps of these offsets; pass: whatever on_gap says */
static void
record(MrIngest *ingest, MrOffsets *offsets, const Gap *gaps, int n, bool pass)
{
	bool		stops = !pass && ingest->stream->on_gap == MR_ON_GAP_STOP;

	/* a partition may have no row yet */
	if (stops)
		mr_offsets_store(offsets);
	if (is_any_another_log(gaps, n))
		mr_catalog_set_another_log(ingest->feed->id);
	for (int i = 0; i < n; i++)
	{
		const Gap  *gap = &gaps[i];

		if (is_missing(gap))
			mr_gap_insert(ingest->stream->relid, gap->position->partition, gap->from, gap->go_on,
						  gap->reason, !stops);
		/* there, views that were to begin further on begin here */
		if (gap->another_log)
			mr_catalog_lower_starts(ingest->feed->id, gap->position->partition, gap->go_on);
		if (stops)
			mr_catalog_set_resume_offset(ingest->feed->id, gap->position->partition, gap->go_on,
										 gap->last, gap->anchor);
		else
			mr_offsets_move(gap->position, gap->go_on, gap->last, gap->anchor);
	}
	if (stops)
		stop_feed(ingest, &gaps[0]);
	else
		mr_offsets_store(offsets);
}

static bool
lock_offsets(MrOffsets *offsets)
{
	mr_offsets_reset(offsets);
	return mr_offsets_lock_feed(offsets) && mr_offsets_lock(offsets);
}

static void
begin(void)
{
	mr_start_transaction();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
end(const MrIngest *ingest, MemoryContext context)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	ConditionVariableBroadcast(mr_shmem_progress(ingest->stream->relid));
}

static void
record_gaps(MrIngest *ingest, MrOffsets *offsets, const Gap *gaps, int n)
{
	MemoryContext context = CurrentMemoryContext;

	begin();
	if (n > 0 && lock_offsets(offsets))
		record(ingest, offsets, gaps, n, false);
	end(ingest, context);
}

/* of all shards */
static MrOffsets *
load_all_offsets(const MrIngest *ingest)
{
	MemoryContext context = CurrentMemoryContext;
	MrOffsets  *result;

	mr_start_transaction();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(context);
	result = mr_offsets_load(ingest->feed, 0, 1);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return result;
}

static int
known_partitions(const MrIngest *ingest)
{
	MemoryContext context = CurrentMemoryContext;
	int			result;

	begin();
	result = mr_catalog_feed_partitions(ingest->feed->id);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return result;
}

/* partitions that are new, and their beginnings; false: somebody else has changed what was known */
static bool
note_partitions(const MrIngest *ingest, int known, int npartitions, const int32 *added, const int64 *low, int n)
{
	MemoryContext context = CurrentMemoryContext;
	bool		ours;
	bool		noted = false;

	begin();

	/*
	 * if the feed has become another one, or is gone, the worker will find
	 * out
	 */
	ours = mr_offsets_lock_feed(ingest->offsets);
	if (ours)
		noted = mr_catalog_change_feed_partitions(ingest->feed->id, known, npartitions);
	for (int i = 0; noted && i < n; i++)
		if (mr_catalog_begin_feed_partition(ingest->feed->id, added[i], low[i]) && known >= 0 && low[i] > 0)
			mr_gap_insert(ingest->stream->relid, added[i], 0, low[i], REASON_DELETED, true);
	end(ingest, context);
	return noted || !ours;
}

void
mr_gap_note_partitions(const MrIngest *ingest, MrConsumer *consumer, int npartitions)
{
	int32	   *added = palloc(sizeof(int32) * npartitions);
	int64	   *low = palloc(sizeof(int64) * npartitions);
	int64	   *high = palloc(sizeof(int64) * npartitions);
	int			known;
	int			n;

	do
	{
		MrOffsets  *all;

		CHECK_FOR_INTERRUPTS();
		known = known_partitions(ingest);
		if (known == npartitions)
			return;
		all = load_all_offsets(ingest);
		n = 0;
		for (int32 p = Max(known, 0); p < npartitions; p++)
			if (!mr_offsets_find(all, p))
				added[n++] = p;
		if (n > 0)
			(void) mr_consumer_watermarks(consumer, added, n, low, high, BROKER_TIMEOUT_MS, false);
		MR_FAILPOINT("catchup-looked");
	} while (!note_partitions(ingest, known, npartitions, added, low, n));
}

/* ---------- what partitions tell ---------- */

/*
 * The last message has been deleted, but the next one has not: without the former the next
 * has to be believed.
 */
static bool
go_on_without_last(MrConsumer *consumer, MrPosition *position, int64 low, int64 high)
{
	if (position->last.offset < 0 || position->last.offset >= low ||
		position->next_offset < low || position->next_offset > high)
		return false;
	position->last = position->new_last = MR_NO_RECORD;
	mr_consumer_took(consumer, position->partition, position->next_offset, &position->last);
	mr_consumer_seek(consumer, position->partition, position->next_offset);
	return true;
}

/* copies of those that are in trouble */
static MrPartitionStatus *
troubled(MrConsumer *consumer, int *n)
{
	int			nstatus;
	const MrPartitionStatus *status = mr_consumer_status(consumer, &nstatus);
	MrPartitionStatus *result = palloc(sizeof(MrPartitionStatus) * (nstatus + 1));

	*n = 0;
	for (int i = 0; i < nstatus; i++)
		if (status[i].out_of_range || status[i].another)
			result[(*n)++] = status[i];
	return result;
}

static void
ask_range(const MrIngest *ingest, MrConsumer *consumer, const MrPosition *position,
		  int64 *low, int64 *high)
{
	(void) mr_consumer_watermarks(consumer, &position->partition, 1, low, high, BROKER_TIMEOUT_MS, false);
	if (position->next_offset > *high)
		*high = real_end(ingest, position->partition);
}

static bool
misses(const MrOffsets *offsets, int npartitions)
{
	for (int i = 0; i < offsets->n; i++)
		if (offsets->positions[i].partition >= npartitions && offsets->positions[i].next_offset > 0)
			return true;
	return false;
}

bool
mr_gap_misses_partitions(const MrIngest *ingest, int npartitions)
{
	return misses(ingest->offsets, npartitions) ||
		(ingest->offsets->nshards > 1 && misses(load_all_offsets(ingest), npartitions));
}

bool
mr_gap_check(MrIngest *ingest, MrConsumer *consumer)
{
	int			n;
	int			ngaps = 0;
	const MrPartitionStatus *status = troubled(consumer, &n);
	Gap		   *gaps = palloc(sizeof(Gap) * (n + 1));
	int			mended = 0;
	int			npartitions;

	if (n == 0)
		return true;
	/* perhaps it is all different */
	npartitions = mr_consumer_partitions(consumer, BROKER_TIMEOUT_MS, false);
	if (!mr_gap_check_cluster(ingest, consumer, npartitions) ||
		mr_gap_misses_partitions(ingest, npartitions))
		return false;
	for (int i = 0; i < n; i++)
	{
		MrPosition *position = mr_offsets_find(ingest->offsets, status[i].partition);
		int64		low;
		int64		high;

		CHECK_FOR_INTERRUPTS();
		ask_range(ingest, consumer, position, &low, &high);
		if (!status[i].another && go_on_without_last(consumer, position, low, high))
			mended++;
		else if (judge(ingest, consumer, position, status[i].another, low, high, &gaps[ngaps]))
			ngaps++;
	}
	if (mended == n)
		return true;
	record_gaps(ingest, ingest->offsets, gaps, ngaps);
	return false;
}

/*
 * The topic is another one: a gap for each partition of the feed, first those that were read from.  For others
 * nothing is missing (from and go_on are 0), but views may have been going to begin further on.
 */
static int
all_created_again(const MrIngest *ingest, MrConsumer *consumer, MrOffsets *offsets,
				  int npartitions, const char *reason, Gap *gaps)
{
	int			n = 0;
	int			end = offsets->n;

	for (int i = 0; i < offsets->n; i++)
	{
		MrPosition *position = &offsets->positions[i];
		int64		low = 0;
		int64		high = 0;

		if (position->partition < npartitions)
			(void) mr_consumer_watermarks(consumer, &position->partition, 1, &low, &high,
										  BROKER_TIMEOUT_MS, false);
		if (position->next_offset == 0 && low == 0)
			gaps[--end] = make_gap(position, 0, 0, reason);
		else
			gaps[n++] = make_gap(position, position->next_offset, begin_again(ingest, low, high), reason);
	}
	return offsets->n;
}

void
mr_gap_fewer_partitions(MrIngest *ingest, MrConsumer *consumer, int npartitions)
{
	MrOffsets  *all = load_all_offsets(ingest);
	Gap		   *gaps = palloc(sizeof(Gap) * (all->n + 1));

	/* another shard may have done it meanwhile */
	if (misses(all, npartitions))
		record_gaps(ingest, all, gaps, all_created_again(ingest, consumer, all, npartitions,
														 REASON_FEWER_PARTITIONS, gaps));
}

/* ---------- clusters ---------- */

static void
stop_at_cluster(MrIngest *ingest, const char *id)
{
	MemoryContext context = CurrentMemoryContext;

	begin();
	if (mr_offsets_lock_feed(ingest->offsets))
	{
		mr_catalog_stop_feed(ingest->feed,
							 psprintf("the brokers at this address belong to another Kafka cluster: its id is \"%s\", that of the stored offsets \"%s\"; check \"bootstrap.servers\", then call millrace.activate(), which also accepts the new cluster",
									  id, ingest->cluster->id),
							 InvalidOid);
		mr_catalog_set_other_cluster(ingest->feed->id, id);
		mr_catalog_changed();
	}
	end(ingest, context);
}

/*
 * Leave out the partitions of which the new cluster has the last message.  If nothing is missing then, it has copies
 * of the others, too.
 */
static int
leave_out_copies(MrConsumer *consumer, Gap *gaps, int n, int npartitions)
{
	int			kept = 0;

	for (int i = 0; i < n; i++)
	{
		const MrPosition *position = gaps[i].position;

		if (position->partition >= npartitions ||
			!is_there(consumer, position->partition, &position->last, PG_INT64_MAX))
			gaps[kept++] = gaps[i];
	}
	return is_any_missing(gaps, kept) ? kept : 0;
}

/* All partitions at once, whichever shard comes first. */
static void
go_over(MrIngest *ingest, MrConsumer *consumer, int npartitions, const char *id)
{
	MemoryContext context = CurrentMemoryContext;
	MrOffsets  *all = load_all_offsets(ingest);
	Gap		   *gaps = palloc(sizeof(Gap) * (all->n + 1));
	int			n = all_created_again(ingest, consumer, all, npartitions, REASON_CLUSTER, gaps);

	n = leave_out_copies(consumer, gaps, n, npartitions);
	begin();
	if (lock_offsets(all) && mr_catalog_set_cluster(ingest->feed->id, ingest->cluster->id, id))
		record(ingest, all, gaps, n, true);
	end(ingest, context);
}

/* the first cluster that the feed meets, or the one that it knows, after another one */
static bool
settle(MrIngest *ingest, const char *id)
{
	MemoryContext context = CurrentMemoryContext;
	bool		settled;

	begin();
	settled = mr_offsets_lock_feed(ingest->offsets) &&
		mr_catalog_set_cluster(ingest->feed->id, ingest->cluster->id, id);
	end(ingest, context);
	if (settled)
	{
		ingest->cluster->id = MemoryContextStrdup(ingest->context, id);
		ingest->cluster->other = NULL;
	}
	return settled;
}

bool
mr_gap_check_cluster(MrIngest *ingest, MrConsumer *consumer, int npartitions)
{
	const MrFeedCluster *cluster = ingest->cluster;
	char	   *id = mr_consumer_cluster_id(consumer);
	bool		known;

	if (id == NULL)
		return true;
	known = cluster->id != NULL && strcmp(cluster->id, id) == 0;
	if (known && cluster->other == NULL)
	{
		pfree(id);
		return true;
	}
	if (known || cluster->id == NULL)
		return settle(ingest, id);
	if (cluster->other != NULL && strcmp(cluster->other, id) == 0)
		go_over(ingest, consumer, npartitions, id);
	else
		stop_at_cluster(ingest, id);
	return false;
}
