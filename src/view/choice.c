/*
 * view/choice.c
 *		SELECT DISTINCT ON (...) over a stream's rows: of each group the row that comes first
 *		in the order of ORDER BY.
 *
 * The matrel's keys are the expressions of DISTINCT ON, its other columns the rest of the
 * target list.  A batch chooses among its own rows, with the query's own DISTINCT ON; the merge
 * (ingest/merge.c) lets a group's row stay or replaces it by the batch's, if that comes first.
 * The reader has nothing left to do but ORDER BY and LIMIT.
 *
 * Which of several rows comes first that ORDER BY does not tell apart, PostgreSQL leaves open.
 * Here the columns that remain are compared, too, in their types' ascending order, nulls
 * last: so the choice depends on which rows there are, not on their order or on batches.
 */
#include "millrace.h"

#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "view/choice.h"

bool
mr_choice_is_made(const Query *level)
{
	return level->hasDistinctOn && !level->hasWindowFuncs && !mr_split_is_aggregation(level);
}

/* ---------- columns ---------- */

/* index of the column that holds an expression, added if need be */
static int
find_column(MrSplit *split, Expr *expr)
{
	int			column = mr_split_match(split, (Node *) expr, 0);

	if (column >= 0)
		return column;
	mr_split_add_column(split, expr, false);
	return list_length(split->analysis.columns) - 1;
}

static bool
is_ordered_by(const MrViewAnalysis *analysis, int column)
{
	ListCell   *lc;

	foreach(lc, analysis->order)
	{
		if (((MrOrder *) lfirst(lc))->column == column)
			return true;
	}
	return false;
}

/* the next column to compare, unless it was compared before */
static void
order_by(MrViewAnalysis *analysis, int column, Oid sort_operator, const SortGroupClause *clause)
{
	MrOrder    *order;

	if (column < analysis->nkeys || is_ordered_by(analysis, column))
		return;
	order = palloc0(sizeof(MrOrder));
	order->column = column;
	order->sort_operator = sort_operator;
	order->nulls_first = clause != NULL && clause->nulls_first;
	order->clause = clause;
	analysis->order = lappend(analysis->order, order);
}

/* what is compared where ORDER BY leaves it open */
static void
order_by_rest(MrViewAnalysis *analysis)
{
	for (int i = analysis->nkeys; i < list_length(analysis->columns); i++)
	{
		const MrMatrelColumn *column = list_nth(analysis->columns, i);
		TypeCacheEntry *type = lookup_type_cache(column->type, TYPECACHE_LT_OPR | TYPECACHE_CMP_PROC);

		if (OidIsValid(type->lt_opr) && OidIsValid(type->cmp_proc))
			order_by(analysis, i, type->lt_opr, NULL);
	}
}

void
mr_choice_find(MrSplit *split)
{
	const Query *level = split->level;
	ListCell   *lc;

	foreach(lc, level->distinctClause)
	{
		Expr	   *expr = (Expr *) get_sortgroupclause_expr(lfirst(lc), level->targetList);

		mr_restrict_grouping(lfirst(lc), expr);
		if (mr_split_match(split, (Node *) expr, 0) < 0)
			mr_split_add_column(split, expr, true);
	}
	foreach(lc, level->sortClause)
	{
		const SortGroupClause *clause = lfirst_node(SortGroupClause, lc);
		Expr	   *expr = (Expr *) get_sortgroupclause_expr(lfirst(lc), level->targetList);

		if (!IsA(expr, Const))
			order_by(&split->analysis, find_column(split, expr), clause->sortop, clause);
	}
	foreach(lc, level->targetList)
		(void) find_column(split, lfirst_node(TargetEntry, lc)->expr);
	order_by_rest(&split->analysis);
}

/* ---------- the batch's half ---------- */

static SortGroupClause *
sort_clause(Query *partial, const MrOrder *order)
{
	TargetEntry *tle = list_nth_node(TargetEntry, partial->targetList, order->column);
	SortGroupClause *result;

	tle->ressortgroupref = tle->resno;
	if (order->clause != NULL)
	{
		/* whatever else a clause says in other versions */
		result = copyObject(unconstify(SortGroupClause *, order->clause));
		result->tleSortGroupRef = tle->resno;
		return result;
	}
	result = makeNode(SortGroupClause);
	result->tleSortGroupRef = tle->resno;
	result->sortop = order->sort_operator;
	result->nulls_first = order->nulls_first;
	result->eqop = get_equality_op_for_ordering_op(order->sort_operator, NULL);
	result->hashable = op_hashjoinable(result->eqop, exprType((Node *) tle->expr));
	return result;
}

void
mr_choice_fill(Query *partial, const MrSplit *split)
{
	ListCell   *lc;

	partial->distinctClause = partial->groupClause;
	partial->groupClause = NIL;
	partial->hasDistinctOn = true;
	partial->sortClause = copyObject(partial->distinctClause);
	foreach(lc, split->analysis.order)
		partial->sortClause = lappend(partial->sortClause, sort_clause(partial, lfirst(lc)));
}

/* ---------- retention ---------- */

bool
mr_choice_is_greatest(const MrViewAnalysis *analysis, int column)
{
	const MrOrder *first;
	const MrMatrelColumn *shown;

	if (!analysis->chooses || analysis->order == NIL)
		return false;
	first = linitial(analysis->order);
	shown = list_nth(analysis->columns, column);
	return first->column == column && first->nulls_first &&
		first->sort_operator == lookup_type_cache(shown->type, TYPECACHE_GT_OPR)->gt_opr;
}
