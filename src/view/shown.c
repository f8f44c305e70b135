/*
 * view/shown.c
 *		What a row of the matrel looks like in the view, without a query.
 *
 * The change feed tells of each group that a batch changes what the view showed before and
 * what it shows now.  To run the reader's query over the few rows that changed would be a
 * query per batch; where each row of the view is made of one row of the matrel alone, that
 * query is no more than expressions over its columns.  So the levels of the reader's query are
 * folded into one list of expressions and a list of conditions (HAVING, and WHERE of the levels
 * above), which are evaluated in place.
 *
 * That is not so where rows are looked at together (window functions, LIMIT, DISTINCT, a
 * second aggregation), where a row becomes several, and where something else than the row
 * decides what it looks like (joins and subqueries, the clock, the session): all of this is
 * refused.  The order of rows does not matter.
 */
#include "millrace.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/date.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "view/shown.h"
#include "view/split.h"

/* a column by which rows that nobody ever sees are told: it is minus infinity */
typedef struct Unseen
{
	int			column;
	Oid			type;
} Unseen;

struct MrShown
{
	int			ncolumns;		/* of the view */
	ExprState **columns;
	ExprState  *quals;			/* or NULL */
	int			nunseen;
	Unseen	   *unseen;
	ExprContext *econtext;
	TupleTableSlot *row;		/* of the matrel */
};

/* replaces columns of a subquery by what they are there */
typedef struct FoldContext
{
	Index		rti;
	const RangeTblEntry *rte;
	List	   *exprs;
} FoldContext;

/* ---------- refusing ---------- */

static void
refuse_construct(const char *construct, int location)
{
	mr_refuse(location,
			  errmsg("%s is not supported in a continuous view with changes", construct),
			  errdetail("A row of the view must be made of one group, and of nothing else."),
			  errhint("Use it when selecting from the view, or leave out \"changes\"."));
}

static void
refuse_window(void)
{
	mr_refuse(-1,
			  errmsg("a sliding window is not supported in a continuous view with changes"),
			  errdetail("Rows leave the window by the passing of time alone."),
			  errhint("Group by date_bin() or date_trunc() and give a retention, or leave out \"changes\"."));
}

static int
location_of_set(const List *target_list)
{
	ListCell   *lc;

	foreach(lc, target_list)
	{
		Node	   *expr = (Node *) lfirst_node(TargetEntry, lc)->expr;

		if (expression_returns_set(expr))
			return exprLocation(expr);
	}
	return -1;
}

/* what makes of rows something else than as many rows, one of each */
static void
check_level(const Query *query)
{
	if (query->setOperations != NULL)
		refuse_construct("UNION, INTERSECT or EXCEPT above the aggregation", -1);
	if (query->groupClause != NIL || query->groupingSets != NIL || query->hasAggs ||
		query->havingQual != NULL)
		refuse_construct("aggregation above the aggregation",
						 locate_agg_of_level((Node *) query->targetList, 0));
	if (query->distinctClause != NIL)
		refuse_construct(query->hasDistinctOn ? "DISTINCT ON" : "DISTINCT", -1);
	if (query->limitCount != NULL)
		refuse_construct("LIMIT", exprLocation(query->limitCount));
	if (query->limitOffset != NULL)
		refuse_construct("OFFSET", exprLocation(query->limitOffset));
	if (query->hasTargetSRFs)
		refuse_construct("a set-returning function above the aggregation",
						 location_of_set(query->targetList));
}

static void
check_sets(const List *sets)
{
	ListCell   *lc;

	foreach(lc, sets)
	{
		if (((MrGroupingSet *) lfirst(lc))->copies > 1)
			refuse_construct("a grouping set that is declared several times", -1);
	}
}

static bool
sublink_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
		refuse_construct("a subquery in an expression above the aggregation",
						 ((SubLink *) node)->location);
	return expression_tree_walker(node, sublink_walker, context);
}

static void
check_expressions(Node *exprs)
{
	sublink_walker(exprs, NULL);
	if (contain_windowfuncs(exprs))
		refuse_construct("a window function", locate_windowfunc(exprs));
	mr_restrict_shown(exprs);
}

/* ---------- folding ---------- */

/* a row of the subquery as one value */
static Node *
whole_row(const FoldContext *context)
{
	RowExpr    *row = makeNode(RowExpr);

	row->args = copyObject(context->exprs);
	row->row_typeid = RECORDOID;
	row->row_format = COERCE_IMPLICIT_CAST;
	row->colnames = copyObject(context->rte->eref->colnames);
	row->location = -1;
	return (Node *) row;
}

static Node *
fold_mutator(Node *node, FoldContext *context)
{
	Var		   *var = (Var *) node;

	if (node == NULL)
		return NULL;
	if (!IsA(node, Var) || var->varno != context->rti || var->varlevelsup != 0)
		return expression_tree_mutator(node, fold_mutator, context);
	if (var->varattno == InvalidAttrNumber)
		return whole_row(context);
	return copyObject(list_nth(context->exprs, var->varattno - 1));
}

/*
 * A level of the reader's query, and those below it, as expressions over the matrel's
 * columns; its conditions are added to quals.
 */
static List *
fold_level(const Query *query, List **quals)
{
	List	   *from = query->jointree->fromlist;
	List	   *exprs = NIL;
	List	   *own = make_ands_implicit((Expr *) query->jointree->quals);
	FoldContext context;
	ListCell   *lc;

	check_level(query);
	if (list_length(from) != 1 || !IsA(linitial(from), RangeTblRef))
		refuse_construct("a join above the aggregation", -1);
	sublink_walker((Node *) own, NULL);
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (tle->resjunk)
			continue;
		sublink_walker((Node *) tle->expr, NULL);
		exprs = lappend(exprs, tle->expr);
	}
	context.rti = linitial_node(RangeTblRef, from)->rtindex;
	context.rte = rt_fetch(context.rti, query->rtable);
	if (context.rte->rtekind == RTE_SUBQUERY)
	{
		context.exprs = fold_level(context.rte->subquery, quals);
		exprs = (List *) fold_mutator((Node *) exprs, &context);
		own = (List *) fold_mutator((Node *) own, &context);
	}
	else if (context.rte->rtekind != RTE_RELATION)
		refuse_construct("WITH RECURSIVE", -1);
	*quals = list_concat(*quals, own);
	return exprs;
}

/* the reader's query as it is when no row is ever too old */
static Query *
timeless_reader(const MrViewAnalysis *analysis, Oid matrel)
{
	MrSplit		split = *(const MrSplit *) analysis;
	Query	   *query;

	split.analysis.bounds = NIL;
	query = mr_view_reader_query(&split.analysis, matrel);
	mr_split_inline_ctes(query, NIL);
	return query;
}

/* ---------- showing ---------- */

/* what rows of the matrel are */
static TupleDesc
matrel_desc(const MrViewAnalysis *analysis)
{
	TupleDesc	desc = CreateTemplateTupleDesc(list_length(analysis->columns));
	ListCell   *lc;

	foreach(lc, analysis->columns)
	{
		const MrMatrelColumn *column = lfirst(lc);
		AttrNumber	attno = foreach_current_index(lc) + 1;

		TupleDescInitEntry(desc, attno, column->name, column->type, column->typmod, 0);
		TupleDescInitEntryCollation(desc, attno, column->collation);
	}
	return desc;
}

static void
find_unseen(MrShown *shown, const MrViewAnalysis *analysis)
{
	ListCell   *lc;

	shown->unseen = palloc(sizeof(Unseen) * (list_length(analysis->bounds) + 1));
	foreach(lc, analysis->bounds)
	{
		const MrBound *bound = lfirst(lc);

		shown->unseen[shown->nunseen].column = bound->column;
		shown->unseen[shown->nunseen++].type = bound->type;
	}
}

MrShown *
mr_shown_create(const MrViewAnalysis *analysis, Oid matrel)
{
	MrShown    *shown = palloc0(sizeof(MrShown));
	List	   *quals = NIL;
	List	   *exprs;
	ListCell   *lc;

	if (analysis->window_column >= 0)
		refuse_window();
	check_sets(analysis->sets);
	exprs = fold_level(timeless_reader(analysis, matrel), &quals);
	check_expressions((Node *) exprs);
	check_expressions((Node *) quals);
	shown->columns = palloc(sizeof(ExprState *) * (list_length(exprs) + 1));
	foreach(lc, exprs)
		shown->columns[shown->ncolumns++] = ExecInitExpr(expression_planner(lfirst(lc)), NULL);
	if (quals != NIL)
		shown->quals = ExecInitQual(make_ands_implicit(expression_planner(make_ands_explicit(quals))),
									NULL);
	find_unseen(shown, analysis);
	shown->econtext = CreateStandaloneExprContext();
	shown->row = MakeSingleTupleTableSlot(matrel_desc(analysis), &TTSOpsVirtual);
	shown->econtext->ecxt_scantuple = shown->row;
	return shown;
}

int
mr_shown_columns(const MrShown *shown)
{
	return shown->ncolumns;
}

static bool
is_unseen(const MrShown *shown, const TupleTableSlot *row)
{
	for (int i = 0; i < shown->nunseen; i++)
	{
		const Unseen *unseen = &shown->unseen[i];
		Datum		value = row->tts_values[unseen->column];

		if (row->tts_isnull[unseen->column])
			continue;
		if (unseen->type == DATEOID ? DATE_IS_NOBEGIN(DatumGetDateADT(value)) :
			TIMESTAMP_IS_NOBEGIN(DatumGetTimestamp(value)))
			return true;
	}
	return false;
}

bool
mr_shown_row(MrShown *shown, TupleTableSlot *row, Datum *values, bool *isnull)
{
	ExprContext *econtext = shown->econtext;
	MemoryContext per_tuple = econtext->ecxt_per_tuple_memory;
	int			natts = shown->row->tts_tupleDescriptor->natts;
	bool		result;

	slot_getallattrs(row);
	if (is_unseen(shown, row))
		return false;
	ExecClearTuple(shown->row);
	memcpy(shown->row->tts_values, row->tts_values, sizeof(Datum) * natts);
	memcpy(shown->row->tts_isnull, row->tts_isnull, sizeof(bool) * natts);
	ExecStoreVirtualTuple(shown->row);

	/* whatever is made while evaluating lives as long as the caller wants */
	econtext->ecxt_per_tuple_memory = CurrentMemoryContext;
	result = shown->quals == NULL || ExecQual(shown->quals, econtext);
	for (int i = 0; result && i < shown->ncolumns; i++)
		values[i] = ExecEvalExpr(shown->columns[i], econtext, &isnull[i]);
	econtext->ecxt_per_tuple_memory = per_tuple;
	return result;
}
