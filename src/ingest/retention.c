/*
 * ingest/retention.c
 *		What a worker does for rows that leave views by age: keep late messages out of them,
 *		and remove them.
 *
 * Readers do not see such rows (view/expiry.c), so there is no hurry: a worker looks now and
 * then, between two steps, and removes a bounded number of rows per transaction, for a
 * bounded time.  The rows are found by an index; what they leave behind, vacuum gives to new
 * rows.
 *
 * Locking: as a merge, a removal holds the view's heavyweight lock, so that no row is updated
 * and removed at the same time.  All locks are only tried: next time will do, and who has one
 * may keep it for long, as an uncommitted replay() or rebuild() does.  The view is locked
 * against set_retention(), whose new value a worker that has the lock has heard of.
 */
#include "millrace.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "elapsed.h"
#include "failpoint.h"
#include "ingest/lock.h"
#include "ingest/open.h"
#include "ingest/retention.h"
#include "ingest/take.h"
#include "ingest/view_limit.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/params.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "rewrite/rewriteHandler.h"
#include "executor/executor.h"
#include "executor/tstoreReceiver.h"
#include "storage/lmgr.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "transaction.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "view/expiry.h"
#include "view/guise.h"
#include "view/plan.h"

#define REMOVE_ROWS		5000	/* most in one transaction */
#define REMOVE_MS		100		/* then messages come first again */

/* ---------- messages ---------- */

void
mr_retention_begin(MrIngestView *view)
{
	int			n = list_length(view->analysis->bounds);
	Timestamp  *horizons;
	ListCell   *lc;

	if (n == 0)
		return;
	horizons = palloc(sizeof(Timestamp) * n);
	view->late = palloc0(sizeof(int64) * n);
	foreach(lc, view->analysis->bounds)
		horizons[foreach_current_index(lc)] =
		mr_bound_horizon(lfirst(lc), GetCurrentTransactionStartTimestamp());
	mr_expiry_arm(horizons, view->late, n);
}

void
mr_retention_end(void)
{
	mr_expiry_arm(NULL, NULL, 0);
}

void
mr_retention_count(MrIngestView *view)
{
	ListCell   *lc;

	/* a rebuild reads again what was counted */
	if (view->late == NULL || view->view->target != view->view->view)
		return;
	foreach(lc, view->analysis->bounds)
	{
		int64		late = view->late[foreach_current_index(lc)];

		if (late > 0)
			mr_catalog_count_late(view->view->view, ((MrBound *) lfirst(lc))->shown_as, late);
	}
	view->late = NULL;
}

/* ---------- removing ---------- */

/* the horizon as a value to compare the column with, and its type */
static Datum
comparable(const MrBound *bound, Timestamp horizon, Oid *type)
{
	*type = bound->type == TIMESTAMPTZOID ? TIMESTAMPTZOID : TIMESTAMPOID;
	return TimestampGetDatum(horizon);
}

static bool
relations_walker(Node *node, List **relids)
{
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, relations_walker, relids);
	foreach(lc, ((Query *) node)->rtable)
		if (OidIsValid(lfirst_node(RangeTblEntry, lc)->relid))
		*relids = lappend_oid(*relids, lfirst_node(RangeTblEntry, lc)->relid);
	return query_tree_walker((Query *) node, relations_walker, relids, 0);
}

/*
 * A SELECT, analyzed: sql has the table's name wherever it says %s, and a parameter of the type
 * given.  It runs with the extension owner's rights, so it must be the table that the name
 * means: the schema's owner can make it mean a view with functions of his own.  Nothing after
 * this goes by name.
 */
static Query *
analyze_select(Oid relid, const char *sql, Oid type)
{
	RawStmt    *raw = linitial_node(RawStmt, raw_parser(sql, RAW_PARSE_DEFAULT));
	Query	   *query = parse_analyze_fixedparams(raw, sql, &type, 1, NULL);
	List	   *relids = NIL;
	ListCell   *lc;

	(void) relations_walker((Node *) query, &relids);
	foreach(lc, relids)
		if (lfirst_oid(lc) != relid)
		ereport(ERROR,
				errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				errmsg("schema of table \"%s\" was renamed while rows were removed from it",
					   get_rel_name(relid)));
	return query;
}

static char *
qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

/* the ctids that such a SELECT gives, as a tuplestore of one column */
static Tuplestorestate *
find_rows(Oid relid, const char *sql, Oid type, Datum value)
{
	Tuplestorestate *result = tuplestore_begin_heap(false, false, work_mem);
	DestReceiver *dest = CreateDestReceiver(DestTuplestore);
	ParamListInfo params = makeParamList(1);
	MrCatalogScope scope;
	Query	   *query;

	params->params[0].value = value;
	params->params[0].isnull = false;
	params->params[0].pflags = PARAM_FLAG_CONST;
	params->params[0].ptype = type;
	SetTuplestoreDestReceiverParams(dest, result, CurrentMemoryContext, false, NULL, NULL);
	mr_catalog_begin(&scope);
	query = analyze_select(relid, sql, type);
	(void) mr_plan_run(pg_plan_query(linitial_node(Query, QueryRewrite(query)), "retention", 0, params),
					   dest, params);
	mr_catalog_end(&scope);
	dest->rDestroy(dest);
	return result;
}

/* not by a DELETE, which would fire triggers; a row that somebody removed by hand is gone */
static bool
delete_row(Relation rel, ItemPointer tid, Snapshot snapshot)
{
	TM_FailureData failure;

	return table_tuple_delete(rel, tid, GetCurrentCommandId(true), snapshot, InvalidSnapshot, true,
							  &failure, false) == TM_Ok;
}

/* remove rows with these ctids, and tell the change feed, if there is one; how many there were */
static uint64
delete_rows(Oid relid, Tuplestorestate *ctids, MrChanges *changes)
{
	Relation	rel = table_open(relid, RowExclusiveLock);
	TupleDesc	desc = CreateTemplateTupleDesc(1);
	TupleTableSlot *row = table_slot_create(rel, NULL);
	TupleTableSlot *ctid;
	uint64		result = 0;

	TupleDescInitEntry(desc, 1, "ctid", TIDOID, -1, 0);
	ctid = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	while (tuplestore_gettupleslot(ctids, true, false, ctid))
	{
		bool		isnull;
		ItemPointer tid = (ItemPointer) DatumGetPointer(slot_getattr(ctid, 1, &isnull));

		result++;
		if (changes && table_tuple_fetch_row_version(rel, tid, GetActiveSnapshot(), row))
			mr_changes_note(changes, row, NULL);
		(void) delete_row(rel, tid, GetActiveSnapshot());
	}
	ExecDropSingleTupleTableSlot(ctid);
	ExecDropSingleTupleTableSlot(row);
	table_close(rel, NoLock);
	tuplestore_end(ctids);
	CommandCounterIncrement();
	return result;
}

/* delete rows of the matrel whose column is less than a bound; returns how many */
static uint64
delete_groups(const MrIngestView *view, const char *column, Oid type, Datum horizon)
{
	Oid			matrel = view->view->matrel;
	Tuplestorestate *ctids = find_rows(matrel, psprintf("SELECT ctid FROM %s WHERE %s < $1 LIMIT %d",
														qualified_name(matrel), quote_identifier(column), REMOVE_ROWS),
									   type, horizon);
	MrGuise		guise;
	uint64		result;

	mr_take_blame(view->view->view);
	mr_view_limit_begin(view->view->view, view->view, false);
	mr_guise_begin(&guise, view->owner, view->view->settings);
	if (view->changes)
		mr_changes_begin(view->changes, work_mem);
	result = delete_rows(matrel, ctids, view->changes);
	if (view->changes)
		mr_changes_write(view->changes, NULL);
	mr_guise_end(&guise);
	mr_take_done();
	return result;
}

/* is the view still there, and as it was opened?  Locks it, and who will take its changes */
static bool
lock_view(const MrIngest *ingest, const MrIngestView *ingest_view)
{
	const MrView *view = ingest_view->view;
	List	   *followers = NIL;
	MrBusy		busy;

	if (!ConditionalLockRelationOid(view->target, AccessShareLock) ||
		!ConditionalLockRelationOid(view->matrel, RowExclusiveLock) ||
		!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(view->matrel)) ||
		(ingest_view->changes && !ConditionalLockRelationOid(mr_changes_table(ingest_view->changes), RowExclusiveLock)) ||
		!mr_try_lock_followers(ingest_view, &followers, &busy))
		return false;
	return mr_catalog_try_lock_contents(view->view) && mr_try_lock_followers_contents(followers) &&
		!mr_ingest_is_stale(ingest);
}

/* one transaction; true when it may have left some */
static bool
remove_some(const MrIngest *ingest, const MrIngestView *view, const MrBound *bound)
{
	MemoryContext old = CurrentMemoryContext;
	const MrMatrelColumn *column = list_nth(view->analysis->columns, bound->column);
	uint64		removed = 0;

	mr_start_transaction();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (lock_view(ingest, view))
	{
		Timestamp	horizon = mr_bound_horizon(bound, GetCurrentTransactionStartTimestamp());
		Oid			type;
		Datum		value = comparable(bound, horizon, &type);

		/* with the lock, a snapshot that shows what others have merged */
		PushActiveSnapshot(GetLatestSnapshot());
		MR_FAILPOINT("retention-locked");
		removed = delete_groups(view, column->name, type, value);
		MR_FAILPOINT("retention-removed");
		PopActiveSnapshot();
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	return removed == REMOVE_ROWS;
}

/* one transaction: changes that are too old; true when it may have left some */
static bool
remove_changes(const MrIngest *ingest, const MrIngestView *view)
{
	MemoryContext old = CurrentMemoryContext;
	Oid			table = mr_changes_table(view->changes);
	MrChangeFeed *feed;
	uint64		removed = 0;

	mr_start_transaction();
	PushActiveSnapshot(GetTransactionSnapshot());
	feed = mr_catalog_change_feed(view->view->view);
	if (feed != NULL && feed->retention != NULL &&
		ConditionalLockRelationOid(table, RowExclusiveLock) && !mr_ingest_is_stale(ingest))
	{
		/*
		 * the oldest are the first; what is gone already is passed over by
		 * the index
		 */
		removed = delete_rows(table,
							  find_rows(table,
										psprintf("SELECT ctid FROM (SELECT ctid, changed_at FROM %s ORDER BY id LIMIT %d) o"
												 " WHERE changed_at < pg_catalog.now() - $1",
												 qualified_name(table), REMOVE_ROWS),
										INTERVALOID, IntervalPGetDatum(feed->retention)),
							  NULL);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	return removed == REMOVE_ROWS;
}

/* true when the view may have rows left that are too old */
static bool
remove_from_view(const MrIngest *ingest, const MrIngestView *view, TimestampTz until)
{
	bool		more = false;
	bool		left;
	ListCell   *lc;

	foreach(lc, view->analysis->bounds)
	{
		do
		{
			CHECK_FOR_INTERRUPTS();
			left = remove_some(ingest, view, lfirst(lc));
		} while (left && mr_steady_time() < until);
		more = more || left;
	}
	if (view->changes && view->view->target == view->view->view)
	{
		do
		{
			CHECK_FOR_INTERRUPTS();
			left = remove_changes(ingest, view);
		} while (left && mr_steady_time() < until);
		more = more || left;
	}
	return more;
}

bool
mr_retention_remove(MrIngest *ingest)
{
	TimestampTz until = TimestampTzPlusMilliseconds(mr_steady_time(), REMOVE_MS);
	bool		more = false;
	ListCell   *lc;

	mr_take_begin_removal();
	foreach(lc, ingest->views)
		if (remove_from_view(ingest, lfirst(lc), until))
		more = true;
	mr_take_end_removal();
	return more;
}
