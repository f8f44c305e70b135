/*
 * view/expiry.c
 *		Retention and windows: which rows are too old, for everybody who has to know.
 *
 * A group is too old when the value of one of its columns is less than now minus the
 * retention, the horizon.  Readers do not see it from that moment on; a worker removes it at
 * its leisure (ingest/retention.c); and a message that comes for it changes nothing, whether
 * or not it has been removed, but is counted: in the partial query the column's expression is
 * wrapped in kept(), which gives minus infinity for what is too old.  So such messages make
 * groups that no reader ever sees and that are removed with the others.
 *
 * A retention that is made longer does not bring back what was too old before: that horizon
 * is kept as removed_before.
 *
 * A row that has left a sliding window is removed a step later; nothing has to be counted.
 *
 * Days and months are of different lengths in different time zones, and a timestamp without
 * time zone is nobody's time: both are reckoned in the TimeZone that the view was created
 * under, so that all readers see the same.
 */
#include "millrace.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/tlist.h"
#include "parser/parse_func.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "view/choice.h"
#include "view/expiry.h"
#include "view/relations.h"
#include "view/split.h"
#include "view/window.h"

/* for kept() */
static const Timestamp *armed_horizons;
static int64 *armed_late;
static int	armed = 0;

PG_FUNCTION_INFO_V1(mr_kept_timestamp);
PG_FUNCTION_INFO_V1(mr_kept_date);

/*
 * What is set
 */

const char *
mr_expiry_zone(const List *settings)
{
	ListCell   *lc;

	foreach(lc, settings)
	{
		const char *setting = lfirst(lc);

		if (strncmp(setting, "TimeZone=", strlen("TimeZone=")) == 0)
			return setting + strlen("TimeZone=");
	}
	return "UTC";
}

MrExpiry *
mr_expiry_load(const MrView *view)
{
	MrExpiry   *expiry;
	List	   *retentions = mr_catalog_retentions(view->target);
	MrWindow   *window = mr_catalog_window(view->target);

	if (retentions == NIL && window == NULL)
		return NULL;
	expiry = palloc0(sizeof(MrExpiry));
	expiry->retentions = retentions;
	expiry->window = window;
	expiry->zone = mr_expiry_zone(view->settings);
	return expiry;
}

static const char *
output_name(const MrViewAnalysis *analysis, AttrNumber attno)
{
	return get_tle_by_resno(analysis->declared->targetList, attno)->resname;
}

/*
 * Does a row stay, or go, as long as the others of its group?  It does by a key; and a group's
 * latest time goes after all others.
 */
static bool
goes_last(const MrViewAnalysis *analysis, int column)
{
	return !analysis->has_aggregates || column < analysis->nkeys ||
		mr_choice_is_greatest(analysis, column);
}

static MrBound *
make_bound(const MrViewAnalysis *analysis, const MrRetention *retention, const char *zone)
{
	MrBound    *bound = palloc0(sizeof(MrBound));
	const char *name = output_name(analysis, retention->column);
	MrMatrelColumn *column;

	bound->column = mr_split_output_column((const MrSplit *) analysis, retention->column);
	column = bound->column < 0 ? NULL : list_nth(analysis->columns, bound->column);
	if (column == NULL || column->aggref != NULL || !goes_last(analysis, bound->column))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("retention column \"%s\" is not a group column", name),
				errdetail("Rows are removed whole, by a value that does not change."),
				errhint("Name an output column that the view groups by, such as date_trunc('minute', ts)."));
	bound->type = column->type;
	if (bound->type != TIMESTAMPTZOID && bound->type != TIMESTAMPOID && bound->type != DATEOID)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("retention column \"%s\" is of type %s", name, format_type_be(bound->type)),
				errhint("Name a column of type timestamp with time zone, timestamp or date."));
	bound->shown_as = retention->column;
	bound->age = retention->age;
	bound->removed_before = retention->removed_before;
	bound->zone = zone;
	return bound;
}

static MrBound *
make_window_bound(const MrViewAnalysis *analysis, const MrWindow *window, const char *zone)
{
	MrBound    *bound = palloc0(sizeof(MrBound));

	bound->column = analysis->window_column;
	bound->type = TIMESTAMPTZOID;
	bound->age = window->size;
	TIMESTAMP_NOBEGIN(bound->removed_before);
	bound->zone = zone;
	bound->is_window = true;
	bound->margin = mr_window_step(window);
	return bound;
}

List *
mr_expiry_bounds(const MrViewAnalysis *analysis, const MrExpiry *expiry)
{
	List	   *result = NIL;
	ListCell   *lc;

	if (expiry->window != NULL)
		result = lappend(result, make_window_bound(analysis, expiry->window, expiry->zone));
	foreach(lc, expiry->retentions)
		result = lappend(result, make_bound(analysis, lfirst(lc), expiry->zone));
	return result;
}

/*
 * The horizon, as a value
 */

Timestamp
mr_bound_horizon(const MrBound *bound, TimestampTz now)
{
	Datum		zone = CStringGetTextDatum(bound->zone);
	Datum		local;

	if (bound->age == NULL)
		return bound->removed_before;
	local = DirectFunctionCall2(timestamptz_zone, zone, TimestampTzGetDatum(now));
	local = DirectFunctionCall2(timestamp_mi_interval, local, IntervalPGetDatum(bound->age));
	if (bound->type == TIMESTAMPTZOID)
		local = DirectFunctionCall2(timestamp_zone, zone, local);
	return Max(DatumGetTimestamp(local) - bound->margin, bound->removed_before);
}

/*
 * AT TIME ZONE takes 'CET' for an abbreviation, an hour from Greenwich all the year; as TimeZone it is a place where
 * clocks are changed.
 */
void
mr_bound_check_zone(const MrBound *bound)
{
	TimestampTz now = GetCurrentTransactionStartTimestamp();

	if (bound->type == TIMESTAMPTZOID || bound->age == NULL)
		return;
	for (int half_year = 0; half_year < 2; half_year++)
	{
		Datum		time = TimestampTzGetDatum(now + half_year * 182 * USECS_PER_DAY);
		Datum		named = DirectFunctionCall2(timestamptz_zone, CStringGetTextDatum(bound->zone), time);

		if (DatumGetTimestamp(DirectFunctionCall1(timestamptz_timestamp, time)) != DatumGetTimestamp(named))
			ereport(ERROR,
					errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("retention by a column of type %s is not supported in time zone \"%s\"",
						   format_type_be(bound->type), bound->zone),
					errdetail("That is an abbreviation of another time zone, too."),
					errhint("Set TimeZone to a full name, such as 'Europe/Budapest'; or use a column of type timestamp with time zone."));
	}
}

/*
 * The horizon, as an expression
 */

static Expr *
now_expr(void)
{
	return (Expr *) makeFuncExpr(F_NOW, TIMESTAMPTZOID, NIL, InvalidOid, InvalidOid,
								 COERCE_EXPLICIT_CALL);
}

static Expr *
in_zone(const char *zone, Expr *time)
{
	Const	   *name = makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1, CStringGetTextDatum(zone),
								 false, false);
	bool		has_zone = exprType((Node *) time) == TIMESTAMPTZOID;

	return (Expr *) makeFuncExpr(has_zone ? F_TIMEZONE_TEXT_TIMESTAMPTZ : F_TIMEZONE_TEXT_TIMESTAMP,
								 has_zone ? TIMESTAMPOID : TIMESTAMPTZOID, list_make2(name, time),
								 InvalidOid, DEFAULT_COLLATION_OID, COERCE_EXPLICIT_CALL);
}

static Expr *
operation(const char *name, Expr *left, Expr *right)
{
	ParseState *pstate = make_parsestate(NULL);
	List	   *qualified = list_make2(makeString("pg_catalog"), makeString(pstrdup(name)));

	return make_op(pstate, qualified, (Node *) left, (Node *) right, NULL, -1);
}

static Expr *
horizon_expr(const MrBound *bound)
{
	Expr	   *age = (Expr *) makeConst(INTERVALOID, -1, InvalidOid, sizeof(Interval),
										 IntervalPGetDatum(bound->age), false, false);
	Expr	   *result;

	/* hours are the same everywhere */
	if (bound->type == TIMESTAMPTZOID && bound->age->month == 0 && bound->age->day == 0)
		return operation("-", now_expr(), age);
	result = operation("-", in_zone(bound->zone, now_expr()), age);
	return bound->type == TIMESTAMPTZOID ? in_zone(bound->zone, result) : result;
}

static Expr *
removed_expr(const MrBound *bound)
{
	Oid			type = bound->type == TIMESTAMPTZOID ? TIMESTAMPTZOID : TIMESTAMPOID;

	return (Expr *) makeConst(type, -1, InvalidOid, sizeof(Timestamp),
							  TimestampGetDatum(bound->removed_before), false, true);
}

Node *
mr_bound_qual(const MrBound *bound, Var *var)
{
	List	   *conditions = NIL;
	NullTest   *unknown = makeNode(NullTest);

	if (bound->age != NULL)
		conditions = lappend(conditions, operation(">=", (Expr *) var, horizon_expr(bound)));
	if (!TIMESTAMP_IS_NOBEGIN(bound->removed_before))
		conditions = lappend(conditions, operation(">=", (Expr *) var, removed_expr(bound)));
	if (conditions == NIL)
		return NULL;
	unknown->arg = (Expr *) copyObject(var);
	unknown->nulltesttype = IS_NULL;
	unknown->location = -1;
	return (Node *) make_orclause(list_make2(make_ands_explicit(conditions), unknown));
}

Node *
mr_window_qual(const MrBound *bound, Var *var)
{
	return (Node *) make_andclause(list_make2(operation(">=", (Expr *) var, horizon_expr(bound)),
											  operation("<=", (Expr *) copyObject(var), now_expr())));
}

/*
 * kept()
 */

Expr *
mr_bound_kept_expr(const MrBound *bound, int number, Expr *expr)
{
	Oid			types[] = {bound->type, INT4OID};
	Oid			function = LookupFuncName(list_make2(makeString(MR_SCHEMA), makeString("kept")),
										  2, types, false);
	Const	   *which = makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(number),
								  false, true);

	return (Expr *) makeFuncExpr(function, bound->type, list_make2(expr, which), InvalidOid,
								 InvalidOid, COERCE_EXPLICIT_CALL);
}

void
mr_expiry_arm(const Timestamp *horizons, int64 *late, int n)
{
	armed_horizons = horizons;
	armed_late = late;
	armed = n;
}

static bool
is_late(Timestamp value, int number)
{
	if (number < 0 || number >= armed || value >= armed_horizons[number])
		return false;
	armed_late[number]++;
	return true;
}

/* kept(value timestamp or timestamptz, bound integer): outside of ingest, the value */
Datum
mr_kept_timestamp(PG_FUNCTION_ARGS)
{
	Timestamp	value = PG_GETARG_TIMESTAMP(0);

	if (is_late(value, PG_GETARG_INT32(1)))
		TIMESTAMP_NOBEGIN(value);
	PG_RETURN_TIMESTAMP(value);
}

/* kept(value date, bound integer) */
Datum
mr_kept_date(PG_FUNCTION_ARGS)
{
	DateADT		value = PG_GETARG_DATEADT(0);
	int			overflow;

	if (is_late(date2timestamp_opt_overflow(value, &overflow), PG_GETARG_INT32(1)))
		DATE_NOBEGIN(value);
	PG_RETURN_DATEADT(value);
}

/*
 * The index to remove by
 */

void
mr_expiry_create_index(const MrView *view, const MrViewAnalysis *analysis, const MrBound *bound)
{
	MrMatrelColumn *column = list_nth(analysis->columns, bound->column);

	if (column->is_key && bound->column == 0)
		return;
	mr_relations_create_expiry_index(get_rel_name(view->view), view->matrel, column->name);
}
