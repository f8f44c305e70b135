/*
 * view/substitute.c
 *		Aggregates that cannot be combined, but can be had from others that can.
 *
 * A hypothetical-set aggregate asks how many rows come before one that it is given: rank(),
 * percent_rank() and cume_dist() are counts of rows that a condition holds for, exact and as
 * small as any count.  What replaces the call is a function of such counts (extension/
 * ordered.sql), in the declared query's own terms, so everything behind the analysis sees
 * ordinary aggregates only: sliding windows and combine() follow.
 *
 * The condition is the sort order's, written out column by column: a row comes before another
 * where the first column that differs says so, nulls where NULLS FIRST or LAST puts them.
 */
#include "millrace.h"

#include "catalog/pg_aggregate.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_func.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "view/split.h"

/* one column of a hypothetical-set aggregate's sort order */
typedef struct OrderColumn
{
	Expr	   *value;			/* a row's */
	Expr	   *given;			/* the hypothetical row's */
	Oid			before;			/* the order's operator */
	Oid			equal;
	bool		nulls_first;
} OrderColumn;

/*
 * Small expressions
 */

static Expr *
is_null(const Expr *expr, bool yes)
{
	NullTest   *test = makeNode(NullTest);

	test->arg = (Expr *) copyObject(expr);
	test->nulltesttype = yes ? IS_NULL : IS_NOT_NULL;
	test->argisrow = false;
	test->location = -1;
	return (Expr *) test;
}

static Expr *
both(Expr *a, Expr *b)
{
	return makeBoolExpr(AND_EXPR, list_make2(a, b), -1);
}

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

static Expr *
extension_call(const char *name, Oid result, List *args)
{
	Oid			types[2];
	ListCell   *lc;

	Assert(list_length(args) <= lengthof(types));
	foreach(lc, args)
		types[foreach_current_index(lc)] = exprType(lfirst(lc));
	return (Expr *) makeFuncExpr(LookupFuncName(list_make2(makeString(MR_SCHEMA), makeString(pstrdup(name))),
												list_length(args), types, false),
								 result, args, InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

/*
 * The order
 */

/* true where the row's value stands before the given one, false or null elsewhere */
static Expr *
value_before(const OrderColumn *column)
{
	const Expr *early = column->nulls_first ? column->value : column->given;
	const Expr *late = column->nulls_first ? column->given : column->value;
	Expr	   *before = compare(column->before, column);

	if (IsA(column->given, Const) && !((Const *) column->given)->constisnull && !column->nulls_first)
		return before;
	return both(is_null(late, false), either(is_null(early, true), before));
}

/* and where they are peers */
static Expr *
value_same(const OrderColumn *column)
{
	return either(compare(column->equal, column),
				  both(is_null(column->value, true), is_null(column->given, true)));
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
			result = either(value_before(column), both(value_same(column), rest));
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

/*
 * The aggregates
 */

/* count(*), of the rows that the call looks at and the condition holds for */
static Expr *
count_rows(const Aggref *call, Expr *condition)
{
	Aggref	   *count = makeNode(Aggref);

	count->aggfnoid = F_COUNT_;
	count->aggtype = INT8OID;
	count->aggtranstype = InvalidOid;
	count->aggstar = true;
	count->aggkind = AGGKIND_NORMAL;
	count->agglevelsup = call->agglevelsup;
	count->aggsplit = AGGSPLIT_SIMPLE;
	count->aggno = -1;
	count->aggtransno = -1;
	count->location = call->location;
	count->aggfilter = copyObject(call->aggfilter);
	if (count->aggfilter == NULL)
		count->aggfilter = condition;
	else if (condition != NULL)
		count->aggfilter = both(count->aggfilter, condition);
	return (Expr *) count;
}

/* what a call is replaced by, or NULL */
static Expr *
substitute_hypothetical(const Aggref *call)
{
	switch (call->aggfnoid)
	{
		case F_RANK_ANY:
			return extension_call("rank_after", INT8OID,
								  list_make1(count_rows(call, row_before(order_of(call), false))));
		case F_PERCENT_RANK_ANY:
			return extension_call("percent_rank_after", FLOAT8OID,
								  list_make2(count_rows(call, row_before(order_of(call), false)), count_rows(call, NULL)));
		case F_CUME_DIST_ANY:
			return extension_call("cume_dist_after", FLOAT8OID,
								  list_make2(count_rows(call, row_before(order_of(call), true)), count_rows(call, NULL)));
		default:
			return NULL;
	}
}

static Node *
substitute_mutator(Node *node, int *depth)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Query))
	{
		Query	   *query;

		(*depth)++;
		query = query_tree_mutator((Query *) node, substitute_mutator, depth, 0);
		(*depth)--;
		return (Node *) query;
	}
	if (IsA(node, Aggref) && ((Aggref *) node)->agglevelsup == *depth)
	{
		Expr	   *other = substitute_hypothetical((Aggref *) node);

		return other != NULL ? (Node *) other : node;
	}
	return expression_tree_mutator(node, substitute_mutator, depth);
}

void
mr_substitute_aggregates(Query *level)
{
	int			depth = 0;

	level->targetList = (List *) substitute_mutator((Node *) level->targetList, &depth);
	level->havingQual = substitute_mutator(level->havingQual, &depth);
}
