/*
 * take.c
 *		One view takes rows of a batch: its plan, and the merge of what that gives.
 *
 * Planning, running, comparing and combining are a view's own: they run as its owner in a
 * security-restricted context, under the settings that were in force when it was created,
 * and an error in any of them is the view's.  Whose work is being done is kept here, for
 * whoever catches the error.
 *
 * A transform has no merge: its plan writes the rows (write.c).
 */
#include "millrace.h"

#include "failpoint.h"
#include "ingest/grouping.h"
#include "ingest/retention.h"
#include "ingest/take.h"
#include "ingest/view_limit.h"
#include "ingest/write.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "view/guise.h"
#include "view/transform.h"

#define MIN_SORT_MEMORY_KB	64
#define PROBED_ROWS			10	/* that a probe reads, more or less */

typedef struct ErrorPlace
{
	const MrIngest *ingest;
	const MrIngestView *view;
	const MrScanSource *source;
} ErrorPlace;

/* whose work is being done, for blame */
static Oid	blamed_view = InvalidOid;
static MrTakePhase phase = MR_TAKE_OTHER;
static bool removing = false;

void
mr_take_blame(Oid view)
{
	blamed_view = view;
	phase = MR_TAKE_OTHER;
	mr_view_limit_end();
	mr_retention_end();
}

void
mr_take_begin_removal(void)
{
	removing = true;
}

void
mr_take_end_removal(void)
{
	removing = false;
}

void
mr_take_done(void)
{
	mr_view_limit_done();
	mr_take_blame(InvalidOid);
}

MrTakePhase
mr_take_phase(void)
{
	MrTakePhase result = removing ? MR_TAKE_OTHER : phase;

	removing = false;
	return result;
}

Oid
mr_take_blamed(void)
{
	Oid			result = blamed_view;

	blamed_view = InvalidOid;
	return result;
}

MrFault
mr_take_fault(MrTakePhase at, const ErrorData *error)
{
	return at >= MR_TAKE_WRITE ? mr_fault_of_write(error) : mr_fault(error->sqlerrcode);
}

bool
mr_take_is_writing(void)
{
	return OidIsValid(blamed_view) && phase >= MR_TAKE_WRITE;
}

/* ---------- planning ---------- */

void
mr_take_plan(MrIngestView *view)
{
	MemoryContext old;

	MemoryContextReset(view->plan_context);
	view->probe_plan = NULL;
	old = MemoryContextSwitchTo(view->plan_context);
	view->plan = mr_plan_partial(view->analysis);
	view->relations = list_copy(view->plan->relationOids);
	/* partitions, at any depth, are to be looked at again when they change */
	if (OidIsValid(view->view->sink))
		view->plan->relationOids = list_concat_unique_oid(view->plan->relationOids,
														  mr_transform_partitions(view->view->sink));
	if (view->merge != NULL)
		view->grouping = mr_grouping_create(view->plan, view->analysis);
	MemoryContextSwitchTo(old);
}

static void
lock_relations(const PlannedStmt *plan)
{
	ListCell   *lc;

	foreach(lc, plan->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (OidIsValid(rte->relid) && rte->rellockmode != NoLock)
			LockRelationOid(rte->relid, rte->rellockmode);
	}
}

void
mr_take_type_changed(MrIngestView *view, int cache, uint32 hash)
{
	if (view->plan != NULL && mr_plan_depends_on(view->plan, cache, hash))
		view->plan = NULL;
}

/* a plan that holds while its relations are locked, made anew if they have changed */
static PlannedStmt *
valid_plan(MrIngestView *view)
{
	PlannedStmt *plan;

	do
	{
		if (view->plan == NULL)
			mr_take_plan(view);
		plan = view->plan;
		lock_relations(plan);
	} while (view->plan != plan);
	return plan;
}

/* ---------- taking rows ---------- */

static void
error_context(void *arg)
{
	const ErrorPlace *place = arg;
	const MrScanSource *source = place->source;

	if (source && source->row >= 0 && source->row < source->batch->nrows)
	{
		errcontext("continuous %s %s, stream %s, partition %d, offset %lld",
				   place->view->view->kind, place->view->name, place->ingest->stream->name, source->batch->partition[source->row],
				   (long long) source->batch->offset[source->row]);
	}
	else
		errcontext(place->view->analysis->tables == NIL ? "continuous %s %s, stream %s" :
				   "continuous %s %s, table %s", place->view->view->kind, place->view->name, place->ingest->stream->name);
}

/* run work as a view's owner, with an error context; source may be NULL */
static void
with_view(MrIngest *ingest, MrIngestView *view, MrScanSource *source,
		  void (*work) (MrIngest *ingest, MrIngestView *view))
{
	ErrorPlace	place = {ingest, view, source};
	ErrorContextCallback callback = {error_context_stack, error_context, &place};
	MrGuise		guise;

	/* nothing that a view's query may call comes here */
	if (mr_scan_source() != NULL)
		elog(ERROR, "a view takes messages inside another one");
	error_context_stack = &callback;
	mr_take_blame(view->view->view);
	mr_guise_begin(&guise, view->owner, view->view->settings);
	mr_scan_source_set(source);
	mr_view_limit_begin(view->view->view, view->view, ingest->feed == NULL);
	work(ingest, view);
	mr_scan_source_set(NULL);
	mr_guise_end(&guise);
	mr_take_done();
	error_context_stack = callback.previous;
}

static void
aggregate(MrIngest *ingest, MrIngestView *view)
{
	/* all views of the batch sort, or keep their groups, at the same time */
	int			sort_memory = Max(work_mem / Max(list_length(ingest->views), 1), MIN_SORT_MEMORY_KB);
	DestReceiver *dest = mr_merge_begin(view->merge, sort_memory);
	PlannedStmt *plan = valid_plan(view);

	if (view->changes)
		mr_changes_begin(view->changes, sort_memory);
	mr_retention_begin(view);
	phase = MR_TAKE_PLAN;
	if (view->grouping != NULL && !mr_executor_aggregation)
		mr_grouping_run(view->grouping, view->merge, (Size) sort_memory * 1024);
	else
		(void) mr_plan_run(plan, dest, NULL);
	MR_FAILPOINT("view-aggregated");
	mr_retention_end();
}

/* a transform's rows into its sink, and all that belongs to that: nothing waits for the commit */
static void
write_rows(MrIngest *ingest, MrIngestView *view)
{
	PlannedStmt *plan = valid_plan(view);
	MrWrite    *writing;

	phase = MR_TAKE_WRITE;
	writing = mr_write_begin(plan);
	view->rows_out += mr_write_rows(writing);
	phase = MR_TAKE_WRITTEN;
	mr_write_end(writing);
}

static void
disable_setting(const char *name)
{
	(void) set_config_option(name, "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
}

/* what a plan node reads from, besides its outer and inner plan */
static List *
other_inputs(Plan *plan)
{
	if (IsA(plan, Append))
		return ((Append *) plan)->appendplans;
	if (IsA(plan, SubqueryScan))
		return list_make1(((SubqueryScan *) plan)->subplan);
	return NIL;
}

/*
 * Does a plan collect the rows of a foreign table in a hash table, before any of them is
 * evaluated?  inside: it is what such a hash table is made of.
 */
static bool
hashes_stream(Plan *plan, bool inside)
{
	ListCell   *lc;

	if (plan == NULL)
		return false;
	if (IsA(plan, ForeignScan))
		return inside;
	inside = inside || IsA(plan, Hash);
	foreach(lc, other_inputs(plan))
		if (hashes_stream(lfirst(lc), inside))
		return true;
	return hashes_stream(outerPlan(plan), inside) || hashes_stream(innerPlan(plan), inside);
}

/*
 * A plan for few rows, with a valid one at hand.  Probes are many and short: a plan that begins
 * with hashing a joined table would spend all its time on that.  Nothing should be sorted
 * before it is evaluated, or the last row that was read would tell nothing; where the rows
 * would be hashed instead, because the joined table has no index, the ordinary plan is
 * better.  The settings end with the guise.
 */
static PlannedStmt *
probe_plan(MrIngestView *view)
{
	MrScanSource few = *mr_scan_source();
	MrScanSource *source = mr_scan_source();
	MemoryContext old;

	if (view->probe_plan != NULL)
		return view->probe_plan;
	few.first = 0;
	few.last = Min(few.batch->nrows, PROBED_ROWS);
	old = MemoryContextSwitchTo(view->plan_context);
	mr_scan_source_set(&few);	/* for the planner to see how many */
	disable_setting("enable_sort");
	disable_setting("enable_mergejoin");
	view->probe_plan = mr_plan_partial(view->analysis);
	if (hashes_stream(view->probe_plan->planTree, false))
		view->probe_plan = view->plan;
	mr_scan_source_set(source);
	MemoryContextSwitchTo(old);
	return view->probe_plan;
}

static void
probe(MrIngest *ingest, MrIngestView *view)
{
	PlannedStmt *plan;

	(void) valid_plan(view);
	plan = probe_plan(view);
	mr_retention_begin(view);
	phase = MR_TAKE_PLAN;
	(void) mr_plan_run(plan, None_Receiver, NULL);
	mr_retention_end();
	view->late = NULL;
}

static void
prepare(MrIngest *ingest, MrIngestView *view)
{
	(void) valid_plan(view);
}

/* where the step at hand leaves the feed; NULL: it moves none */
static const MrStand *
stand_after(const MrIngest *ingest, MrStand *stand)
{
	const MrOffsets *offsets = ingest->offsets;

	if (offsets == NULL)
		return NULL;
	stand->stream = ingest->stream->relid;
	stand->n = offsets->n;
	stand->partitions = palloc(sizeof(Datum) * (offsets->n + 1));
	stand->offsets = palloc(sizeof(Datum) * (offsets->n + 1));
	for (int i = 0; i < offsets->n; i++)
	{
		stand->partitions[i] = Int32GetDatum(offsets->positions[i].partition);
		stand->offsets[i] = Int64GetDatum(offsets->positions[i].new_offset);
	}
	return stand;
}

static void
merge(MrIngest *ingest, MrIngestView *view)
{
	MrStand		stand;
	uint64		rows;

	phase = MR_TAKE_MERGE;
	MR_FAILPOINT("view-merging");
	rows = mr_merge_finish(view->merge);
	view->rows_out += rows;
	MR_FAILPOINT("view-changes");
	/* without aggregates it has not been needed yet */
	if (view->changes && rows > 0)
		mr_merge_lock_contents(view->view->view);
	if (view->changes)
		mr_changes_write(view->changes, stand_after(ingest, &stand));
	MR_FAILPOINT("view-merged");
	mr_retention_count(view);
}

void
mr_take_aggregate(MrIngest *ingest, MrIngestView *view, MrScanSource *source)
{
	with_view(ingest, view, source, view->merge != NULL ? aggregate : write_rows);
}

void
mr_take_probe(MrIngest *ingest, MrIngestView *view, MrScanSource *source)
{
	with_view(ingest, view, source, probe);
}

void
mr_take_prepare(MrIngest *ingest, MrIngestView *view)
{
	with_view(ingest, view, NULL, prepare);
}

void
mr_take_merge(MrIngest *ingest, MrIngestView *view)
{
	if (view->merge != NULL)
		with_view(ingest, view, NULL, merge);
}
