/*
 * stream/bounds.c
 *		What a query's conditions say of the part of a topic that can hold its rows.
 *
 * Recognized are comparisons (=, <, <=, >, >=; BETWEEN is two of them) of a partition,
 * offset or timestamp column with an expression that is the same for all rows, and IN or
 * = ANY on the partition.  They are recognized in a plan's own conditions at executor start,
 * so the plan carries nothing but these.
 *
 * Timestamps give a start only: the broker's first offset with a timestamp at or after the
 * one wanted has only earlier ones before it, but after the first later timestamp earlier
 * ones may follow, because producers set them.
 */
#include "millrace.h"

#include "stream/bounds.h"
#include "stream/epoch.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "utils/array.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

/* one recognized condition: column <strategy> operand */
typedef struct BoundClause
{
	const MrColumn *column;
	int			strategy;		/* of a btree: less, less or equal, … */
	Expr	   *operand;
	Oid			type;			/* of the operand; of its elements if is_array */
	bool		is_array;		/* = ANY (operand) */
	ExprState  *state;
} BoundClause;

struct MrBoundExprs
{
	List	   *clauses;		/* of BoundClause * */
};


/*
 * Recognizing
 */

/* The metadata column that an expression is, or NULL. */
static const MrColumn *
bound_column(const MrStream *stream, Index scanrelid, Node *node)
{
	Var		   *var = (Var *) node;
	const MrColumn *column;

	if (!IsA(node, Var) || var->varno != scanrelid || var->varlevelsup != 0 ||
		var->varattno < 1 || var->varattno > stream->natts)
		return NULL;
	column = &stream->columns[var->varattno - 1];
	if (column->metadata == MR_META_PARTITION || column->metadata == MR_META_OFFSET ||
		column->metadata == MR_META_TIMESTAMP)
		return column;
	return NULL;
}

/* Has it one value for all rows of a scan? */
static bool
is_scan_constant(Node *node)
{
	return !contain_var_clause(node) && !contain_volatile_functions(node) &&
		!contain_subplans(node);
}

/* Can bounds be had from comparing the column with something of that type? */
static bool
is_bound_type(const MrColumn *column, Oid type)
{
	if (column->metadata != MR_META_TIMESTAMP)
		return type == INT2OID || type == INT4OID || type == INT8OID;
	if (column->type == TIMESTAMPOID)
		return type == TIMESTAMPOID;
	return type == TIMESTAMPTZOID || type == TIMESTAMPOID || type == DATEOID;
}

static int
bound_strategy(const MrColumn *column, Oid opno)
{
	Oid			opfamily = lookup_type_cache(column->type, TYPECACHE_BTREE_OPFAMILY)->btree_opf;

	return get_op_opfamily_strategy(opno, opfamily);
}

static bool
match_comparison(const MrStream *stream, Index scanrelid, OpExpr *op, BoundClause *clause)
{
	Oid			opno = op->opno;
	Node	   *left;
	Node	   *right;

	if (list_length(op->args) != 2)
		return false;
	left = linitial(op->args);
	right = lsecond(op->args);
	clause->column = bound_column(stream, scanrelid, left);
	if (clause->column == NULL)
	{
		Node	   *swap = left;

		left = right;
		right = swap;
		opno = get_commutator(opno);
		clause->column = bound_column(stream, scanrelid, left);
	}
	if (clause->column == NULL || !OidIsValid(opno))
		return false;

	clause->strategy = bound_strategy(clause->column, opno);
	clause->operand = (Expr *) right;
	clause->type = exprType(right);
	clause->is_array = false;
	return clause->strategy != 0 && is_bound_type(clause->column, clause->type) &&
		is_scan_constant(right);
}

static bool
match_any(const MrStream *stream, Index scanrelid, ScalarArrayOpExpr *op, BoundClause *clause)
{
	Node	   *array = lsecond(op->args);

	clause->column = bound_column(stream, scanrelid, linitial(op->args));
	if (!op->useOr || clause->column == NULL ||
		clause->column->metadata != MR_META_PARTITION)
		return false;
	clause->strategy = bound_strategy(clause->column, op->opno);
	clause->operand = (Expr *) array;
	clause->type = get_element_type(exprType(array));
	clause->is_array = true;
	return clause->strategy == BTEqualStrategyNumber &&
		is_bound_type(clause->column, clause->type) && is_scan_constant(array);
}

static bool
match_clause(const MrStream *stream, Index scanrelid, Node *node, BoundClause *clause)
{
	if (IsA(node, OpExpr))
		return match_comparison(stream, scanrelid, (OpExpr *) node, clause);
	if (IsA(node, ScalarArrayOpExpr))
		return match_any(stream, scanrelid, (ScalarArrayOpExpr *) node, clause);
	return false;
}

List *
mr_bounds_clauses(const MrStream *stream, Index scanrelid, List *quals)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, quals)
	{
		BoundClause clause;

		if (match_clause(stream, scanrelid, lfirst(lc), &clause))
			result = lappend(result, lfirst(lc));
	}
	return result;
}

MrBoundExprs *
mr_bounds_init(const MrStream *stream, Index scanrelid, List *clauses, PlanState *planstate)
{
	MrBoundExprs *exprs = palloc0(sizeof(MrBoundExprs));
	ListCell   *lc;

	foreach(lc, clauses)
	{
		BoundClause *clause = palloc0(sizeof(BoundClause));

		if (!match_clause(stream, scanrelid, lfirst(lc), clause))
			continue;
		clause->state = ExecInitExpr(clause->operand, planstate);
		exprs->clauses = lappend(exprs->clauses, clause);
	}
	return exprs;
}


/*
 * Evaluating
 */

/* Narrow [min, max] by: value <strategy> operand. */
static void
narrow(int64 *min, int64 *max, int strategy, int64 operand)
{
	int64		lo = PG_INT64_MIN;
	int64		hi = PG_INT64_MAX;

	switch (strategy)
	{
		case BTLessStrategyNumber:
			/* nothing is less than the least: an empty range */
			lo = operand == PG_INT64_MIN ? PG_INT64_MAX : lo;
			hi = operand == PG_INT64_MIN ? PG_INT64_MIN : operand - 1;
			break;
		case BTLessEqualStrategyNumber:
			hi = operand;
			break;
		case BTEqualStrategyNumber:
			lo = hi = operand;
			break;
		case BTGreaterEqualStrategyNumber:
			lo = operand;
			break;
		case BTGreaterStrategyNumber:
			lo = operand == PG_INT64_MAX ? PG_INT64_MAX : operand + 1;
			hi = operand == PG_INT64_MAX ? PG_INT64_MIN : hi;
			break;
	}
	*min = Max(*min, lo);
	*max = Min(*max, hi);
}

static int64
integer_operand(Datum value, Oid type)
{
	switch (type)
	{
		case INT2OID:
			return DatumGetInt16(value);
		case INT4OID:
			return DatumGetInt32(value);
		default:
			return DatumGetInt64(value);
	}
}

/* Raise timestamp_min to what timestamp <strategy> operand allows. */
static void
narrow_timestamp(MrBounds *bounds, const BoundClause *clause, Datum value)
{
	Timestamp	ts = DatumGetTimestamp(value);
	int64		usecs;
	int64		ms;
	int			overflow;

	if (clause->strategy == BTLessStrategyNumber || clause->strategy == BTLessEqualStrategyNumber)
		return;

	/* as the operators do: what is out of range becomes infinite */
	if (clause->type == DATEOID)
		ts = date2timestamptz_opt_overflow(DatumGetDateADT(value), &overflow);
	else if (clause->type == TIMESTAMPOID && clause->column->type == TIMESTAMPTZOID)
		ts = timestamp2timestamptz_opt_overflow(ts, &overflow);

	if (TIMESTAMP_IS_NOBEGIN(ts))
		return;
	if (TIMESTAMP_IS_NOEND(ts))
	{
		bounds->empty = true;
		return;
	}

	/* the first millisecond at or after, respectively after, that instant */
	usecs = ts + MR_POSTGRES_EPOCH_USECS;
	ms = usecs / 1000;
	if (usecs >= 0 && (usecs % 1000 != 0 || clause->strategy == BTGreaterStrategyNumber))
		ms++;
	if (ms > 0)
		bounds->timestamp_min = Max(bounds->timestamp_min, ms);
}

static void
narrow_partition_list(MrBounds *bounds, const BoundClause *clause, Datum value)
{
	ArrayType  *array = DatumGetArrayTypeP(value);
	List	   *partitions = NIL;
	Datum	   *elems;
	bool	   *nulls;
	int			n;
	int16		typlen;
	bool		typbyval;
	char		typalign;

	get_typlenbyvalalign(clause->type, &typlen, &typbyval, &typalign);
	deconstruct_array(array, clause->type, typlen, typbyval, typalign, &elems, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		int64		partition = nulls[i] ? -1 : integer_operand(elems[i], clause->type);

		if (partition >= 0 && partition <= PG_INT32_MAX)
			partitions = list_append_unique_int(partitions, (int) partition);
	}
	bounds->partition_lists = lappend(bounds->partition_lists, partitions);
}

static void
evaluate_clause(const BoundClause *clause, ExprContext *econtext, MrBounds *bounds)
{
	bool		isnull;
	Datum		value = ExecEvalExprSwitchContext(clause->state, econtext, &isnull);

	if (isnull)
		bounds->empty = true;	/* all these operators are strict */
	else if (clause->is_array)
		narrow_partition_list(bounds, clause, value);
	else if (clause->column->metadata == MR_META_PARTITION)
		narrow(&bounds->partition_min, &bounds->partition_max, clause->strategy,
			   integer_operand(value, clause->type));
	else if (clause->column->metadata == MR_META_OFFSET)
		narrow(&bounds->offset_min, &bounds->offset_max, clause->strategy,
			   integer_operand(value, clause->type));
	else
		narrow_timestamp(bounds, clause, value);
}

void
mr_bounds_evaluate(MrBoundExprs *exprs, ExprContext *econtext, MrBounds *bounds)
{
	ListCell   *lc;

	memset(bounds, 0, sizeof(MrBounds));
	bounds->partition_min = 0;
	bounds->partition_max = PG_INT32_MAX;
	bounds->offset_min = 0;
	bounds->offset_max = PG_INT64_MAX;
	bounds->timestamp_min = PG_INT64_MIN;

	foreach(lc, exprs->clauses)
		evaluate_clause(lfirst(lc), econtext, bounds);

	if (bounds->partition_min > bounds->partition_max ||
		bounds->offset_min > bounds->offset_max)
		bounds->empty = true;
}

bool
mr_bounds_has_partition(const MrBounds *bounds, int32 partition)
{
	ListCell   *lc;

	if (bounds->empty || partition < bounds->partition_min || partition > bounds->partition_max)
		return false;
	foreach(lc, bounds->partition_lists)
	{
		if (!list_member_int(lfirst(lc), partition))
			return false;
	}
	return true;
}
