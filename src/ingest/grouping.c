/*
 * grouping.c
 *		Aggregating a batch without the executor's Agg node.
 *
 * A view's plan is an Agg over whatever gives it rows.  Here the executor runs only what is
 * below, and the rows go into MrGroups, by blocks, with the transition functions called
 * directly.  Where a scan of the stream is all that is below, not even that is run: rows
 * are taken from the scan as they are, conditions and expressions are evaluated on them, and
 * what they point to need not be copied.
 *
 * The results are those of the Agg node; it is still used (mr_grouping_create returns NULL)
 * for keys without a hash function, and for plans that are no plain Agg with groups and
 * states for columns.  The setting millrace.executor_aggregation asks for it always.
 *
 * Each value that the groups or the aggregates need is an input, computed once for each
 * row: a column, an expression, or date_trunc() of a column, whose last results are
 * remembered, since messages come in an order of time as a rule.
 *
 * Memory: the groups, until the merge is done with them; a block's litter, reset after each
 * block; the executor's own.
 */
#include "millrace.h"

#include "access/htup_details.h"
#include "executor/executor.h"
#include "foreign/fdwapi.h"
#include "ingest/grouping.h"
#include "ingest/groups.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "stream/batch.h"
#include "stream/option.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define BLOCK				MR_GROUPS_BLOCK
#define PASSED_OVER			4096
#define REMEMBERED_SECONDS	256 /* a power of two */

/* what date_trunc() made of any time within a second */
typedef struct Truncated
{
	bool		used;
	int64		second;
	Datum		result;
} Truncated;

/* a value that is needed of each row */
typedef struct Input
{
	AttrNumber	attnum;			/* of the row's slot, or InvalidAttrNumber: an
								 * expression */
	AttrNumber	truncated;		/* date_trunc() of this attribute */
	ExprState  *state;
	bool		byval;
	int16		len;
	Datum	   *values;			/* BLOCK */
	bool	   *isnull;
	Truncated  *remembered;
} Input;

/* one aggregate: places of its arguments and its filter among the inputs */
typedef struct Call
{
	const Aggref *aggref;
	int			nargs;
	int		   *args;
	int			filter;			/* -1: none */
} Call;

struct MrGrouping
{
	PlannedStmt *below;			/* what gives the rows */
	Index		scanrelid;		/* it is a bare scan of this stream; 0: no */
	const List *columns;
	List	   *output;			/* the Agg's target list */
	int			nkeys;
	int		   *keys;			/* inputs */
	int			ncalls;
	Call	   *calls;
	List	   *inputs;			/* of Expr * */
};

/* one run over a batch */
typedef struct Run
{
	const MrGrouping *grouping;
	PlanState  *node;
	ExprContext *econtext;
	int			ninputs;
	Input	   *inputs;
	MrGroups   *groups;
	MrTransition **transitions;
	Datum	   *key_values[INDEX_MAX_KEYS];
	bool	   *key_nulls[INDEX_MAX_KEYS];
	bool		key_copied[INDEX_MAX_KEYS];
	TupleDesc	desc;			/* of partial rows */
	int			n;				/* rows in the block */
	int			passed_over;	/* rows that were not what the condition wants */
	int			rows[BLOCK];	/* of the scan source, for error contexts */
	MrGroup    *found[BLOCK];
} Run;

/* ---------- what can be done ---------- */

/* expressions of an Agg in terms of the plan node below it */
typedef struct Lowering
{
	List	   *below;			/* that node's target list */
} Lowering;

static Node *
lower_mutator(Node *node, Lowering *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varno == OUTER_VAR)
		return copyObject((Node *) list_nth_node(TargetEntry, context->below,
												 ((Var *) node)->varattno - 1)->expr);
	return expression_tree_mutator(node, lower_mutator, context);
}

/* the place of an expression among the inputs */
static int
add_input(MrGrouping *grouping, const Plan *below, Expr *expr)
{
	Lowering	context = {below->targetlist};
	ListCell   *lc;

	if (grouping->scanrelid != 0)
		expr = (Expr *) lower_mutator((Node *) expr, &context);
	foreach(lc, grouping->inputs)
		if (equal(lfirst(lc), expr))
		return foreach_current_index(lc);
	grouping->inputs = lappend(grouping->inputs, expr);
	return list_length(grouping->inputs) - 1;
}

/* an argument is computed only where the call's filter holds: it may be an error elsewhere */
static Expr *
filtered_argument(const Aggref *aggref, Expr *argument)
{
	CaseExpr   *result;
	CaseWhen   *when;

	if (aggref->aggfilter == NULL || IsA(argument, Var) || IsA(argument, Const))
		return argument;
	when = makeNode(CaseWhen);
	when->expr = aggref->aggfilter;
	when->result = argument;
	when->location = -1;
	result = makeNode(CaseExpr);
	result->casetype = exprType((Node *) argument);
	result->casecollid = exprCollation((Node *) argument);
	result->args = list_make1(when);
	result->defresult = (Expr *) makeNullConst(result->casetype, exprTypmod((Node *) argument), result->casecollid);
	result->location = -1;
	return (Expr *) result;
}

static void
add_call(MrGrouping *grouping, const Plan *below, const Aggref *aggref)
{
	Call	   *call = &grouping->calls[grouping->ncalls++];
	ListCell   *lc;

	call->aggref = aggref;
	call->args = palloc(sizeof(int) * (list_length(aggref->args) + 1));
	foreach(lc, aggref->args)
		call->args[call->nargs++] = add_input(grouping, below,
											  filtered_argument(aggref, lfirst_node(TargetEntry, lc)->expr));
	call->filter = aggref->aggfilter ? add_input(grouping, below, aggref->aggfilter) : -1;
}

/* what gives an Agg its rows, in whatever order */
static Plan *
rows_below(const Agg *agg)
{
	Plan	   *below = outerPlan(&agg->plan);

	if (IsA(below, Sort) && below->initPlan == NIL)
		below = outerPlan(below);
	return below;
}

/* keys first, then states, as the matrel has them, and a way to find the groups */
static bool
is_suitable(const Plan *plan, const MrViewAnalysis *analysis)
{
	const Agg  *agg = (const Agg *) plan;
	ListCell   *lc;

	if (!IsA(plan, Agg) || plan->initPlan != NIL || plan->qual != NIL ||
		agg->groupingSets != NIL || agg->aggstrategy == AGG_MIXED || outerPlan(plan) == NULL ||
		analysis->nkeys > INDEX_MAX_KEYS || !mr_groups_possible(analysis->columns))
		return false;
	foreach(lc, plan->targetlist)
	{
		Expr	   *expr = lfirst_node(TargetEntry, lc)->expr;

		if (foreach_current_index(lc) < analysis->nkeys ? !IsA(expr, Var) : !IsA(expr, Aggref))
			return false;
	}
	return true;
}

/* a statement that runs only a part of the plan */
static PlannedStmt *
statement_below(const PlannedStmt *plan, Plan *below)
{
	PlannedStmt *result = makeNode(PlannedStmt);

	*result = *plan;
	result->planTree = below;
	return result;
}

static Index
bare_scan(const PlannedStmt *plan, const Plan *below)
{
	Index		scanrelid;

	if (!IsA(below, ForeignScan) || below->initPlan != NIL)
		return 0;
	scanrelid = ((const ForeignScan *) below)->scan.scanrelid;
	if (scanrelid == 0 || !mr_is_stream(rt_fetch(scanrelid, plan->rtable)->relid))
		return 0;
	return scanrelid;
}

MrGrouping *
mr_grouping_create(PlannedStmt *plan, const MrViewAnalysis *analysis)
{
	MrGrouping *grouping;
	Plan	   *below;
	ListCell   *lc;

	if (!is_suitable(plan->planTree, analysis))
		return NULL;
	below = rows_below((Agg *) plan->planTree);
	grouping = palloc0(sizeof(MrGrouping));
	grouping->below = statement_below(plan, below);
	grouping->scanrelid = bare_scan(plan, below);
	grouping->columns = analysis->columns;
	grouping->output = plan->planTree->targetlist;
	grouping->keys = palloc(sizeof(int) * (analysis->nkeys + 1));
	grouping->calls = palloc0(sizeof(Call) * (list_length(grouping->output) + 1));
	foreach(lc, grouping->output)
	{
		Expr	   *expr = lfirst_node(TargetEntry, lc)->expr;

		if (IsA(expr, Aggref))
			add_call(grouping, below, (Aggref *) expr);
		else
			grouping->keys[grouping->nkeys++] = add_input(grouping, below, expr);
	}
	return grouping;
}

/* ---------- inputs ---------- */

/* date_trunc() to a second or more is the same for all times within a second */
static AttrNumber
truncated_column(const Expr *expr)
{
	static const char *const units[] = {"second", "minute", "hour", "day", "week", "month", "quarter", "year"};
	const FuncExpr *call = (const FuncExpr *) expr;
	const Const *unit;
	char	   *name;

	if (!IsA(expr, FuncExpr) ||
		(call->funcid != F_DATE_TRUNC_TEXT_TIMESTAMPTZ && call->funcid != F_DATE_TRUNC_TEXT_TIMESTAMP))
		return InvalidAttrNumber;
	unit = linitial(call->args);
	if (!IsA(unit, Const) || unit->constisnull || !IsA(lsecond(call->args), Var))
		return InvalidAttrNumber;
	name = TextDatumGetCString(unit->constvalue);
	for (int i = 0; i < lengthof(units); i++)
		if (pg_strcasecmp(name, units[i]) == 0)
			return ((Var *) lsecond(call->args))->varattno;
	return InvalidAttrNumber;
}

static void
init_input(Run *run, Input *input, Expr *expr)
{
	input->values = palloc(sizeof(Datum) * BLOCK);
	input->isnull = palloc(sizeof(bool) * BLOCK);
	get_typlenbyval(exprType((Node *) expr), &input->len, &input->byval);
	if (IsA(expr, Var) && ((Var *) expr)->varattno > 0)
	{
		input->attnum = ((Var *) expr)->varattno;
		return;
	}
	input->state = ExecInitExpr(expr, run->node);
	input->truncated = truncated_column(expr);
	if (input->truncated > 0)
		input->remembered = palloc0(sizeof(Truncated) * REMEMBERED_SECONDS);
}

static inline Datum
evaluate(Run *run, Input *input, bool *isnull)
{
	return ExecEvalExprSwitchContext(input->state, run->econtext, isnull);
}

static Datum
truncate_time(Run *run, Input *input, TupleTableSlot *slot, bool *isnull)
{
	int64		time = DatumGetInt64(slot->tts_values[input->truncated - 1]);
	int64		second = time / USECS_PER_SEC - (time % USECS_PER_SEC < 0);
	Truncated  *known = &input->remembered[second & (REMEMBERED_SECONDS - 1)];

	*isnull = slot->tts_isnull[input->truncated - 1];
	if (*isnull)
		return (Datum) 0;
	if (!known->used || known->second != second)
	{
		known->result = evaluate(run, input, isnull);
		known->second = second;
		known->used = true;
	}
	return known->result;
}

/*
 * A value that can be used until the end of the block, and flat.  A column of the batch is
 * that already; others may lie in the row, or in what a subplan keeps until its next run.
 */
static Datum
keep_value(Run *run, const Input *input, Datum value)
{
	MemoryContext old;

	if (input->byval || (run->grouping->scanrelid != 0 && input->attnum > 0))
		return value;
	old = MemoryContextSwitchTo(run->econtext->ecxt_per_tuple_memory);
	if (input->len == -1 && VARATT_IS_EXTENDED(DatumGetPointer(value)) &&
		!VARATT_IS_SHORT(DatumGetPointer(value)))
		value = PointerGetDatum(PG_DETOAST_DATUM(value));
	else
		value = datumCopy(value, input->byval, input->len);
	MemoryContextSwitchTo(old);
	return value;
}

static void
take_inputs(Run *run, TupleTableSlot *slot)
{
	int			row = run->n;

	for (int i = 0; i < run->ninputs; i++)
	{
		Input	   *input = &run->inputs[i];
		bool	   *isnull = &input->isnull[row];

		if (input->attnum > 0)
		{
			input->values[row] = slot->tts_values[input->attnum - 1];
			*isnull = slot->tts_isnull[input->attnum - 1];
		}
		else if (input->truncated > 0)
			input->values[row] = truncate_time(run, input, slot, isnull);
		else
			input->values[row] = evaluate(run, input, isnull);
		if (!*isnull)
			input->values[row] = keep_value(run, input, input->values[row]);
	}
}

/* ---------- blocks ---------- */

static void
advance(Run *run, int i)
{
	const Call *call = &run->grouping->calls[i];
	MrScanSource *source = mr_scan_source();
	Datum	   *values[FUNC_MAX_ARGS];
	bool	   *isnull[FUNC_MAX_ARGS];
	const Input *filter = call->filter < 0 ? NULL : &run->inputs[call->filter];

	for (int a = 0; a < call->nargs; a++)
	{
		values[a] = run->inputs[call->args[a]].values;
		isnull[a] = run->inputs[call->args[a]].isnull;
	}
	for (int row = 0; row < run->n; row++)
	{
		if (filter && (filter->isnull[row] || !DatumGetBool(filter->values[row])))
			continue;
		source->row = run->rows[row];
		mr_transition_advance(run->transitions[i], mr_groups_state(run->found[row], i),
							  values, isnull, row);
	}
}

static void
take_block(Run *run)
{
	MemoryContext old = MemoryContextSwitchTo(run->econtext->ecxt_per_tuple_memory);

	CHECK_FOR_INTERRUPTS();
	if (run->grouping->nkeys > 0)
		mr_groups_find(run->groups, run->n, run->key_values, run->key_nulls, run->key_copied, run->found);
	else
		for (int row = 0; row < run->n; row++)
			run->found[row] = mr_groups_only(run->groups);
	for (int i = 0; i < run->grouping->ncalls; i++)
		advance(run, i);
	run->n = 0;
	run->passed_over = 0;
	MemoryContextSwitchTo(old);
	ResetExprContext(run->econtext);
}

/* ---------- rows ---------- */

/* rows of the batch as its scan gives them */
static TupleTableSlot *
next_of_scan(Run *run)
{
	ForeignScanState *scan = (ForeignScanState *) run->node;

	for (;;)
	{
		TupleTableSlot *slot = scan->fdwroutine->IterateForeignScan(scan);

		if (TupIsNull(slot))
			return NULL;
		run->econtext->ecxt_scantuple = slot;
		if (ExecQual(run->node->qual, run->econtext))
			return slot;
		/* what the condition leaves behind goes with the block */
		if (++run->passed_over >= PASSED_OVER)
			take_block(run);
	}
}

/* rows of whatever else is below */
static TupleTableSlot *
next_of_plan(Run *run)
{
	TupleTableSlot *slot;

	ResetPerTupleExprContext(run->node->state);
	slot = ExecProcNode(run->node);
	if (TupIsNull(slot))
		return NULL;
	slot_getallattrs(slot);
	run->econtext->ecxt_outertuple = slot;
	return slot;
}

static void
take_rows(Run *run, MrMerge *merge, Size memory)
{
	MrScanSource *source = mr_scan_source();
	bool		bare = run->grouping->scanrelid != 0;
	TupleTableSlot *slot;

	while ((slot = bare ? next_of_scan(run) : next_of_plan(run)) != NULL)
	{
		take_inputs(run, slot);
		run->rows[run->n++] = source->row;
		if (run->n < BLOCK)
			continue;
		take_block(run);
		if (mr_groups_memory(run->groups) > memory)
			mr_merge_put_aside(merge, run->groups, run->desc);
	}
	take_block(run);
}

/* ---------- a run ---------- */

static void
init_run(Run *run, const MrGrouping *grouping, QueryDesc *desc)
{
	ExprContext *states = makeNode(ExprContext);
	ListCell   *lc;

	run->desc = ExecTypeFromTL(grouping->output);
	run->grouping = grouping;
	run->node = desc->planstate;
	run->econtext = CreateExprContext(desc->estate);
	run->inputs = palloc0(sizeof(Input) * (list_length(grouping->inputs) + 1));
	foreach(lc, grouping->inputs)
		init_input(run, &run->inputs[run->ninputs++], lfirst(lc));
	run->transitions = palloc(sizeof(MrTransition *) * (grouping->ncalls + 1));
	for (int i = 0; i < grouping->ncalls; i++)
		run->transitions[i] = mr_transition_create(grouping->calls[i].aggref, states);
	run->groups = mr_groups_create(grouping->columns, grouping->nkeys, run->transitions, states);
	for (int k = 0; k < grouping->nkeys; k++)
	{
		const Input *input = &run->inputs[grouping->keys[k]];

		run->key_values[k] = input->values;
		run->key_nulls[k] = input->isnull;
		run->key_copied[k] = !input->byval && (grouping->scanrelid == 0 || input->attnum == 0);
	}
}

void
mr_grouping_run(const MrGrouping *grouping, MrMerge *merge, Size memory)
{
	QueryDesc  *desc = CreateQueryDesc(grouping->below, "continuous view", GetActiveSnapshot(),
									   InvalidSnapshot, None_Receiver, NULL, mr_scan_environment(), 0);
	Run			run = {0};
	MemoryContext old;

	mr_scan_source_run(grouping->below);
	ExecutorStart(desc, 0);
	init_run(&run, grouping, desc);
	old = MemoryContextSwitchTo(desc->estate->es_query_cxt);
	take_rows(&run, merge, memory);
	MemoryContextSwitchTo(old);
	mr_merge_take_groups(merge, run.groups, run.desc);
	ExecutorFinish(desc);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
}
