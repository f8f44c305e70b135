/*
 * view/plan.c
 *		Plans the query that every batch runs, and runs it.
 *
 * The planner plans an ordinary aggregation; its top Agg is then told to emit states, in
 * the way a worker of a parallel query does.  To ask the planner for partial aggregation
 * itself would need a path that it only makes for parallel plans.
 *
 * No parallel workers (they do not see the batch), no JIT (it costs more than a batch).
 */
#include "millrace.h"

#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "jit/jit.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/planner.h"
#include "rewrite/rewriteHandler.h"
#include "stream/batch.h"
#include "stream/option.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "view/aggregate.h"
#include "view/local.h"
#include "view/plan.h"
#include "view/transform.h"

/* references to streams that were counted */
typedef struct StreamCount
{
	const List *tables;			/* those that are streams, too */
	int			n;
} StreamCount;

static Query *
rewrite_partial(const MrViewAnalysis *analysis)
{
	Query	   *query = OidIsValid(analysis->sink) ? mr_transform_insert(analysis) :
	copyObject(analysis->partial);
	List	   *rewritten;

	AcquireRewriteLocks(query, true, false);
	rewritten = QueryRewrite(query);
	if (list_length(rewritten) != 1)
		elog(ERROR, "unexpected rewrite result for a continuous view");
	return linitial_node(Query, rewritten);
}

/* make the Agg emit states instead of results */
static void
emit_states(Agg *agg)
{
	ListCell   *lc;

	if (!IsA(agg, Agg) || agg->plan.qual != NIL || agg->aggsplit != AGGSPLIT_SIMPLE)
		elog(ERROR, "unexpected plan for a continuous view");
	agg->aggsplit = AGGSPLIT_INITIAL_SERIAL;
	foreach(lc, agg->plan.targetlist)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (IsA(tle->expr, Aggref))
			mark_partial_aggref((Aggref *) tle->expr, AGGSPLIT_INITIAL_SERIAL);
		else if (!IsA(tle->expr, GroupingFunc) && contain_agg_clause((Node *) tle->expr))
			elog(ERROR, "unexpected target list in a continuous view's plan");
	}
}

/* the plan's rows must be what the merge expects, or it would misread them */
static void
check_output(const PlannedStmt *plan, const List *columns)
{
	ListCell   *lc;
	ListCell   *lc2;

	if (list_length(plan->planTree->targetlist) != list_length(columns))
		elog(ERROR, "a continuous view's plan has %d columns instead of %d",
			 list_length(plan->planTree->targetlist), list_length(columns));
	forboth(lc, plan->planTree->targetlist, lc2, columns)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		MrMatrelColumn *column = lfirst(lc2);
		Oid			expected = column->aggref ? mr_aggregate_partial_type(column->aggref) : column->type;

		if (exprType((Node *) tle->expr) != expected)
			elog(ERROR, "column \"%s\" of a continuous view's plan is of type %s instead of %s",
				 column->name, format_type_be(exprType((Node *) tle->expr)),
				 format_type_be(expected));
	}
}

/* is it an entry of the range table that reads a stream?  tables: those that are streams, too */
static bool
is_stream_entry(const RangeTblEntry *rte, const List *tables)
{
	return rte->rtekind == RTE_RELATION &&
		(mr_is_stream(rte->relid) || list_member_oid(tables, rte->relid));
}

static bool
count_streams_walker(Node *node, StreamCount *count)
{
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, count_streams_walker, count);
	foreach(lc, ((Query *) node)->rtable)
	{
		count->n += is_stream_entry(lfirst_node(RangeTblEntry, lc), count->tables);
	}
	return query_tree_walker((Query *) node, count_streams_walker, count, 0);
}

/*
 * A stream that is not partitioned has no children, but the server may take it for a parent because it had some
 * once, and read it as its own child.
 */
static bool
forget_children_walker(Node *node, const List *tables)
{
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, forget_children_walker, unconstify(List *, tables));
	foreach(lc, ((Query *) node)->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (is_stream_entry(rte, tables) && rte->relkind != RELKIND_PARTITIONED_TABLE)
			rte->inh = false;
	}
	return query_tree_walker((Query *) node, forget_children_walker, unconstify(List *, tables), 0);
}

/*
 * The planner puts SQL functions' bodies in the place of their calls.  One that reads a
 * stream would see the batch, not the topic.
 */
static void
check_inlined(Query *query, const PlannedStmt *plan, const List *tables)
{
	StreamCount before = {tables, 0};
	int			after = 0;
	ListCell   *lc;

	count_streams_walker((Node *) query, &before);
	foreach(lc, plan->rtable)
		after += is_stream_entry(lfirst_node(RangeTblEntry, lc), tables);
	if (after > before.n)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("a function that reads a stream is not supported in a continuous view"),
				errhint("Write its query as a subquery in FROM."));
}

static PlannedStmt *
plan_query(const MrViewAnalysis *analysis, Query *query)
{
	PlannedStmt *plan;
	ListCell   *lc;

	forget_children_walker((Node *) query, analysis->tables);
	plan = pg_plan_query(copyObject(query), "continuous view", 0, NULL);
	check_inlined(query, plan, analysis->tables);

	foreach(lc, analysis->columns)
	{
		if (((MrMatrelColumn *) lfirst(lc))->aggref != NULL)
		{
			emit_states((Agg *) plan->planTree);
			break;
		}
	}
	plan->jitFlags = PGJIT_NONE;
	if (!OidIsValid(analysis->sink))
		check_output(plan, analysis->columns);
	return plan;
}

PlannedStmt *
mr_plan_partial(const MrViewAnalysis *analysis)
{
	Query	   *query = rewrite_partial(analysis);

	if (analysis->tables != NIL)
		mr_local_substitute(query, analysis->tables);
	return plan_query(analysis, query);
}

/*
 * The least or greatest value of a whole table may be read from an index, but states cannot; no index gives what is
 * filtered.
 */
static void
keep_off_indexes(Query *query)
{
	ListCell   *lc;

	if (query->groupClause != NIL || query->groupingSets != NIL)
		return;
	foreach(lc, query->targetList)
	{
		Aggref	   *aggref = (Aggref *) lfirst_node(TargetEntry, lc)->expr;

		if (IsA(aggref, Aggref) && aggref->aggfilter == NULL)
			aggref->aggfilter = (Expr *) makeBoolConst(true, false);
	}
}

PlannedStmt *
mr_plan_contents(const MrViewAnalysis *analysis)
{
	Query	   *query = rewrite_partial(analysis);
	int			settings = NewGUCNestLevel();
	PlannedStmt *plan;

	keep_off_indexes(query);
	/* one Agg, not one for each partition */
	(void) set_config_option("enable_partitionwise_aggregate", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	plan = plan_query(analysis, query);
	AtEOXact_GUC(false, settings);
	return plan;
}

bool
mr_plan_depends_on(const PlannedStmt *plan, int cache, uint32 hash)
{
	ListCell   *lc;

	foreach(lc, plan->invalItems)
	{
		const PlanInvalItem *item = lfirst(lc);

		if (item->cacheId == cache && (hash == 0 || item->hashValue == hash))
			return true;
	}
	return false;
}

uint64
mr_plan_run(PlannedStmt *plan, DestReceiver *dest, ParamListInfo params)
{
	QueryDesc  *desc = CreateQueryDesc(plan, "continuous view", GetActiveSnapshot(),
									   InvalidSnapshot, dest, params, mr_scan_environment(), 0);
	uint64		processed;

	mr_scan_source_run(plan);
	ExecutorStart(desc, 0);
	mr_executor_run(desc);
	ExecutorFinish(desc);
	processed = desc->estate->es_processed;
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	return processed;
}
