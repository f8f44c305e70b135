/*
 * view/rewrite.c
 *		The reader's query: the declared one, with the matrel in the place of the split
 *		level's FROM, WHERE and GROUP BY.
 *
 * Whatever else the level has stays as it is: expressions over groups and aggregates,
 * HAVING (as WHERE), window functions, ORDER BY, LIMIT, and so do all levels around it.
 * The result is stored as a view's rule and must mean the same after pg_get_viewdef and
 * a new parse, because that is how it comes out of a dump: a column that stands for an
 * explicit COLLATE gets one too.
 */
#include "millrace.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_relation.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "view/aggregate_expr.h"
#include "view/expiry.h"
#include "view/grouping_sets.h"
#include "view/split.h"

/* the matrel, or what merges its steps, is the only entry of the level's range table */
#define MATREL_INDEX	1

typedef struct ReaderContext
{
	const MrSplit *split;
	int			depth;
} ReaderContext;

static bool
has_explicit_collation(const Expr *expr)
{
	ListCell   *lc;

	if (IsA(expr, CollateExpr))
		return true;
	if (!IsA(expr, Aggref))
		return false;
	foreach(lc, ((const Aggref *) expr)->args)
	{
		if (IsA(lfirst_node(TargetEntry, lc)->expr, CollateExpr))
			return true;
	}
	return false;
}

/* column i of what stands for the matrel */
static Var *
matrel_var(const MrSplit *split, int i)
{
	MrMatrelColumn *column = list_nth(split->analysis.columns, i);

	return makeVar(MATREL_INDEX, i + 1, column->type, column->typmod, column->collation, 0);
}

/* column i as it is shown: a group value, or a finished state */
static Node *
column_expr(const MrSplit *split, int i, int depth)
{
	MrMatrelColumn *column = list_nth(split->analysis.columns, i);
	Expr	   *result = (Expr *) makeVar(MATREL_INDEX, i + 1, column->type, column->typmod,
										  column->collation, depth);

	if (column->aggref != NULL)
		result = mr_aggregate_finalize_expr(column->aggref, result);
	if (has_explicit_collation(list_nth(split->exprs, i)) &&
		OidIsValid(exprCollation((Node *) result)))
	{
		CollateExpr *collate = makeNode(CollateExpr);

		collate->arg = result;
		collate->collOid = exprCollation((Node *) result);
		collate->location = -1;
		result = (Expr *) collate;
	}
	return (Node *) result;
}

/* GROUPING() */
static Node *
grouping_expr(const MrSplit *split, const GroupingFunc *function, int depth)
{
	int			i = split->analysis.set_column;
	Var		   *set = i < 0 ? NULL : (Var *) column_expr(split, i, depth);

	return (Node *) mr_grouping_sets_function(split, function, set);
}

static Node *
reader_mutator(Node *node, ReaderContext *context)
{
	int			column;

	if (node == NULL)
		return NULL;
	if (IsA(node, Query))
	{
		Query	   *query;

		context->depth++;
		query = query_tree_mutator((Query *) node, reader_mutator, context, 0);
		context->depth--;
		return (Node *) query;
	}
	if (IsA(node, GroupingFunc) && ((GroupingFunc *) node)->agglevelsup == context->depth)
		return grouping_expr(context->split, (GroupingFunc *) node, context->depth);
	column = mr_split_match(context->split, node, context->depth);
	if (column >= 0)
		return column_expr(context->split, column, context->depth);
	return expression_tree_mutator(node, reader_mutator, context);
}

/* the level's target list, with the matrel's columns in it */
static List *
reader_target_list(const MrSplit *split, ReaderContext *context)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, split->level->targetList)
	{
		TargetEntry *tle = flatCopyTargetEntry(lfirst_node(TargetEntry, lc));
		int			column = mr_split_match_entry(split, tle);

		if (column >= 0)
			tle->expr = (Expr *) column_expr(split, column, 0);
		else
			tle->expr = (Expr *) reader_mutator((Node *) tle->expr, context);
		result = lappend(result, tle);
	}
	return result;
}

/* a set operation's target list shows the first branch's columns, one by one */
static List *
setop_target_list(const MrSplit *split)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, split->level->targetList)
	{
		TargetEntry *tle = flatCopyTargetEntry(lfirst_node(TargetEntry, lc));

		tle->expr = (Expr *) column_expr(split, foreach_current_index(lc), 0);
		result = lappend(result, tle);
	}
	return result;
}

/* one more output column, the last that is shown; returns its number */
AttrNumber
mr_query_add_column(Query *query, Expr *expr, const char *name)
{
	AttrNumber	attno = list_length(query->targetList) + 1;
	ListCell   *lc;

	/* junk columns come last */
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!tle->resjunk)
			continue;
		attno = Min(attno, tle->resno);
		tle->resno++;
	}
	query->targetList = list_insert_nth(query->targetList, attno - 1,
										makeTargetEntry(expr, attno, pstrdup(name), false));
	return attno;
}

/* the matrel in a range table, to be read by the view's owner */
static ParseNamespaceItem *
add_matrel(ParseState *pstate, const MrSplit *split, Oid matrel)
{
	Relation	rel = table_open(matrel, AccessShareLock);
	ParseNamespaceItem *item = addRangeTableEntryForRelation(pstate, rel, AccessShareLock,
															 NULL, true, true);

	for (int i = 0; i < list_length(split->analysis.columns); i++)
		mr_select_column(item, i + 1);
	if (split->analysis.columns == NIL)
		mr_select_column(item, InvalidAttrNumber);
	table_close(rel, NoLock);
	return item;
}

/* or it is the row that is there from the start */
static Node *
or_no_step(Node *quals, const Var *step)
{
	NullTest   *test = makeNode(NullTest);

	test->arg = (Expr *) copyObject(step);
	test->nulltesttype = IS_NULL;
	test->location = -1;
	return (Node *) make_orclause(list_make2(quals, test));
}

/*
 * The matrel's columns, with the states of all steps in the window merged, and null for the
 * step.
 */
static Query *
window_query(const MrSplit *split, Oid matrel)
{
	ParseState *pstate = make_parsestate(NULL);
	Query	   *query = makeNode(Query);
	ParseNamespaceItem *item = add_matrel(pstate, split, matrel);
	RangeTblRef *rtr = makeNode(RangeTblRef);
	Node	   *quals = NULL;
	ListCell   *lc;

	query->commandType = CMD_SELECT;
	query->querySource = QSRC_ORIGINAL;
	query->canSetTag = true;
	mr_set_range_table(query, pstate);
	foreach(lc, split->analysis.columns)
	{
		MrMatrelColumn *column = lfirst(lc);
		AttrNumber	attno = foreach_current_index(lc) + 1;
		Expr	   *expr = (Expr *) matrel_var(split, attno - 1);
		TargetEntry *tle;

		if (attno - 1 == split->analysis.window_column)
		{
			quals = mr_window_qual(linitial(split->analysis.bounds), (Var *) expr);
			if (mr_view_has_initial_row(&split->analysis))
				quals = or_no_step(quals, (Var *) expr);
			expr = (Expr *) makeNullConst(column->type, column->typmod, column->collation);
		}
		else if (column->aggref != NULL)
		{
			expr = (Expr *) mr_aggregate_merge_expr(column->aggref, expr);
			query->hasAggs = true;
		}
		tle = makeTargetEntry(expr, attno, pstrdup(column->name), false);
		query->targetList = lappend(query->targetList, tle);
		if (IsA(expr, Var))
			query->groupClause = lappend(query->groupClause, mr_split_group_clause(split, attno - 1, tle));
	}
	rtr->rtindex = item->p_rtindex;
	query->jointree = makeFromExpr(list_make1(rtr), quals);
	return query;
}

/* join a function that repeats the rows of grouping sets that are declared several times */
static void
add_copies(Query *query, const MrSplit *split, ParseState *pstate)
{
	Expr	   *copies = split->analysis.set_column < 0 ? NULL :
	mr_grouping_sets_copies(split, matrel_var(split, split->analysis.set_column));
	RangeFunction *function = makeNode(RangeFunction);
	RangeTblRef *rtr = makeNode(RangeTblRef);

	if (copies == NULL)
		return;
	function->alias = makeAlias("copies", NIL);
	rtr->rtindex = addRangeTableEntryForFunction(pstate, list_make1("generate_series"), list_make1(copies),
												 list_make1(NIL), function, true, true)->p_rtindex;
	query->jointree->fromlist = lappend(query->jointree->fromlist, rtr);
}

/* make the matrel, or what merges its steps, the level's only relation */
static void
set_from(Query *query, const MrSplit *split, Oid matrel, Node *quals)
{
	ParseState *pstate = make_parsestate(NULL);
	ParseNamespaceItem *item;
	RangeTblRef *rtr = makeNode(RangeTblRef);

	if (split->analysis.window_column >= 0 && split->analysis.has_aggregates)
		item = addRangeTableEntryForSubquery(pstate, window_query(split, matrel),
											 makeAlias(get_rel_name(matrel), NIL), false, true);
	else
		item = add_matrel(pstate, split, matrel);
	Assert(item->p_rtindex == MATREL_INDEX);
	rtr->rtindex = item->p_rtindex;
	query->jointree = makeFromExpr(list_make1(rtr), quals);
	add_copies(query, split, pstate);
	mr_set_range_table(query, pstate);
}

/* and what is not too old */
static Node *
add_bounds(const MrSplit *split, Node *quals)
{
	ListCell   *lc;

	foreach(lc, split->analysis.bounds)
	{
		MrBound    *bound = lfirst(lc);
		Var		   *var = matrel_var(split, bound->column);

		if (!bound->is_window)
			quals = make_and_qual(quals, mr_bound_qual(bound, var));
		else if (!split->analysis.has_aggregates)
			quals = make_and_qual(quals, mr_window_qual(bound, var));
	}
	return quals;
}

/* the level over the matrel */
static Query *
reader_level(const MrSplit *split, Oid matrel)
{
	Query	   *query = makeNode(Query);
	ReaderContext context = {split, 0};
	Node	   *quals;

	*query = *split->level;
	if (query->setOperations != NULL)
	{
		query->targetList = setop_target_list(split);
		query->setOperations = NULL;
		quals = NULL;
	}
	else
	{
		query->targetList = reader_target_list(split, &context);
		quals = reader_mutator(query->havingQual, &context);
	}
	if (split->analysis.has_aggregates && query->groupClause == NIL &&
		query->groupingSets == NIL && !query->hasAggs)
	{
		/* the groups are what is distinct */
		query->distinctClause = NIL;
		query->hasDistinctOn = false;
	}
	query->groupClause = NIL;
	query->groupDistinct = false;
	query->groupingSets = NIL;
	query->havingQual = NULL;
	query->hasAggs = false;
	query->constraintDeps = NIL;
	query->hasTargetSRFs = expression_returns_set((Node *) query->targetList);
	quals = add_bounds(split, quals);
	set_from(query, split, matrel, quals);
	query->hasSubLinks = checkExprHasSubLink((Node *) query->targetList) ||
		checkExprHasSubLink(quals) ||
		checkExprHasSubLink((Node *) query->windowClause) ||
		checkExprHasSubLink(query->limitOffset) ||
		checkExprHasSubLink(query->limitCount);
	return query;
}

Query *
mr_view_reader_query(const MrViewAnalysis *analysis, Oid matrel)
{
	const MrSplit *split = (const MrSplit *) analysis;
	Query	   *level = reader_level(split, matrel);
	Query		saved = *split->level;
	Query	   *result;

	/*
	 * the level is somewhere in whole: put the new one there while that is
	 * copied
	 */
	*split->level = *level;
	result = copyObject(split->whole);
	*split->level = saved;
	return result;
}
