/*
 * view/window.c
 *		Sliding windows: the time of a message, and the step that it falls into.
 *
 * A view with a window groups by one more column, the step of the message's time, so that
 * the matrel holds a state per group and step; the reader merges the states of those steps
 * that lie in the window now (view/rewrite.c).  So rows leave the window without any work.  A
 * view without aggregates keeps the time itself.
 *
 * Steps are counted from 2001-01-01 00:00 UTC, a Monday, and named by their beginning.  A
 * step is shown as long as its beginning is not older than the window: nothing that is too
 * old is ever shown.
 *
 * A message whose time is ahead of the clock when it is taken in must not be shown with the
 * others of its step, which may have begun: it goes into a row of its own, named by the last
 * microsecond of the step, which has come when the step is over.  Half a step, but no more
 * than a second, is forgiven: clocks differ.  What is older than the window, or has no time,
 * is named minus infinity: nobody sees it, and it is removed.
 *
 * The time is a column of the stream, which may lie below subqueries and UNION ALL: it is
 * handed up from there.  The message's own timestamp need not be a column: scans of a batch
 * give it as ctid, which goes up the same way.
 */
#include "millrace.h"

#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog_view.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/tlist.h"
#include "parser/parse_func.h"
#include "parser/parsetree.h"
#include "stream/batch.h"
#include "stream/epoch.h"
#include "stream/option.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "view/split.h"
#include "view/window.h"

#define STEPS_PER_WINDOW	20
#define MIN_STEP			1000	/* microseconds */
#define STEP_ORIGIN			(366 * USECS_PER_DAY)	/* 2001-01-01, a Monday */
#define FORGIVEN_AHEAD		USECS_PER_SEC

/* window_step()'s memory between calls: what holds for one transaction */
typedef struct StepCache
{
	TimestampTz now;
	TimestampTz oldest;
	int64		step;			/* 0: times are not rounded */
	int64		forgiven;
} StepCache;

PG_FUNCTION_INFO_V1(mr_window_step_of);
PG_FUNCTION_INFO_V1(mr_message_time);

static Expr *time_of_query(Query *query, const MrWindow *window);

/*
 * Arguments
 */

/* as interval comparisons reckon: a month is 30 days, a day 24 hours; the most there is for more */
static int64
interval_length(const Interval *interval)
{
	int64		days = interval->day + interval->month * INT64CONST(30);
	int64		result;

	if (pg_mul_s64_overflow(days, USECS_PER_DAY, &result) ||
		pg_add_s64_overflow(result, interval->time, &result))
		return days < 0 ? PG_INT64_MIN : PG_INT64_MAX;
	return result;
}

static Interval *
interval_of_length(int64 length)
{
	Interval   *result = palloc0(sizeof(Interval));

	result->time = length;
	return result;
}

static void
check_step(const Interval *step, int64 window)
{
	if (step->month != 0)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("a step of months or years is not supported"),
				errhint("Months are not equally long; give the step in days or less."));
	if (interval_length(step) < MIN_STEP)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("step must be at least 1 millisecond"));
	if (interval_length(step) > window)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("step must not be larger than the sliding window"),
				errhint("The window is cut into steps; leave step out for a twentieth of it."));
}

MrWindow *
mr_window_from_arguments(Interval *size, char *time_column, Interval *step)
{
	MrWindow   *result = palloc0(sizeof(MrWindow));

	if (size == NULL && (time_column != NULL || step != NULL))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"%s\" needs \"sliding_window\"", time_column != NULL ? "time_column" : "step"),
				errhint("Say how much of the stream the view shows, as in sliding_window => '1 hour'."));
	if (size == NULL)
		return NULL;
	if (interval_length(size) < MIN_STEP)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("sliding_window must be at least 1 millisecond"));
	if (interval_length(size) == PG_INT64_MAX)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("sliding_window is too long"),
				errhint("Leave it out for a view that shows the whole stream."));
	if (step == NULL)
		step = interval_of_length(Max(interval_length(size) / STEPS_PER_WINDOW, MIN_STEP));
	check_step(step, interval_length(size));
	result->size = size;
	result->step = step;
	result->time_column = time_column;
	return result;
}

int64
mr_window_step(const MrWindow *window)
{
	return interval_length(window->step);
}

/*
 * The time of a message
 */

static Oid
our_function(const char *name, int nargs, const Oid *types)
{
	return LookupFuncName(list_make2(makeString(MR_SCHEMA), makeString(pstrdup(name))), nargs,
						  types, false);
}

/* a time as timestamp with time zone; utc: without a time zone it is UTC */
static Expr *
with_zone(Expr *time, bool utc)
{
	Oid			type = exprType((Node *) time);
	Oid			function = type == DATEOID ? F_TIMESTAMPTZ_DATE : F_TIMESTAMPTZ_TIMESTAMP;

	if (type == TIMESTAMPTZOID)
		return time;
	if (utc)
		return (Expr *) makeFuncExpr(F_TIMEZONE_TEXT_TIMESTAMP, TIMESTAMPTZOID,
									 list_make2(makeConst(TEXTOID, -1, InvalidOid, -1,
														  CStringGetTextDatum("UTC"), false, false),
												time),
									 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	return (Expr *) makeFuncExpr(function, TIMESTAMPTZOID, list_make1(time), InvalidOid, InvalidOid,
								 COERCE_EXPLICIT_CALL);
}

/* attribute number of a stream's time column; ERROR with hint when it cannot be one */
static AttrNumber
find_time_column(Oid stream, const char *name)
{
	AttrNumber	attno = get_attnum(stream, name);
	Oid			type;

	if (attno <= 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_COLUMN),
				errmsg("time column \"%s\" of stream \"%s\" does not exist", name, get_rel_name(stream)),
				errhint("Name a column of the stream, not one of the view."));
	type = get_atttype(stream, attno);
	if (type != TIMESTAMPTZOID && type != TIMESTAMPOID && type != DATEOID)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("time column \"%s\" of stream \"%s\" is of type %s",
					   name, get_rel_name(stream), format_type_be(type)),
				errhint("Name a column of type timestamp with time zone, timestamp or date."));
	return attno;
}

/* the column that is a message's timestamp, or 0 */
static AttrNumber
find_timestamp_column(Oid relid)
{
	MrStream   *stream;

	if (!mr_is_stream(relid))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a sliding window over table \"%s\" needs \"time_column\"", get_rel_name(relid)),
				errhint("Name the column of the table that is the event's time."));
	stream = mr_stream_get(relid);
	for (int i = 0; i < stream->natts; i++)
	{
		const MrColumn *column = &stream->columns[i];

		if (column->attnum != InvalidAttrNumber && column->metadata == MR_META_TIMESTAMP)
			return column->attnum;
	}
	return 0;
}

static Expr *
time_of_stream(Query *query, Index rti, RangeTblEntry *rte, const MrWindow *window)
{
	AttrNumber	attno = window->time_column != NULL ?
	find_time_column(rte->relid, window->time_column) : find_timestamp_column(rte->relid);
	Oid			types[] = {TIDOID};
	Var		   *var;

	if (attno == 0)
	{
		var = makeVar(rti, SelfItemPointerAttributeNumber, TIDOID, -1, InvalidOid, 0);
		return (Expr *) makeFuncExpr(our_function("message_time", 1, types), TIMESTAMPTZOID,
									 list_make1(var), InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	}
	mr_select_rte_column(query, rte, attno);
	var = makeVar(rti, attno, get_atttype(rte->relid, attno), -1, InvalidOid, 0);
	return with_zone((Expr *) var, window->time_column == NULL);
}

/* show the time of a query one level down, and refer to it; NULL: it reads no stream */
static Expr *
time_of_subquery(Index rti, RangeTblEntry *rte, const MrWindow *window)
{
	Expr	   *time = time_of_query(rte->subquery, window);
	AttrNumber	attno;

	if (time == NULL)
		return NULL;
	attno = mr_query_add_column(rte->subquery, time, "time");
	while (list_length(rte->eref->colnames) < attno)
		rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup("time")));
	return (Expr *) makeVar(rti, attno, TIMESTAMPTZOID, -1, InvalidOid, 0);
}

static Expr *
time_of_rte(Query *query, Index rti, const MrWindow *window)
{
	RangeTblEntry *rte = rt_fetch(rti, query->rtable);

	if (rte->rtekind == RTE_SUBQUERY)
		return time_of_subquery(rti, rte, window);
	if (rte->rtekind != RTE_RELATION)
		return NULL;
	if (mr_split_is_stream(rte->relid))
		return time_of_stream(query, rti, rte, window);
	if (rte->relkind == RELKIND_VIEW && mr_relation_is_row_view(rte->relid))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("a sliding window over view \"%s\" is not supported", get_rel_name(rte->relid)),
				errhint("Write the view's query as a subquery in FROM."));
	return NULL;
}

static Expr *
time_of_jointree(Query *query, Node *node, const MrWindow *window)
{
	Expr	   *result = NULL;
	ListCell   *lc;

	if (node == NULL)
		return NULL;
	if (IsA(node, RangeTblRef))
		return time_of_rte(query, ((RangeTblRef *) node)->rtindex, window);
	if (IsA(node, JoinExpr))
	{
		result = time_of_jointree(query, ((JoinExpr *) node)->larg, window);
		return result != NULL ? result : time_of_jointree(query, ((JoinExpr *) node)->rarg, window);
	}
	foreach(lc, castNode(FromExpr, node)->fromlist)
	{
		if ((result = time_of_jointree(query, lfirst(lc), window)) != NULL)
			break;
	}
	return result;
}

/* each branch of UNION ALL shows it as its last column */
static Expr *
time_of_branches(Query *query, Node *node, const MrWindow *window)
{
	SetOperationStmt *setop;
	Expr	   *result;

	if (IsA(node, RangeTblRef))
		return time_of_rte(query, ((RangeTblRef *) node)->rtindex, window);
	setop = castNode(SetOperationStmt, node);
	result = time_of_branches(query, setop->larg, window);
	(void) time_of_branches(query, setop->rarg, window);
	setop->colTypes = lappend_oid(setop->colTypes, TIMESTAMPTZOID);
	setop->colTypmods = lappend_int(setop->colTypmods, -1);
	setop->colCollations = lappend_oid(setop->colCollations, InvalidOid);
	return result;
}

/* the time of a query's rows, in its own terms; NULL: it reads no stream */
static Expr *
time_of_query(Query *query, const MrWindow *window)
{
	check_stack_depth();
	if (query->setOperations == NULL)
		return time_of_jointree(query, (Node *) query->jointree, window);
	return time_of_branches(query, query->setOperations, window);
}

/*
 * The window's column in the batch's half
 */

static Expr *
interval_const(const Interval *interval)
{
	if (interval == NULL)
		return (Expr *) makeNullConst(INTERVALOID, -1, InvalidOid);
	return (Expr *) makeConst(INTERVALOID, -1, InvalidOid, sizeof(Interval),
							  IntervalPGetDatum(interval), false, false);
}

void
mr_window_fill(Query *partial, int column, const MrWindow *window, bool in_steps)
{
	TargetEntry *tle = list_nth_node(TargetEntry, partial->targetList, column);
	Oid			types[] = {TIMESTAMPTZOID, INTERVALOID, INTERVALOID};
	Expr	   *time = time_of_query(partial, window);

	if (time == NULL)
		elog(ERROR, "could not find the stream of a sliding window");
	tle->expr = (Expr *) makeFuncExpr(our_function("window_step", 3, types), TIMESTAMPTZOID,
									  list_make3(time, interval_const(window->size),
												 interval_const(in_steps ? window->step : NULL)),
									  InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

/* message_time(ctid): the timestamp of the message that a row of the batch came from */
Datum
mr_message_time(PG_FUNCTION_ARGS)
{
	int64		ms = mr_batch_time_from_tid((ItemPointer) PG_GETARG_POINTER(0));

	if (ms < 0 || ms > END_TIMESTAMP / 1000)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(ms * 1000 - MR_POSTGRES_EPOCH_USECS);
}

static StepCache *
step_cache(FunctionCallInfo fcinfo)
{
	StepCache  *cache = fcinfo->flinfo->fn_extra;
	TimestampTz now = GetCurrentTransactionStartTimestamp();

	if (cache != NULL && cache->now == now)
		return cache;
	if (cache == NULL)
		cache = fcinfo->flinfo->fn_extra = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(StepCache));
	cache->now = now;
	cache->step = PG_ARGISNULL(2) ? 0 : interval_length(PG_GETARG_INTERVAL_P(2));
	cache->forgiven = Min(cache->step / 2, FORGIVEN_AHEAD);
	cache->oldest = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval, TimestampTzGetDatum(now),
															PG_GETARG_DATUM(1))) - cache->step - USECS_PER_DAY;
	return cache;
}

/*
 * window_step(time, sliding_window, step): the name of the step; step null: the time itself.
 * A day is added to the window here: who reads may reckon in another time zone.
 */
Datum
mr_window_step_of(PG_FUNCTION_ARGS)
{
	StepCache  *cache;
	TimestampTz time;
	int64		rest;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_TIMESTAMPTZ(DT_NOBEGIN);
	cache = step_cache(fcinfo);
	time = PG_GETARG_TIMESTAMPTZ(0);
	if (time < cache->oldest)
		PG_RETURN_TIMESTAMPTZ(DT_NOBEGIN);
	if (cache->step == 0 || TIMESTAMP_NOT_FINITE(time))
		PG_RETURN_TIMESTAMPTZ(time);
	rest = (time - STEP_ORIGIN) % cache->step;
	if (rest < 0)
		rest += cache->step;
	if (time > cache->now + cache->forgiven)
		PG_RETURN_TIMESTAMPTZ(time - rest + cache->step - 1);
	PG_RETURN_TIMESTAMPTZ(time - rest);
}

/*
 * Streams that change
 */

void
mr_window_check_stream(Oid stream)
{
	ListCell   *lc;

	foreach(lc, mr_catalog_views_of_stream(stream))
	{
		MrView	   *view = lfirst(lc);
		MrWindow   *window = mr_catalog_window(view->target);

		if (window == NULL || window->time_column == NULL)
			continue;
		if (get_attnum(stream, window->time_column) == InvalidAttrNumber)
			ereport(ERROR,
					errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					errmsg("cannot drop or rename column \"%s\" of stream \"%s\" because the sliding window of continuous view \"%s\" goes by it",
						   window->time_column, get_rel_name(stream), get_rel_name(view->target)),
					errhint("Drop the view first."));
		(void) find_time_column(stream, window->time_column);
	}
}
