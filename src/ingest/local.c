/*
 * local.c
 *		Streams inside of this database: when a transaction is about to commit, the views that
 *		follow take the rows that it has added.
 *
 * All of it is the transaction's own work, so the views change exactly when the rows become
 * visible, and not at all when the transaction is rolled back; there is nothing to remember
 * of where a view stands.  An error in a view, such as a division by zero in its query, is an
 * error of the COMMIT, as that of a deferred constraint is.  The alternative, to set the row
 * aside as a dead letter, would let a table and its views disagree without anybody having
 * been told.
 *
 * When.  The callback runs after all deferred triggers, which may insert more rows, and before
 * anything is sent to Kafka (stream/produce.c), which cannot be taken back.  What views add
 * to other streams while they take rows is taken in the next round.
 *
 * Order.  The views' contents are locked until the transaction has ended (ingest/merge.c), so
 * transactions are merged in the order in which they commit.  All plans of a round run
 * before its first merge, and merges go by the views' oids, whatever tables the rows are of:
 * two transactions cannot lock two views in different orders.  The lock is held for the
 * time of the commit only, not from the INSERT on.
 *
 * Isolation.  The plans read joined tables under the transaction's own snapshot, as its next
 * statement would.  Merging is no read of the transaction: it sees what others have merged,
 * also where the transaction's snapshot would not, and what it writes depends on the order of
 * transactions in no way that shows.  So REPEATABLE READ does not fail for it.
 *
 * Filling.  A view that is created, or computed anew, runs the same plan over the tables
 * themselves, which are locked against INSERTs until it commits.
 */
#include "millrace.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "ingest/grouping.h"
#include "ingest/local.h"
#include "ingest/local_view.h"
#include "ingest/take.h"
#include "miscadmin.h"
#include "shmem.h"
#include "stream/batch.h"
#include "stream/local_rows.h"
#include "stream/local_stream.h"
#include "stream/produce.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "view/contents.h"
#include "view/ddl.h"
#include "view/guise.h"
#include "view/local.h"

#define REPLAN_FACTOR	100		/* a plan for that many more or fewer rows */

/* rows of one stream in a round */
typedef struct RoundRows
{
	MrLocalRows *rows;
	Relation	rel;
	Tuplestorestate *store;		/* all of them; NULL: nobody wanted them yet */
} RoundRows;

/* one view in a round */
typedef struct RoundView
{
	MrLocalView *local;
	MrScanSource source;
	double		nrows;
} RoundView;

/* rows that all views take together; lives in a context of its own */
typedef struct Round
{
	List	   *rows;			/* of RoundRows * */
	List	   *views;			/* of RoundView *, by oid */
	List	   *stores;			/* of Tuplestorestate * */
} Round;

/* what to count once the transaction has committed */
typedef struct Taken
{
	Oid			view;
	int64		rows_in;
	int64		rows_out;
} Taken;

static List *taken = NIL;		/* of Taken *, in TopTransactionContext */

/* ---------- rows for a view ---------- */

static void
open_rows(Round *round, List *taken_rows)
{
	ListCell   *lc;

	foreach(lc, taken_rows)
	{
		RoundRows  *rows = palloc0(sizeof(RoundRows));

		rows->rows = lfirst(lc);
		if (mr_local_rows_count(rows->rows) == 0)
			continue;
		rows->rel = try_relation_open(mr_local_rows_relid(rows->rows), AccessShareLock);
		if (rows->rel != NULL)	/* else dropped in this transaction */
			round->rows = lappend(round->rows, rows);
	}
}

static Tuplestorestate *
create_store(Round *round)
{
	Tuplestorestate *store = tuplestore_begin_heap(false, false, work_mem);

	round->stores = lappend(round->stores, store);
	return store;
}

/* the rows that a view takes of those, and how many they are */
static Tuplestorestate *
store_for(Round *round, RoundRows *rows, Oid view, uint64 *n)
{
	uint64		skip = mr_local_rows_skipped(rows->rows, view);
	Tuplestorestate *store;

	*n = mr_local_rows_count(rows->rows) - skip;
	if (skip == 0 && rows->store != NULL)
		return rows->store;
	store = create_store(round);
	mr_local_rows_read(rows->rows, RelationGetDescr(rows->rel), skip, store);
	if (skip == 0)
		rows->store = store;
	return store;
}

static RoundRows *
find_rows(const Round *round, Oid relid)
{
	ListCell   *lc;

	foreach(lc, round->rows)
	{
		RoundRows  *rows = lfirst(lc);

		if (RelationGetRelid(rows->rel) == relid)
			return rows;
	}
	return NULL;
}

/* of one table: its rows, or none */
static void
provide_rows(Round *round, RoundView *view, Oid table)
{
	RoundRows  *rows = find_rows(round, table);
	uint64		n = 0;

	if (rows != NULL)
	{
		Tuplestorestate *store = store_for(round, rows, view->local->relid, &n);

		mr_local_provide(view->source.environment, table, RelationGetDescr(rows->rel), store, n);
		view->nrows += n;
	}
	else
	{
		Relation	rel = table_open(table, AccessShareLock);

		mr_local_provide(view->source.environment, table, CreateTupleDescCopy(RelationGetDescr(rel)),
						 create_store(round), 0);
		table_close(rel, NoLock);
	}
}

/* a plan for one row may be bad for a million, and the other way round */
static void
choose_plan(RoundView *view)
{
	MrLocalView *local = view->local;

	if (view->nrows > local->planned_rows * REPLAN_FACTOR ||
		view->nrows * REPLAN_FACTOR < local->planned_rows)
		local->view->plan = NULL;
	if (local->view->plan == NULL)
		local->planned_rows = view->nrows;
}

static RoundView *
open_view(Round *round, Oid relid)
{
	RoundView  *view = palloc0(sizeof(RoundView));
	ListCell   *lc;

	view->local = mr_local_view_open(relid);
	if (view->local == NULL)
		return NULL;
	view->source.row = -1;
	view->source.environment = create_queryEnv();
	foreach(lc, view->local->tables)
		provide_rows(round, view, lfirst_oid(lc));
	choose_plan(view);
	return view->nrows > 0 ? view : NULL;
}

static void
open_views(Round *round)
{
	List	   *relids = NIL;
	ListCell   *lc;

	foreach(lc, round->rows)
		relids = list_concat_unique_oid(relids, mr_local_views_of(RelationGetRelid(((RoundRows *) lfirst(lc))->rel)));
	list_sort(relids, list_oid_cmp);
	foreach(lc, relids)
	{
		RoundView  *view = open_view(round, lfirst_oid(lc));

		if (view != NULL)
			round->views = lappend(round->views, view);
	}
}

/* ---------- a round ---------- */

/* take.c shares memory out among the views of the ingest */
static void
share_memory(const Round *round)
{
	List	   *views = NIL;
	ListCell   *lc;

	foreach(lc, round->views)
		views = lappend(views, ((RoundView *) lfirst(lc))->local->view);
	foreach(lc, round->views)
		((RoundView *) lfirst(lc))->local->ingest.views = views;
}

static void
count_later(RoundView *view)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	Taken	   *one = palloc(sizeof(Taken));

	one->view = view->local->relid;
	one->rows_in = view->nrows;
	one->rows_out = view->local->view->rows_out;
	view->local->view->rows_out = 0;
	taken = lappend(taken, one);
	MemoryContextSwitchTo(old);
}

static void
take_rows(Round *round)
{
	ListCell   *lc;

	share_memory(round);
	foreach(lc, round->views)
	{
		RoundView  *view = lfirst(lc);

		mr_take_aggregate(&view->local->ingest, view->local->view, &view->source);
	}
	foreach(lc, round->views)
	{
		RoundView  *view = lfirst(lc);

		mr_take_merge(&view->local->ingest, view->local->view);
		count_later(view);
	}
}

static void
close_round(Round *round)
{
	ListCell   *lc;

	foreach(lc, round->views)
	{
		MrLocalView *local = ((RoundView *) lfirst(lc))->local;

		/* the view stays open, the round's list of them goes */
		local->ingest.views = local->alone;
	}
	foreach(lc, round->stores)
		tuplestore_end(lfirst(lc));
	foreach(lc, round->rows)
		relation_close(((RoundRows *) lfirst(lc))->rel, NoLock);
}

static void
run_round(void)
{
	List	   *rows = mr_local_rows_take();
	MemoryContext context = AllocSetContextCreate(TopTransactionContext, "millrace round",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Round		round = {0};
	ListCell   *lc;

	PushActiveSnapshot(GetTransactionSnapshot());
	mr_local_view_tidy();
	open_rows(&round, rows);
	open_views(&round);
	take_rows(&round);
	close_round(&round);
	PopActiveSnapshot();
	foreach(lc, rows)
		mr_local_rows_close(lfirst(lc));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/*
 * After an error, before it goes on: nobody else must believe that a run is under way.  A worker
 * still wants to know which view it was.
 */
static void
clean_up(void)
{
	mr_scan_source_set(NULL);
	mr_local_view_forget_all();
}

static void
flush(void)
{
	ResourceOwner owner = CurrentResourceOwner;

	if (!mr_local_rows_pending())
		return;
	CurrentResourceOwner = TopTransactionResourceOwner;
	mr_local_stream_set_flushing(true);
	PG_TRY();
	{
		while (mr_local_rows_pending())
			run_round();
	}
	PG_CATCH();
	{
		mr_local_stream_set_flushing(false);
		clean_up();
		PG_RE_THROW();
	}
	PG_END_TRY();
	mr_local_stream_set_flushing(false);
	CurrentResourceOwner = owner;
}

/* ---------- filling ---------- */

/* all rows, so that whoever reads under an older snapshot still sees them */
static void
delete_contents(Oid matrel)
{
	Relation	rel = table_open(matrel, RowExclusiveLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		simple_table_tuple_delete(rel, &slot->tts_tid, snapshot);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

static void
empty_matrel(const MrIngestView *view)
{
	MrGuise		guise;

	mr_guise_begin(&guise, view->owner, view->view->settings);
	mr_contents_empty(view->changes, view->analysis, view->view->matrel, delete_contents);
	mr_guise_end(&guise);
}

/* a plan over the tables, in the place of that over rows */
static void
plan_contents(MrLocalView *local)
{
	MrIngestView *view = local->view;
	MemoryContext old = MemoryContextSwitchTo(view->plan_context);
	MrGuise		guise;

	mr_guise_begin(&guise, view->owner, view->view->settings);
	view->plan = mr_plan_contents(view->analysis);
	view->grouping = mr_grouping_create(view->plan, view->analysis);
	mr_guise_end(&guise);
	MemoryContextSwitchTo(old);
}

static void
take_contents(MrLocalView *local)
{
	MrScanSource source = {.row = -1};

	PG_TRY();
	{
		mr_take_aggregate(&local->ingest, local->view, &source);
		mr_take_merge(&local->ingest, local->view);
	}
	PG_CATCH();
	{
		clean_up();
		PG_RE_THROW();
	}
	PG_END_TRY();
}

static void
fill(const MrView *view, bool from_rows)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "millrace fill",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	const MrView *registered = mr_catalog_view(view->view);
	MrLocalView *local;
	ListCell   *lc;

	PushActiveSnapshot(GetLatestSnapshot());
	local = mr_local_view_open_once(registered);
	foreach(lc, local->tables)
		mr_local_rows_skip(lfirst_oid(lc), view->view);
	mr_catalog_lock_contents(view->view);
	empty_matrel(local->view);
	PopActiveSnapshot();
	if (from_rows)
	{
		PushActiveSnapshot(GetLatestSnapshot());
		plan_contents(local);
		take_contents(local);
		PopActiveSnapshot();
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* ---------- following transactions ---------- */

static void
refuse_prepare(void)
{
	if (mr_local_rows_pending())
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot prepare a transaction that has inserted into a table that continuous views follow"),
				errdetail("The views' contents would be locked until the transaction is committed."));
}

static void
count_taken(void)
{
	ListCell   *lc;

	if (mr_shared != NULL)
		foreach(lc, taken)
	{
		const Taken *one = lfirst(lc);

		mr_shmem_count_rows(one->view, one->rows_in, one->rows_out, 0);
	}
	taken = NIL;
}

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			flush();
			break;
		case XACT_EVENT_PRE_PREPARE:
			refuse_prepare();
			break;
		case XACT_EVENT_COMMIT:
			count_taken();
			break;
		case XACT_EVENT_ABORT:
			taken = NIL;
			break;
		default:
			break;
	}
}

/*
 * The callback that is registered last is called first: what is sent to Kafka must be sent
 * after the views have their rows.
 */
void
mr_local_init(void)
{
	mr_local_fill = fill;
	mr_local_rows_init();
	mr_produce_init();
	RegisterXactCallback(xact_callback, NULL);
}
