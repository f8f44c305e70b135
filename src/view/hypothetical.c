/*
 * view/hypothetical.c
 *		Hypothetical-set aggregates as counts.
 *
 * A hypothetical-set aggregate asks how many rows come before one that it is given: rank(),
 * percent_rank() and cume_dist() are counts of rows that a condition holds for, exact and as
 * small as any count; dense_rank() is a count of distinct values.  The condition is the sort
 * order's, written out column by column: a row comes before another where the first column
 * that differs says so, nulls where NULLS FIRST or LAST puts them.
 */
#include "millrace.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "view/hypothetical.h"
#include "view/split.h"
#include "view/substitute.h"

/* one column of a hypothetical-set aggregate's sort order */
typedef struct OrderColumn
{
	Expr	   *value;			/* a row's */
	Expr	   *given;			/* the hypothetical row's */
	Oid			before;			/* the order's operator */
	Oid			equal;
	bool		nulls_first;
} OrderColumn;

static Expr *
either(Expr *a, Expr *b)
{
	return makeBoolExpr(OR_EXPR, list_make2(a, b), -1);
}

static Expr *
compare(Oid operator, const OrderColumn *column)
{
	return make_opclause(operator, BOOLOID, false, copyObject(column->value), copyObject(column->given),
						 InvalidOid, exprCollation((Node *) column->value));
}

/* ---------- the order ---------- */

/* true where the row's value stands before the given one, false or null elsewhere */
static Expr *
value_before(const OrderColumn *column)
{
	const Expr *early = column->nulls_first ? column->value : column->given;
	const Expr *late = column->nulls_first ? column->given : column->value;
	Expr	   *before = compare(column->before, column);

	if (IsA(column->given, Const) && !((Const *) column->given)->constisnull && !column->nulls_first)
		return before;
	return mr_substitute_both(mr_substitute_is_null(late, false), either(mr_substitute_is_null(early, true), before));
}

/* and where they are peers */
static Expr *
value_same(const OrderColumn *column)
{
	return either(compare(column->equal, column),
				  mr_substitute_both(mr_substitute_is_null(column->value, true), mr_substitute_is_null(column->given, true)));
}

/* a row's place in an order: before the given row, or as its peer */
static Expr *
row_before(List *order, bool or_same)
{
	Expr	   *result = NULL;

	for (int i = list_length(order) - 1; i >= 0; i--)
	{
		OrderColumn *column = list_nth(order, i);
		Expr	   *rest = result;

		if (rest == NULL && or_same)
			result = either(value_before(column), value_same(column));
		else if (rest == NULL)
			result = value_before(column);
		else
			result = either(value_before(column), mr_substitute_both(value_same(column), rest));
	}
	return result;
}

static List *
order_of(const Aggref *aggref)
{
	List	   *result = NIL;
	ListCell   *lc;
	ListCell   *lc2;

	forboth(lc, aggref->aggorder, lc2, aggref->aggdirectargs)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, lc);
		OrderColumn *column = palloc(sizeof(OrderColumn));

		column->value = get_sortgroupclause_tle(clause, aggref->args)->expr;
		column->given = lfirst(lc2);
		column->before = clause->sortop;
		column->equal = clause->eqop;
		column->nulls_first = clause->nulls_first;
		result = lappend(result, column);
	}
	return result;
}

/* ---------- counts ---------- */

static Expr *
count_rows(const Aggref *call, Expr *condition)
{
	Aggref	   *count = mr_substitute_aggregate(call, F_COUNT_, INT8OID, condition);

	count->aggstar = true;
	return (Expr *) count;
}

/*
 * A rank out of counts.  Where each group gives a row of its own, there is no such row for several groups: one
 * more argument tells combine() so.
 */
static Expr *
rank_call(const Aggref *call, const char *name, Oid result, List *counts)
{
	if (contain_vars_of_level((Node *) call->aggdirectargs, call->agglevelsup))
		counts = lappend(counts, makeBoolConst(true, false));
	return mr_substitute_call(name, result, counts, NULL);
}

Expr *
mr_hypothetical_rank(const Aggref *call)
{
	return rank_call(call, "rank_after", INT8OID, list_make1(count_rows(call, row_before(order_of(call), false))));
}

Expr *
mr_hypothetical_percent_rank(const Aggref *call)
{
	return rank_call(call, "percent_rank_after", FLOAT8OID,
					 list_make2(count_rows(call, row_before(order_of(call), false)), count_rows(call, NULL)));
}

Expr *
mr_hypothetical_cume_dist(const Aggref *call)
{
	return rank_call(call, "cume_dist_after", FLOAT8OID,
					 list_make2(count_rows(call, row_before(order_of(call), true)), count_rows(call, NULL)));
}

/* are values of the type equal just where their text is? */
static bool
is_equal_as_text(Oid type, Oid collation)
{
	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case BOOLOID:
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
		case UUIDOID:
		case BYTEAOID:
			return true;
		case TEXTOID:
		case VARCHAROID:
			return get_collation_isdeterministic(collation);
		default:
			return type_is_enum(type);
	}
}

/* a column whose text, whatever the settings, tells it from others: an hour may have the same name as the next one */
static Expr *
distinct_text(const Expr *value)
{
	Expr	   *result = (Expr *) copyObject(value);
	Const	   *zone;

	if (exprType((Node *) value) != TIMESTAMPTZOID)
		return result;
	zone = makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1, CStringGetTextDatum("UTC"), false, false);
	return (Expr *) makeFuncExpr(F_TIMEZONE_TEXT_TIMESTAMPTZ, TIMESTAMPOID, list_make2(zone, result), InvalidOid,
								 DEFAULT_COLLATION_OID, COERCE_EXPLICIT_CALL);
}

/* several columns as one text; NULL where that would not tell which are distinct */
static Expr *
row_text(const List *order)
{
	RowExpr    *row = makeNode(RowExpr);
	ListCell   *lc;

	foreach(lc, order)
	{
		Expr	   *value = ((OrderColumn *) lfirst(lc))->value;

		if (!is_equal_as_text(exprType((Node *) value), exprCollation((Node *) value)))
			return NULL;
		row->args = lappend(row->args, distinct_text(value));
		row->colnames = lappend(row->colnames, makeString(psprintf("f%d", foreach_current_index(lc) + 1)));
	}
	row->row_typeid = RECORDOID;
	row->row_format = COERCE_EXPLICIT_CALL;
	row->location = -1;
	return mr_substitute_as_text((Expr *) row, C_COLLATION_OID);
}

/* distinct values before the given one, nulls, which count as one, apart */
Expr *
mr_hypothetical_dense_rank(const Aggref *call)
{
	List	   *order = order_of(call);
	const OrderColumn *first = linitial(order);
	Expr	   *value = list_length(order) == 1 ? first->value : row_text(order);
	Expr	   *nulls;

	if (value == NULL || !mr_restrict_is_default_equality(first->equal, first->value))
		return NULL;
	nulls = mr_substitute_both(mr_substitute_is_null(value, true), row_before(order, false));
	return rank_call(call, "dense_rank_after", INT8OID,
					 list_make2(mr_substitute_count_distinct(call, value, row_before(order, false)), count_rows(call, nulls)));
}
