/*
 * step.c
 *		The ingest transaction: one batch of messages into all views of a feed.
 *
 * This is the only place that begins and ends it.  In order: the offset rows are locked and
 * compared (the fence); the batch is decoded, once for all views; each view's partial plan
 * runs over it; each view's partial rows are merged; rejects become dead letters; offsets
 * move; commit.  Either all of it happened or nothing.  All plans run before the first
 * merge, because merging takes locks that other workers of the same views wait for.
 *
 * Whatever belongs to a view (planning, running, comparing and combining) runs as its owner
 * in a security-restricted context, under the settings that were in force when the view was
 * created.  So does decoding, as in a SELECT from the stream: input functions and domain
 * constraints may be anybody's.  Views of different owners, or that were created under
 * different settings (time zone, date style …), belong to different profiles, and the batch
 * is decoded once for each; a message that cannot be decoded under one of them reaches no view at all.
 *
 * Memory: a batch's memory is below the context that is current at the call.
 */
#include "millrace.h"

#include "access/xact.h"
#include "failpoint.h"
#include "ingest/careful.h"
#include "ingest/catchup.h"
#include "ingest/intake.h"
#include "ingest/lock.h"
#include "ingest/open.h"
#include "ingest/step.h"
#include "ingest/step_over.h"
#include "ingest/take.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "shmem.h"
#include "transaction.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

bool
mr_ingest_counts_for_stream(const MrIngest *ingest)
{
	return ingest->feed != NULL && ingest->feed->live;
}

Oid
mr_ingest_after_error(MrTakePhase *phase)
{
	*phase = mr_take_phase();
	mr_scan_source_set(NULL);
	return mr_take_blamed();
}

/* ---------- views ---------- */

static void
aggregate_all(MrIngest *ingest)
{
	ListCell   *lc;

	foreach(lc, ingest->views)
	{
		MrIngestView *view = lfirst(lc);
		MrScanSource source = {
			.batch = view->profile->batch,
			.first = 0,
			.last = view->profile->batch->nrows,
			.start = view->start,
			.nstart = view->nstart,
			.row = -1
		};

		mr_take_aggregate(ingest, view, &source);
	}
}

static void
merge_all(MrIngest *ingest)
{
	ListCell   *lc;

	foreach(lc, ingest->views)
		mr_take_merge(ingest, lfirst(lc));
}

/* ---------- the transaction ---------- */

static double
lap(instr_time *since)
{
	instr_time	now;
	instr_time	span;

	INSTR_TIME_SET_CURRENT(now);
	span = now;
	INSTR_TIME_SUBTRACT(span, *since);
	*since = now;
	return INSTR_TIME_GET_MILLISEC(span);
}

/* ends of partitions move offsets past what is no message: markers, aborted messages */
static void
count_ends(MrIngest *ingest, const MrPartitionOffset *ends, int nends)
{
	for (int i = 0; i < nends; i++)
	{
		MrPosition *position = mr_offsets_find(ingest->offsets, ends[i].partition);

		if (position != NULL && ends[i].offset > position->new_offset)
			position->new_offset = ends[i].offset;
	}
}

/* a timeout's handler may look at them at any moment (view_limit.c) */
static void
set_followers(MrIngest *ingest, const List *followers)
{
	List	   *former = ingest->followers;
	MemoryContext old;

	if (equal(former, followers))
		return;
	old = MemoryContextSwitchTo(ingest->context);
	ingest->followers = list_copy(followers);
	MemoryContextSwitchTo(old);
	list_free(former);
}

static bool
try_lock_all(MrIngest *ingest, MrBusy *busy)
{
	List	   *followers = NIL;
	ListCell   *lc;

	if (!mr_try_lock(ingest->stream->relid, AccessShareLock, busy))
		return false;
	foreach(lc, ingest->views)
		if (!mr_try_lock_to_take(lfirst(lc), busy) || !mr_try_lock_followers(lfirst(lc), &followers, busy))
		return false;
	set_followers(ingest, followers);
	return true;
}

/* one statement's worth of catalog access */
static bool
with_snapshot(bool (*lock) (MrOffsets *offsets), MrOffsets *offsets)
{
	bool		result;

	PushActiveSnapshot(GetTransactionSnapshot());
	result = lock(offsets);
	PopActiveSnapshot();
	return result;
}

/*
 * Start the transaction with everything locked.  Locks are waited for with empty hands: the
 * feed's row is the first, relations come next and are only tried, and the offset rows
 * behind the feed's row are contested by nobody but a worker that is about to end.
 */
static bool
begin(MrIngest *ingest)
{
	MrBusy		busy;

	mr_offsets_reset(ingest->offsets);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		mr_start_transaction();
		MR_FAILPOINT("step-begun");
		if (mr_ingest_is_stale(ingest) || !with_snapshot(mr_offsets_lock_feed, ingest->offsets))
			break;
		MR_FAILPOINT("step-feed-locked");
		if (try_lock_all(ingest, &busy))
		{
			MR_FAILPOINT("step-relations-locked");
			if (!with_snapshot(mr_offsets_lock, ingest->offsets) || mr_ingest_is_stale(ingest))
				break;
			MR_FAILPOINT("step-offsets-locked");
			/* what others committed while we waited for the locks counts */
			PushActiveSnapshot(GetTransactionSnapshot());
			return true;
		}
		AbortCurrentTransaction();
		mr_wait_for_lock(&busy, mr_ingest_nviews() == 1);
	}
	AbortCurrentTransaction();
	return false;
}

/* returns n, or how many of the messages it has to be tried with instead */
static int
feed_views(MrIngest *ingest, int n, instr_time *clock)
{
	bool		rows = mr_intake_has_rows(ingest);

	ingest->decode_ms = lap(clock);
	if (rows && ingest->careful)
		n = mr_careful_feed(ingest, n);
	else if (rows)
		aggregate_all(ingest);
	ingest->aggregate_ms = lap(clock);
	if (rows && !ingest->careful)
		merge_all(ingest);
	ingest->merge_ms = lap(clock);
	return n;
}

static void
count_rows_of_view(MrIngestView *view, bool careful)
{
	int			nrows = view->profile->batch->nrows;
	int64		excess = careful ? view->new_excess - view->excess : -nrows;

	if (nrows > 0)
	{
		mr_shmem_count_rows(view->view->view, nrows, view->rows_out, excess);
		view->excess = Max(view->excess + excess, 0);
	}
	view->rows_out = 0;
}

/* after the commit: what the views have read and given */
static void
count_rows(MrIngest *ingest)
{
	ListCell   *lc;

	if (ingest->new_excess != ingest->excess && mr_ingest_counts_for_stream(ingest))
		mr_shmem_count_rows(ingest->stream->relid, 0, 0, ingest->new_excess - ingest->excess);
	ingest->excess = ingest->new_excess;
	foreach(lc, ingest->views)
		count_rows_of_view(lfirst(lc), ingest->careful);
}

/*
 * One portion.  What careful steps find comes after contents, where it would be too late to lock
 * the letters.
 */
static MrIntakeEnd
take_portion(MrIngest *ingest, MrMessage *messages, int n)
{
	MrIntakeEnd end = mr_intake_append(ingest, messages, n);

	ingest->ntaken += n;
	if (end == MR_INTAKE_ALL && n > 0 && ingest->careful && !mr_intake_lock_letters(ingest))
		return MR_INTAKE_BUSY;
	return end;
}

/*
 * All messages of the step into rows, while *end says so.  True when the feed can join the live
 * one after them (catch_up).  shortened: there are more messages at hand.
 */
static bool
take_messages(MrIngest *ingest, MrMessage *messages, int n, const MrStepSource *source,
			  bool catch_up, bool shortened, MrIntakeEnd *end)
{
	bool		joins = false;
	bool		cut = false;
	int			nends;
	const MrPartitionOffset *ends;

	if (ingest->sink != NULL)
		cut = mr_step_over_cut(ingest, messages, &n);
	else if (catch_up && !shortened)
	{
		joins = mr_catchup_limit(ingest, messages, &n, source, &cut);
		/* the live feed has moved on before we had it */
		if (ingest->holds_live && ingest->aloof && n > 0)
		{
			*end = MR_INTAKE_BUSY;
			return false;
		}
	}
	*end = take_portion(ingest, messages, n);
	if (ingest->stop_error != NULL && *end == MR_INTAKE_ALL)
	{
		mr_intake_stop(ingest, ingest->stop_error, ingest->stop_view);
		*end = MR_INTAKE_STOPPED;
	}
	while (!ingest->holds_live && !cut && *end == MR_INTAKE_ALL && !ingest->careful && ingest->sink == NULL &&
		   !mr_intake_full(ingest) && (n = source->next(source->arg, &messages)) > 0)
	{
		if (catch_up)
			cut = mr_catchup_cut(ingest, messages, &n);
		*end = take_portion(ingest, messages, n);
	}
	if (*end != MR_INTAKE_ALL || shortened)
		return false;
	ends = source->ends(source->arg, &nends);
	if (catch_up || ingest->stepping_over)
		mr_catchup_move(ingest, ends, nends, source->at_end(source->arg));
	else
		count_ends(ingest, ends, nends);
	return joins;
}

/* the step at hand is to be taken anew */
static void
give_up(MemoryContext context)
{
	AbortCurrentTransaction();
	MemoryContextSwitchTo(context);
}

/*
 * One try, in a transaction.  False: it has to be taken anew with *n messages, and the
 * transaction is gone.
 */
static bool
try_step(MrIngest *ingest, MrMessage *messages, int given, int *n, const MrStepSource *source,
		 bool catch_up, MrStepResult *result)
{
	MemoryContext context = CurrentMemoryContext;
	instr_time	clock;
	bool		joins;
	MrIntakeEnd end;
	int			possible;

	ingest->nrefused = 0;
	ingest->ntaken = 0;
	ingest->holds_live = false;
	*result = MR_STEP_STALE;
	if (!begin(ingest))
	{
		MemoryContextSwitchTo(context);
		return true;
	}
	MemoryContextSwitchTo(context);
	INSTR_TIME_SET_CURRENT(clock);
	mr_intake_begin(ingest);
	joins = take_messages(ingest, messages, *n, source, catch_up, *n < given, &end);
	if (end == MR_INTAKE_BUSY)
	{
		give_up(context);
		ingest->aloof = true;	/* others go on while we wait */
		return false;
	}
	MR_FAILPOINT("step-taken");
	possible = feed_views(ingest, (int) ingest->ntaken, &clock);
	if (possible < ingest->ntaken)
	{
		give_up(context);
		*n = possible;
		return false;
	}
	MR_FAILPOINT("step-fed");
	joins = joins && mr_catchup_is_same_log(ingest);
	ingest->moved = joins || mr_offsets_dirty(ingest->offsets);
	mr_offsets_store(ingest->offsets);
	if (joins)
		mr_catchup_join(ingest);
	MR_FAILPOINT("step-stored");
	mr_step_over_deliver(ingest);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	ingest->holds_live = false;
	MR_FAILPOINT("step-committed");
	mr_offsets_committed(ingest->offsets);
	count_rows(ingest);
	ingest->commit_ms = lap(&clock);
	*result = joins ? MR_STEP_JOINED : end == MR_INTAKE_STOPPED ? MR_STEP_STOPPED : MR_STEP_COMMITTED;
	return true;
}

MrStepResult
mr_ingest_step(MrIngest *ingest, MrMessage *messages, int n,
			   const MrStepSource *source, bool catch_up)
{
	MrStepResult result;

	ingest->stop_error = NULL;
	ingest->nmessages = n;
	while (!try_step(ingest, messages, n, &ingest->nmessages, source, catch_up, &result))
		;
	return result;
}
