/*
 * view/analyze.c
 *		Takes the split level of a declared query apart: which columns the matrel has,
 *		and the query that computes them from a batch.
 *
 * With aggregation, the columns are the group expressions, then the Vars that are merely
 * dependent on them (they join the key: their value at ingest), then one state for each
 * different aggregate call, wherever at that level it stands.  Plain DISTINCT is grouping
 * by the output columns.  Grouping sets: see grouping_sets.c; DISTINCT ON: choice.c.
 *
 * Without, each target entry is a column, sort keys that are not shown included.  An
 * entry with a window function can only be evaluated at read, so the Vars in it are kept
 * instead.
 *
 * Nothing here depends on range table indexes, names of relations or OIDs, so that a
 * query that went through its rule, or through a dump, gives the same columns.
 */
#include "millrace.h"

#include "access/sysattr.h"
#include "catalog/heap.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_oper.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "view/aggregate.h"
#include "view/choice.h"
#include "view/expiry.h"
#include "view/grouping_sets.h"
#include "view/local.h"
#include "view/split.h"
#include "view/window.h"

/* gathers what else the level's output needs, at any depth of sublinks */
typedef struct GatherContext
{
	MrSplit    *split;
	int			depth;
	bool		grouped;		/* else Vars only: see gather_walker */
} GatherContext;

/*
 * Names
 */

static bool
name_is_taken(const MrSplit *split, const char *name)
{
	ListCell   *lc;

	if (SystemAttributeByName(name) != NULL)
		return true;
	foreach(lc, split->analysis.columns)
	{
		if (strcmp(((MrMatrelColumn *) lfirst(lc))->name, name) == 0)
			return true;
	}
	return false;
}

/* name itself, or with the first number that makes it unique */
static char *
unique_name(const MrSplit *split, const char *name)
{
	char	   *result = pstrdup(name);

	for (int i = 2; name_is_taken(split, result); i++)
	{
		char		suffix[16];
		int			len;

		snprintf(suffix, sizeof(suffix), "_%d", i);
		len = pg_mbcliplen(name, strlen(name), NAMEDATALEN - 1 - strlen(suffix));
		result = psprintf("%.*s%s", len, name, suffix);
	}
	return result;
}

/* name under which an expression is shown, or NULL */
static const char *
shown_name(const MrSplit *split, const Expr *expr)
{
	ListCell   *lc;

	foreach(lc, split->level->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!tle->resjunk && tle->resname != NULL && equal(tle->expr, expr))
			return tle->resname;
	}
	return NULL;
}

static const char *
column_name(const MrSplit *split, const Expr *expr)
{
	const char *name = shown_name(split, expr);

	if (name != NULL)
		return name;
	if (IsA(expr, Aggref))
		return "_state";
	if (IsA(expr, Var) && ((const Var *) expr)->varattno > 0)
	{
		const Var  *var = (const Var *) expr;
		RangeTblEntry *rte = rt_fetch(var->varno, split->level->rtable);

		return get_rte_attribute_name(rte, var->varattno);
	}
	return split->analysis.has_aggregates ? "_key" : "_column";
}

/*
 * Columns
 */

static Oid
state_collation(const Aggref *aggref, Oid type)
{
	if (!type_is_collatable(type))
		return InvalidOid;
	if (OidIsValid(aggref->aggcollid))
		return aggref->aggcollid;
	if (OidIsValid(aggref->inputcollid))
		return aggref->inputcollid;
	return get_typcollation(type);
}

void
mr_split_add_column(MrSplit *split, Expr *expr, bool is_key)
{
	MrMatrelColumn *column = palloc0(sizeof(MrMatrelColumn));

	if (IsA(expr, Aggref))
	{
		mr_restrict_aggref((Aggref *) expr);
		column->aggref = (Aggref *) expr;
		column->type = mr_aggregate_state_type(column->aggref);
		column->typmod = -1;
		column->collation = state_collation(column->aggref, column->type);
	}
	else
	{
		column->type = exprType((Node *) expr);
		column->typmod = exprTypmod((Node *) expr);
		column->collation = exprCollation((Node *) expr);
	}
	column->is_key = is_key;
	column->name = unique_name(split, column_name(split, expr));
	mr_restrict_column(column, expr);

	split->analysis.columns = lappend(split->analysis.columns, column);
	split->exprs = lappend(split->exprs, expr);
	if (is_key)
		split->analysis.nkeys++;
}

/*
 * A column that the level shows nowhere; its expression is found later, in the batch's half.
 * Returns its index.
 */
static int
add_hidden_column(MrSplit *split, const char *name, Oid type, bool is_key)
{
	MrMatrelColumn *column = palloc0(sizeof(MrMatrelColumn));

	column->type = type;
	column->typmod = -1;
	column->is_key = is_key;
	column->name = unique_name(split, name);
	split->analysis.columns = lappend(split->analysis.columns, column);
	split->exprs = lappend(split->exprs, makeNullConst(type, -1, InvalidOid));
	if (is_key)
		split->analysis.nkeys++;
	return list_length(split->analysis.columns) - 1;
}

/* the column that a sliding window goes by; see window.c */
static void
add_window_column(MrSplit *split, bool is_key)
{
	split->analysis.window_column = add_hidden_column(split, is_key ? "_step" : "_time",
													  TIMESTAMPTZOID, is_key);
}

/* a level's expression as it looks from depth levels further down */
static bool
is_column_at(const MrSplit *split, Node *node, int depth)
{
	return mr_split_match(split, node, depth) >= 0;
}

/*
 * Index of the column that holds node, an expression depth levels below the split level;
 * -1 if none does.  Constants are not looked for: they may stand where no Var can.
 */
int
mr_split_match(const MrSplit *split, Node *node, int depth)
{
	ListCell   *lc;

	if (IsA(node, Const))
		return -1;
	foreach(lc, split->exprs)
	{
		Node	   *expr = lfirst(lc);

		if (nodeTag(expr) != nodeTag(node))
			continue;
		if (depth > 0)
		{
			expr = copyObject(expr);
			IncrementVarSublevelsUp(expr, depth, 0);
		}
		if (equal(expr, node))
			return foreach_current_index(lc);
	}
	return -1;
}

/* the same for what an entry of the level's target list shows */
int
mr_split_match_entry(const MrSplit *split, const TargetEntry *tle)
{
	int			column = mr_grouping_sets_entry_column(split, tle);

	return column >= 0 ? column : mr_split_match(split, (Node *) tle->expr, 0);
}

static Query *
cte_query(const Query *holder, const char *name)
{
	ListCell   *lc;

	foreach(lc, holder->cteList)
	{
		CommonTableExpr *cte = lfirst_node(CommonTableExpr, lc);

		if (strcmp(cte->ctename, name) == 0)
			return castNode(Query, cte->ctequery);
	}
	elog(ERROR, "could not find common table expression \"%s\"", name);
	return NULL;				/* not reached */
}

/*
 * Index of the column that the declared query shows, unchanged, as its output column attno;
 * -1 if there is none.
 */
int
mr_split_output_column(const MrSplit *split, AttrNumber attno)
{
	Query	   *query = split->whole;

	for (;;)
	{
		TargetEntry *tle = get_tle_by_resno(query->targetList, attno);
		Node	   *expr;
		RangeTblEntry *rte;

		if (query == split->level)
			return mr_split_match_entry(split, tle);
		expr = mr_flatten_join_aliases(query, (Node *) tle->expr);
		if (!IsA(expr, Var) || ((Var *) expr)->varlevelsup > 0 || query->setOperations != NULL)
			return -1;
		attno = ((Var *) expr)->varattno;
		rte = rt_fetch(((Var *) expr)->varno, query->rtable);
		if (rte->rtekind == RTE_CTE && rte->ctelevelsup == 0)
			query = cte_query(query, rte->ctename);
		else if (rte->rtekind == RTE_SUBQUERY)
			query = rte->subquery;
		else
			return -1;
		if (attno <= 0)
			return -1;
	}
}

/* node of the level, met depth levels below it */
static Expr *
raise_node(Node *node, int depth)
{
	node = copyObject(node);
	if (depth > 0)
		IncrementVarSublevelsUp(node, -depth, depth);
	return (Expr *) node;
}

/*
 * Add what the output of the level needs beside the columns that there are: states of
 * aggregates, and Vars that stand alone.
 */
static bool
gather_walker(Node *node, GatherContext *context)
{
	MrSplit    *split = context->split;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		context->depth++;
		query_tree_walker((Query *) node, gather_walker, context, 0);
		context->depth--;
		return false;
	}
	if (IsA(node, GroupingFunc))
		return false;
	if (is_column_at(split, node, context->depth))
		return false;
	if (IsA(node, Aggref) && ((Aggref *) node)->agglevelsup == context->depth)
	{
		mr_split_add_column(split, raise_node(node, context->depth), false);
		return false;
	}
	if (IsA(node, Var) && ((Var *) node)->varlevelsup == context->depth)
	{
		mr_split_add_column(split, raise_node(node, context->depth), context->grouped);
		return false;
	}
	return expression_tree_walker(node, gather_walker, context);
}

/* gathers keys before states, so that keys come first */
static bool
gather_keys_walker(Node *node, GatherContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		context->depth++;
		query_tree_walker((Query *) node, gather_keys_walker, context, 0);
		context->depth--;
		return false;
	}
	if (IsA(node, GroupingFunc) ||
		(IsA(node, Aggref) && ((Aggref *) node)->agglevelsup == context->depth))
		return false;
	if (is_column_at(context->split, node, context->depth))
		return false;
	if (IsA(node, Var) && ((Var *) node)->varlevelsup == context->depth)
	{
		mr_split_add_column(context->split, raise_node(node, context->depth), true);
		return false;
	}
	return expression_tree_walker(node, gather_keys_walker, context);
}

/* is an entry beyond what a batch can compute? */
static bool
is_read_only_entry(const Query *level, const TargetEntry *tle)
{
	return level->hasWindowFuncs &&
		(contain_windowfuncs((Node *) tle->expr) ||
		 expression_returns_set((Node *) tle->expr));
}

static List *
group_clause(const Query *level)
{
	return level->groupClause != NIL || level->hasAggs ? level->groupClause : level->distinctClause;
}

static void
check_nkeys(int nkeys)
{
	if (nkeys > INDEX_MAX_KEYS)
		mr_refuse(-1,
				  errmsg("a continuous view cannot have more than %d group columns", INDEX_MAX_KEYS),
				  errdetail("This query has %d.", nkeys),
				  errhint("Group by fewer columns, or by a value that combines several, such as ROW(...)::text."));
}

static void
columns_of_groups(MrSplit *split, bool window)
{
	Query	   *level = split->level;
	GatherContext context = {split, 0, true};
	ListCell   *lc;

	if (level->groupingSets != NIL)
		check_nkeys(list_length(level->groupClause) + 1);
	mr_grouping_sets_find(split);
	foreach(lc, group_clause(level))
	{
		Expr	   *expr = (Expr *) get_sortgroupclause_expr(lfirst(lc), level->targetList);

		mr_restrict_grouping(lfirst(lc), expr);
		if (split->analysis.sets != NIL || IsA(expr, Const) ||
			mr_split_match(split, (Node *) expr, 0) < 0)
			mr_split_add_column(split, expr, true);
	}
	gather_keys_walker((Node *) level->targetList, &context);
	gather_keys_walker(level->havingQual, &context);
	if (split->analysis.sets != NIL)
		split->analysis.set_column = add_hidden_column(split, "_set", INT4OID, true);
	if (window)
		add_window_column(split, true);
	gather_walker((Node *) level->targetList, &context);
	gather_walker(level->havingQual, &context);
	check_nkeys(split->analysis.nkeys);
}

static void
columns_of_choice(MrSplit *split)
{
	mr_choice_find(split);
	check_nkeys(split->analysis.nkeys);
}

static void
columns_of_rows(MrSplit *split)
{
	Query	   *level = split->level;
	GatherContext context = {split, 0, false};
	ListCell   *lc;

	foreach(lc, level->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!is_read_only_entry(level, tle) &&
			(IsA(tle->expr, Const) || mr_split_match(split, (Node *) tle->expr, 0) < 0))
			mr_split_add_column(split, tle->expr, false);
	}
	foreach(lc, level->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (is_read_only_entry(level, tle))
			gather_walker((Node *) tle->expr, &context);
	}
}

/*
 * The batch's half
 */

/* grouping by a key column, which tle shows */
SortGroupClause *
mr_split_group_clause(const MrSplit *split, int column, TargetEntry *tle)
{
	Expr	   *expr = list_nth(split->exprs, column);
	Index		ref = tle->resno;
	SortGroupClause *result;
	ListCell   *lc;

	tle->ressortgroupref = ref;

	foreach(lc, group_clause(split->level))
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, lc);

		if (equal(get_sortgroupclause_expr(clause, split->level->targetList), expr))
		{
			result = copyObject(clause);
			result->tleSortGroupRef = ref;
			return result;
		}
	}
	result = makeNode(SortGroupClause);
	result->tleSortGroupRef = ref;
	get_sort_group_operators(exprType((Node *) expr), true, true, false,
							 &result->sortop, &result->eqop, NULL, &result->hashable);
	return result;
}

/* strip a query of all that is evaluated at read, the target list included */
static void
strip_query(Query *query)
{
	query->targetList = NIL;
	query->groupClause = NIL;
	query->groupDistinct = false;
	query->groupingSets = NIL;
	query->havingQual = NULL;
	query->sortClause = NIL;
	query->distinctClause = NIL;
	query->hasDistinctOn = false;
	query->limitOffset = NULL;
	query->limitCount = NULL;
	query->limitOption = LIMIT_OPTION_COUNT;
	query->windowClause = NIL;
	query->hasWindowFuncs = false;
	query->hasTargetSRFs = false;
	query->constraintDeps = NIL;
	query->stmt_location = -1;
	query->stmt_len = 0;
	query->canSetTag = true;
}

/* a column's expression, which gives nothing that is too old */
static Expr *
kept_expr(const MrViewAnalysis *analysis, int column, Expr *expr)
{
	ListCell   *lc;

	foreach(lc, analysis->bounds)
	{
		MrBound    *bound = lfirst(lc);

		if (bound->column == column && !bound->is_window)
			return mr_bound_kept_expr(bound, foreach_current_index(lc), expr);
	}
	return expr;
}

/* a query over a set operation, whose output columns are those of the split */
static Query *
partial_of_setop(const MrSplit *split)
{
	ParseState *pstate = make_parsestate(NULL);
	Query	   *query = makeNode(Query);
	Query	   *subquery = copyObject(split->level);
	ParseNamespaceItem *item;
	RangeTblRef *rtr = makeNode(RangeTblRef);
	ListCell   *lc;

	subquery->sortClause = NIL;
	subquery->limitOffset = NULL;
	subquery->limitCount = NULL;
	mr_split_inline_ctes(subquery, split->outer);
	item = addRangeTableEntryForSubquery(pstate, subquery, makeAlias("messages", NIL),
										 false, true);
	rtr->rtindex = item->p_rtindex;
	query->commandType = CMD_SELECT;
	query->querySource = QSRC_ORIGINAL;
	query->canSetTag = true;
	query->rtable = pstate->p_rtable;
	query->jointree = makeFromExpr(list_make1(rtr), NULL);
	query->targetList = expandNSItemAttrs(pstate, item, 0, true, -1);
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		tle->expr = kept_expr(&split->analysis, foreach_current_index(lc), tle->expr);
	}
	if (split->analysis.window_column >= 0)
		query->targetList = lappend(query->targetList,
									makeTargetEntry(copyObject(llast(split->exprs)),
													list_length(query->targetList) + 1, pstrdup("time"),
													false));
	return query;
}

static Query *
partial_of_level(const MrSplit *split)
{
	Query	   *query = copyObject(split->level);
	AttrNumber	resno = 0;
	ListCell   *lc;
	ListCell   *lc2;

	strip_query(query);
	query->hasAggs = false;
	forboth(lc, split->exprs, lc2, split->analysis.columns)
	{
		MrMatrelColumn *column = lfirst(lc2);
		Expr	   *expr = kept_expr(&split->analysis, resno, copyObject(lfirst(lc)));
		TargetEntry *tle = makeTargetEntry(expr, ++resno, pstrdup(column->name), false);

		query->targetList = lappend(query->targetList, tle);
		if (column->is_key && resno - 1 != split->analysis.set_column)
			query->groupClause = lappend(query->groupClause,
										 mr_split_group_clause(split, resno - 1, tle));
		if (column->aggref != NULL)
			query->hasAggs = true;
		if (expression_returns_set((Node *) expr))
			query->hasTargetSRFs = true;
	}
	if (split->analysis.sets != NIL)
		mr_grouping_sets_fill(query, split);
	if (split->analysis.chooses)
		mr_choice_fill(query, split);
	mr_split_inline_ctes(query, split->outer);
	return query;
}

/* a set operation's output, which is all of what it shows */
static void
columns_of_setop(MrSplit *split)
{
	ListCell   *lc;

	foreach(lc, split->level->targetList)
		mr_split_add_column(split, lfirst_node(TargetEntry, lc)->expr, false);
}

/* the level's output in terms of its FROM, without join aliases or grouping steps */
static void
flatten_level(Query *level)
{
	mr_flatten_groups(level);
	level->targetList = (List *) mr_flatten_join_aliases(level, (Node *) level->targetList);
	level->havingQual = mr_flatten_join_aliases(level, level->havingQual);
}

static void
find_columns(MrSplit *split, bool window)
{
	if (split->level->setOperations != NULL)
		columns_of_setop(split);
	else
	{
		flatten_level(split->level);
		mr_substitute_aggregates(split->level, split->growing);
		if (split->analysis.chooses)
			columns_of_choice(split);
		else if (split->analysis.has_aggregates)
			columns_of_groups(split, window);
		else
			columns_of_rows(split);
	}
	if (window && !split->analysis.has_aggregates)
		add_window_column(split, false);
}

static void
check_has_columns(const MrSplit *split)
{
	ListCell   *lc;

	foreach(lc, split->whole->targetList)
	{
		if (!lfirst_node(TargetEntry, lc)->resjunk)
			return;
	}
	ereport(ERROR,
			errcode(ERRCODE_INVALID_TABLE_DEFINITION),
			errmsg("view must have at least one column"));
}

bool
mr_view_has_initial_row(const MrViewAnalysis *analysis)
{
	ListCell   *lc;

	foreach(lc, analysis->sets)
	{
		if (((MrGroupingSet *) lfirst(lc))->is_empty)
			return true;
	}
	return analysis->has_aggregates && analysis->nkeys == 0;
}

MrViewAnalysis *
mr_view_analyze(Query *query, const MrExpiry *expiry, List *tables, bool growing)
{
	MrSplit    *split = palloc0(sizeof(MrSplit));
	MrViewAnalysis *analysis = &split->analysis;
	bool		window = expiry != NULL && expiry->window != NULL;

	split->growing = growing;
	mr_local_take_for_streams(tables);
	mr_restrict_declared(query);
	analysis->tables = tables;
	analysis->declared = copyObject(query);
	split->whole = copyObject(query);
	mr_split_find(split);
	check_has_columns(split);
	mr_restrict_level(split->level);
	analysis->chooses = mr_choice_is_made(split->level) && !window;
	analysis->has_aggregates = analysis->chooses || mr_split_is_aggregation(split->level);

	analysis->window_column = -1;
	analysis->set_column = -1;
	find_columns(split, window);
	if (expiry != NULL)
		analysis->bounds = mr_expiry_bounds(analysis, expiry);
	analysis->partial = split->level->setOperations != NULL ?
		partial_of_setop(split) : partial_of_level(split);
	mr_split_drop_ctes(split);
	mr_restrict_partial(analysis->partial);
	if (window && analysis->window_column >= 0)
		mr_window_fill(analysis->partial, analysis->window_column, expiry->window,
					   analysis->has_aggregates);
	analysis->streams = mr_stream_uses(analysis->partial);
	return analysis;
}
