/*
 * view/combine.c
 *		millrace.combine(column): the aggregate behind a continuous view's column, over the
 *		messages of all rows that meet in one group of a later query.
 *
 * To the parser combine() is an aggregate from any type to the same.  Before a query is
 * planned, when views have become subqueries, each call is replaced: the column is followed
 * through subqueries, ordinary views, WITH and joins to the reader's query; the state from
 * which the reader finishes the column is handed up the same way, as one more output column;
 * and the call becomes what the reader does with a state, done with merge_states() of all
 * of them.  So a stored view, and what pg_dump writes, has the call as it was typed; rights
 * are those on the views that the query names; and plans are invalidated like any other.
 *
 * A column may be made of several aggregates (sum(x) / count(*)): each is merged, then the
 * expression evaluated.  It must not look at anything else that a row shows.  What has been
 * combined can be combined again.
 *
 * Refused where a state cannot be followed: grouped, sorted out by DISTINCT or set
 * operations, or made by a window function on the way.
 */
#include "millrace.h"

#include "catalog/pg_type.h"
#include "catalog_view.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "view/aggregate_expr.h"
#include "view/combine.h"
#include "view/ddl.h"
#include "view/split.h"

/* one call of combine(), while it is replaced */
typedef struct Call
{
	const char *sql;			/* the statement, or NULL */
	int			location;		/* in it, or -1 */
	Expr	   *filter;			/* the call's own FILTER, or NULL */
} Call;

/* the query levels around a place, from its own outwards */
typedef struct Scope
{
	Query	   *query;
	const struct Scope *outer;
	const char *sql;
} Scope;

typedef struct ReplaceContext
{
	const Scope *scope;			/* whose calls are replaced */
	int			depth;			/* how far below its level we are */
} ReplaceContext;

typedef struct LiftContext
{
	const Call *call;
	const Scope *scope;
	bool		grouped;		/* the level groups its rows */
} LiftContext;

PG_FUNCTION_INFO_V1(mr_combine_transition);

static planner_hook_type prev_planner = NULL;

static Node *lift_expr(const Call *call, const Scope *scope, Node *expr);
static void replace_query(const char *sql, Query *query, const Scope *outer);

/*
 * Errors
 */

static int
call_position(const Call *call)
{
	if (call->sql == NULL || call->location < 0 || call->location > strlen(call->sql))
		return 0;
	return errposition(pg_mbstrlen_with_len(call->sql, call->location) + 1);
}

static void refuse(const Call *call, const char *detail) pg_attribute_noreturn();

static void
refuse(const Call *call, const char *detail)
{
	ereport(ERROR,
			errcode(ERRCODE_WRONG_OBJECT_TYPE),
			errmsg("combine() needs an aggregate column of a continuous view"),
			errdetail_internal("%s", detail),
			errhint("Apply it to the column itself, as in SELECT millrace.combine(hits) FROM a_continuous_view."),
			call_position(call));
}

static void
refuse_rank(const Call *call)
{
	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("combine() of the rank of a row that depends on the group is not supported"),
			errdetail("Several groups have no such row in common."),
			errhint("Ask for the same row in all groups; or keep count(*) FILTER (WHERE ...) and combine that."),
			call_position(call));
}

/* combine()'s transition function is never called where the planner knew of combine() */
Datum
mr_combine_transition(PG_FUNCTION_ARGS)
{
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("combine() was called in a query that was planned without it"),
			errhint("It needs \"%s\" in shared_preload_libraries; and in a set-returning SQL function, mark the function VOLATILE.",
					MR_EXTENSION));
	PG_RETURN_NULL();
}

/*
 * Recognizing functions
 */

/* ours are in the extension's schema, where nobody else may create anything */
static bool
is_our_function(Oid funcid, const char *name)
{
	char	   *actual;

	if (funcid < FirstNormalObjectId || get_func_namespace(funcid) != mr_catalog_schema_oid())
		return false;
	actual = get_func_name(funcid);
	return actual != NULL && strcmp(actual, name) == 0;
}

bool
mr_is_combine(Oid funcid)
{
	return is_our_function(funcid, "combine");
}

static bool
is_call(Node *node)
{
	if (IsA(node, Aggref))
		return mr_is_combine(((Aggref *) node)->aggfnoid);
	if (IsA(node, WindowFunc))
		return mr_is_combine(((WindowFunc *) node)->winfnoid);
	return false;
}

static bool
has_call_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (is_call(node))
		return true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, has_call_walker, context, 0);
	return expression_tree_walker(node, has_call_walker, context);
}

static bool
is_merge(Node *node)
{
	return IsA(node, Aggref) && ((Aggref *) node)->agglevelsup == 0 &&
		is_our_function(((Aggref *) node)->aggfnoid, "merge_states");
}

static bool
is_finalize(Node *node)
{
	return IsA(node, FuncExpr) && is_our_function(((FuncExpr *) node)->funcid, "finalize");
}

/* a rank of a row that the group gives: see view/substitute.c */
static bool
is_rank_of_group(Node *node)
{
	static const char *const names[] = {"rank_after", "percent_rank_after", "cume_dist_after", "dense_rank_after"};
	List	   *args = IsA(node, FuncExpr) ? ((FuncExpr *) node)->args : NIL;

	if (args == NIL || exprType(llast(args)) != BOOLOID)
		return false;
	for (int i = 0; i < lengthof(names); i++)
		if (is_our_function(((FuncExpr *) node)->funcid, names[i]))
			return true;
	return false;
}

/* the state that a call of merge_states() merges */
static TargetEntry *
merged_state(Aggref *merge)
{
	return lsecond_node(TargetEntry, merge->args);
}

/*
 * Following a column.  A lifted expression is the column's own, with merge_states() of a
 * state in the place of each state, valid at the level where it was lifted to.
 */

/* output column of a query that shows expr, a new one if need be */
static AttrNumber
show_column(Query *query, Expr *expr, bool *is_new)
{
	TargetEntry *tle;
	ListCell   *lc;

	*is_new = false;
	foreach(lc, query->targetList)
	{
		tle = lfirst_node(TargetEntry, lc);
		if (!tle->resjunk && equal(tle->expr, expr))
			return tle->resno;
	}

	*is_new = true;
	return mr_query_add_column(query, expr, "state");
}

/* CTEs tell their columns twice */
static void
describe_cte_column(RangeTblEntry *rte, CommonTableExpr *cte, const Expr *expr, bool is_new)
{
	Oid			type = exprType((const Node *) expr);
	int32		typmod = exprTypmod((const Node *) expr);
	Oid			collation = exprCollation((const Node *) expr);

	if (is_new)
	{
		cte->ctecolnames = lappend(cte->ctecolnames, makeString(pstrdup("state")));
		cte->ctecoltypes = lappend_oid(cte->ctecoltypes, type);
		cte->ctecoltypmods = lappend_int(cte->ctecoltypmods, typmod);
		cte->ctecolcollations = lappend_oid(cte->ctecolcollations, collation);
	}
	for (int i = list_length(rte->coltypes); i < list_length(cte->ctecoltypes); i++)
	{
		rte->coltypes = lappend_oid(rte->coltypes, list_nth_oid(cte->ctecoltypes, i));
		rte->coltypmods = lappend_int(rte->coltypmods, list_nth_int(cte->ctecoltypmods, i));
		rte->colcollations = lappend_oid(rte->colcollations, list_nth_oid(cte->ctecolcollations, i));
	}
}

/* what hands a lifted expression's states up to the level above */
typedef struct HandUpContext
{
	Query	   *query;			/* where they are valid now */
	RangeTblEntry *rte;			/* its entry in the level above */
	CommonTableExpr *cte;		/* or NULL */
	const Var  *var;			/* the column, there */
} HandUpContext;

static bool
hand_up_walker(Node *node, HandUpContext *context)
{
	TargetEntry *state;
	AttrNumber	attno;
	bool		is_new;
	Var		   *var;

	if (node == NULL)
		return false;
	if (!is_merge(node))
		return expression_tree_walker(node, hand_up_walker, context);
	state = merged_state((Aggref *) node);
	attno = show_column(context->query, state->expr, &is_new);
	if (context->cte != NULL)
		describe_cte_column(context->rte, context->cte, state->expr, is_new);
	while (list_length(context->rte->eref->colnames) < attno)
		context->rte->eref->colnames = lappend(context->rte->eref->colnames,
											   makeString(pstrdup("state")));

	/*
	 * from where it stands, the column's Var also tells which joins make it
	 * null
	 */
	var = copyObject(unconstify(Var *, context->var));
	var->varattno = attno;
	var->vartype = exprType((Node *) state->expr);
	var->vartypmod = exprTypmod((Node *) state->expr);
	var->varcollid = exprCollation((Node *) state->expr);
	var->varnosyn = 0;
	var->varattnosyn = 0;
	state->expr = (Expr *) var;
	return false;
}

static Node *
lift_from_query(const Call *call, const Scope *outer, const Var *var, RangeTblEntry *rte,
				Query *query, CommonTableExpr *cte)
{
	Scope		scope = {query, outer, outer->sql};
	HandUpContext context = {query, rte, cte, var};
	TargetEntry *tle = get_tle_by_resno(query->targetList, var->varattno);
	Node	   *result;

	check_stack_depth();
	if (tle == NULL || tle->resjunk || query->commandType != CMD_SELECT)
		refuse(call, "The argument is no column of a query.");
	if (query->setOperations != NULL)
		refuse(call, "The column comes out of a set operation.");
	if (query->distinctClause != NIL)
		refuse(call, "The column comes out of a query with DISTINCT.");
	if (query->groupingSets != NIL)
		refuse(call, "The column comes out of a query with grouping sets.");
	result = lift_expr(call, &scope, (Node *) tle->expr);
	hand_up_walker(result, &context);
	return result;
}

static Node *
lift_from_cte(const Call *call, const Scope *scope, const Var *var, RangeTblEntry *rte)
{
	const Scope *holder = scope;
	ListCell   *lc;

	for (Index i = 0; i < rte->ctelevelsup && holder != NULL; i++)
		holder = holder->outer;
	if (holder != NULL && !rte->self_reference)
	{
		foreach(lc, holder->query->cteList)
		{
			CommonTableExpr *cte = lfirst_node(CommonTableExpr, lc);

			if (strcmp(cte->ctename, rte->ctename) == 0 && !cte->cterecursive)
				return lift_from_query(call, holder, var, rte, castNode(Query, cte->ctequery), cte);
		}
	}
	refuse(call, "The column comes out of a recursive query.");
	return NULL;				/* not reached */
}

/* a column of the matrel, seen in the reader's query; finished: by finalize() around it */
static Node *
lift_from_matrel(const Call *call, const Var *var, const RangeTblEntry *rte, bool finished)
{
	Oid			viewid = mr_catalog_view_of_part(rte->relid);
	MrView	   *view = OidIsValid(viewid) ? mr_catalog_view(viewid) : NULL;
	MrViewAnalysis *analysis;
	MrMatrelColumn *column;

	if (view == NULL || view->matrel != rte->relid)
		refuse(call, psprintf("The column comes out of relation \"%s\".", get_rel_name(rte->relid)));
	analysis = mr_view_reanalyze(view);
	if (var->varattno <= 0 || var->varattno > list_length(analysis->columns))
		refuse(call, "The argument is no column of a continuous view.");
	column = list_nth(analysis->columns, var->varattno - 1);
	if (column->aggref == NULL)
		refuse(call, psprintf("Column \"%s\" of continuous view \"%s\" is not made by an aggregate.",
							  column->name, get_rel_name(viewid)));
	if (!finished &&
		IsA(mr_aggregate_finalize_expr(column->aggref, (Expr *) var), FuncExpr))
		refuse(call, psprintf("Column \"%s\" of table \"%s\" is a state.",
							  column->name, get_rel_name(rte->relid)));
	return (Node *) mr_aggregate_merge_expr(column->aggref, (Expr *) copyObject(unconstify(Var *, var)));
}

static Node *
lift_var(const LiftContext *context, const Var *var, bool finished)
{
	const Scope *scope = context->scope;
	RangeTblEntry *rte;

	if (var->varlevelsup > 0 || var->varattno <= 0)
		refuse(context->call, "The column looks at more than its aggregates.");
	if (context->grouped)
		refuse(context->call, "The column comes out of a query that groups by it.");
	rte = rt_fetch(var->varno, scope->query->rtable);
	switch (rte->rtekind)
	{
		case RTE_SUBQUERY:
			return lift_from_query(context->call, scope, var, rte, rte->subquery, NULL);
		case RTE_CTE:
			return lift_from_cte(context->call, scope, var, rte);
		case RTE_RELATION:
			return lift_from_matrel(context->call, var, rte, finished);
		default:
			refuse(context->call, "The column does not come out of a relation.");
			return NULL;		/* not reached */
	}
}

/* merge_states() of what is merged at this level already */
static Node *
lift_merge(Aggref *merge)
{
	Aggref	   *result = copyObject(merge);

	result->aggfilter = NULL;
	merged_state(result)->expr = (Expr *) copyObject(merge);
	return (Node *) result;
}

/* the state that finalize() finishes: a Var, or merged at this level */
static Node *
lift_state(LiftContext *context, Node *state)
{
	if (is_merge(state))
		return lift_merge((Aggref *) state);
	if (IsA(state, Var))
		return lift_var(context, (Var *) state, true);
	refuse(context->call, "The column is not made by an aggregate alone.");
	return NULL;				/* not reached */
}

static Node *
lift_mutator(Node *node, LiftContext *context)
{
	if (node == NULL)
		return NULL;
	if (is_finalize(node))
	{
		FuncExpr   *result = copyObject((FuncExpr *) node);
		ListCell   *state = list_nth_cell(result->args, 1);

		lfirst(state) = lift_state(context, lfirst(state));
		return (Node *) result;
	}
	if (is_merge(node))
		return lift_merge((Aggref *) node);
	if (is_rank_of_group(node))
		refuse_rank(context->call);
	if (IsA(node, Var))
		return lift_var(context, (Var *) node, false);
	if (IsA(node, Aggref) || IsA(node, GroupingFunc))
		refuse(context->call, "The column is made by an aggregate of an ordinary query.");
	if (IsA(node, WindowFunc))
		refuse(context->call, "The column is made by a window function.");
	if (IsA(node, SubLink) || IsA(node, Query))
		refuse(context->call, "The column is made by a subquery.");
	if ((IsA(node, FuncExpr) && ((FuncExpr *) node)->funcretset) ||
		(IsA(node, OpExpr) && ((OpExpr *) node)->opretset))
		refuse(context->call, "The column is made by a set-returning function.");
	return expression_tree_mutator(node, lift_mutator, context);
}

static bool
has_merge_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return is_merge(node) || expression_tree_walker(node, has_merge_walker, context);
}

/* an output expression of scope's query */
static Node *
lift_expr(const Call *call, const Scope *scope, Node *expr)
{
	LiftContext context = {call, scope, false};
	Node	   *result;

	context.grouped = scope->query->groupClause != NIL || scope->query->hasAggs;
	result = lift_mutator(mr_flatten_join_aliases(scope->query, copyObject(expr)), &context);
	if (!has_merge_walker(result, NULL))
		refuse(call, "The column is a constant.");
	return result;
}

/*
 * Replacing a call
 */

static void
check_call(const Call *call, const List *order, const List *distinct)
{
	if (distinct != NIL)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("DISTINCT in combine() is not supported"),
				errhint("Leave out DISTINCT."),
				call_position(call));
	if (order != NIL)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("ORDER BY in combine() is not supported"),
				errhint("Leave out ORDER BY."),
				call_position(call));
}

/* the argument of a call at scope's level, as that level's merge_states() */
static Node *
lift_argument(const Call *call, const Scope *scope, Node *arg)
{
	LiftContext context = {call, scope, false};

	arg = mr_flatten_join_aliases(scope->query, copyObject(arg));
	if (!IsA(arg, Var))
		refuse(call, "The argument is an expression.");
	if (rt_fetch(((Var *) arg)->varno, scope->query->rtable)->rtekind == RTE_RELATION)
		refuse(call, "The argument is no column of a continuous view.");
	return lift_var(&context, (Var *) arg, false);
}

static bool
filter_walker(Node *node, Expr *filter)
{
	if (node == NULL)
		return false;
	if (is_merge(node))
	{
		((Aggref *) node)->aggfilter = (Expr *) copyObject(filter);
		return false;
	}
	return expression_tree_walker(node, filter_walker, filter);
}

static Node *
replace_aggregate(const ReplaceContext *context, Aggref *aggref)
{
	Call		call = {context->scope->sql, aggref->location, aggref->aggfilter};
	Node	   *arg = (Node *) copyObject(linitial_node(TargetEntry, aggref->args)->expr);
	Node	   *result;

	check_call(&call, aggref->aggorder, aggref->aggdistinct);
	if (context->depth > 0)
		IncrementVarSublevelsUp(arg, -context->depth, context->depth);
	result = lift_argument(&call, context->scope, arg);
	if (context->depth > 0)
		IncrementVarSublevelsUp(result, context->depth, 0);
	if (call.filter != NULL)
	{
		/* levels in the filter are as they were */
		if (context->depth == 0)
			filter_walker(result, call.filter);
		else
			refuse(&call, "A FILTER of an outer query's aggregate is not supported.");
	}
	if (exprType(result) != aggref->aggtype)
		elog(ERROR, "combine() would return %s instead of %s",
			 format_type_be(exprType(result)), format_type_be(aggref->aggtype));
	return result;
}

/* merge_states() over a window frame in the place of the aggregate */
static Node *
window_mutator(Node *node, WindowFunc *call)
{
	Aggref	   *merge;
	WindowFunc *result;
	ListCell   *lc;

	if (node == NULL)
		return NULL;
	if (!is_merge(node))
		return expression_tree_mutator(node, window_mutator, call);
	merge = (Aggref *) node;
	result = copyObject(call);
	result->winfnoid = merge->aggfnoid;
	result->wintype = merge->aggtype;
	result->wincollid = merge->aggcollid;
	result->inputcollid = merge->inputcollid;
	result->args = NIL;
	foreach(lc, merge->args)
		result->args = lappend(result->args, lfirst_node(TargetEntry, lc)->expr);
	return mr_aggregate_merge_over_window(result);
}

static Node *
replace_window(const ReplaceContext *context, WindowFunc *func)
{
	Call		call = {context->scope->sql, func->location, func->aggfilter};
	Node	   *result = lift_argument(&call, context->scope, linitial(func->args));

	return window_mutator(result, func);
}

static Node *
replace_mutator(Node *node, ReplaceContext *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Query))
	{
		Query	   *query;

		context->depth++;
		query = query_tree_mutator((Query *) node, replace_mutator, context, 0);
		context->depth--;
		return (Node *) query;
	}
	if (IsA(node, Aggref) && ((Aggref *) node)->agglevelsup == context->depth && is_call(node))
		return replace_aggregate(context, (Aggref *) node);
	if (IsA(node, WindowFunc) && context->depth == 0 && is_call(node))
		return replace_window(context, (WindowFunc *) node);
	return expression_tree_mutator(node, replace_mutator, context);
}

static bool
replace_below_walker(Node *node, const Scope *scope)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		replace_query(scope->sql, (Query *) node, scope);
		return false;
	}
	return expression_tree_walker(node, replace_below_walker, unconstify(Scope *, scope));
}

/* all calls in a query, those below first: what they combine may be combined again */
static void
replace_query(const char *sql, Query *query, const Scope *outer)
{
	Scope		scope = {query, outer, sql};
	ReplaceContext context = {&scope, 0};

	check_stack_depth();
	query_tree_walker(query, replace_below_walker, &scope, 0);
	if (!query->hasAggs && !query->hasWindowFuncs)
		return;
	query->targetList = (List *) replace_mutator((Node *) query->targetList, &context);
	query->havingQual = replace_mutator(query->havingQual, &context);
}

static PlannedStmt *
combine_planner(Query *parse, const char *sql, int options, ParamListInfo params)
{
	if (has_call_walker((Node *) parse, NULL))
		replace_query(sql, parse, NULL);
	return prev_planner ? prev_planner(parse, sql, options, params) :
		standard_planner(parse, sql, options, params);
}

void
mr_combine_init(void)
{
	prev_planner = planner_hook;
	planner_hook = combine_planner;
}
