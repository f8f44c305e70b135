/*
 * stream/fdw_scan.c
 *		Executing scans of streams.
 *
 * A scan has one of two sources.  In a client's session it is the topic (topic_scan.c),
 * started when the first row is asked for.  In an ingest worker, told by mr_scan_source(),
 * it is the current batch: its rows are copied into the slot, nothing is allocated, and no
 * catalog is read.  Both give batches, so both fill slots alike.
 */
#include "millrace.h"

#include "stream/batch.h"
#include "stream/bounds.h"
#include "stream/fdw.h"
#include "stream/topic_scan.h"

#include "commands/explain.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

/* a batch's column that the query reads, and where it goes */
typedef struct ColumnCopy
{
	int			from;			/* column of the batch */
	int			to;				/* of the slot, from 0 */
} ColumnCopy;

typedef struct StreamScan
{
	int			ncopies;
	ColumnCopy *copies;

	MrScanSource *source;		/* NULL: the topic is read */
	const MrBatch *batch;		/* current one, or NULL */
	int			row;			/* next of it */
	int			last;

	/* the topic only */
	MrTopicScan *topic;
	MrBoundExprs *bounds;
	bool		started;

	/* EXPLAIN only */
	char	   *topic_name;
	List	   *pushed_down;
} StreamScan;


/* Plan's attribute numbers as a set. */
static Bitmapset *
plan_attributes(const ForeignScan *plan)
{
	Bitmapset  *attrs = NULL;
	ListCell   *lc;

	foreach(lc, (List *) linitial(plan->fdw_private))
		attrs = bms_add_member(attrs, lfirst_int(lc));
	return attrs;
}

/* How the columns of a batch that are read get into the slot. */
static void
map_columns(StreamScan *state, const Bitmapset *wanted, int ncols, const AttrNumber *attnums)
{
	state->ncopies = 0;
	state->copies = palloc(Max(ncols, 1) * sizeof(ColumnCopy));
	for (int col = 0; col < ncols; col++)
	{
		if (!bms_is_member(attnums[col], wanted))
			continue;
		state->copies[state->ncopies].from = col;
		state->copies[state->ncopies++].to = attnums[col] - 1;
	}
}

/* The rows come from the worker's batch. */
static void
begin_batch_scan(StreamScan *state, Relation rel, const Bitmapset *wanted)
{
	const MrBatch *batch = state->source->batch;

	if (batch == NULL || batch->relid != RelationGetRelid(rel))
		return;					/* another stream's: no rows */
	map_columns(state, wanted, batch->ncols, batch->attnums);
	if (state->ncopies != bms_num_members(wanted))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("batch of stream \"%s\" lacks columns of the query",
						RelationGetRelationName(rel))));
	state->batch = batch;
	state->row = state->source->first;
	state->last = state->source->last;
}

/* The rows come from the topic, or the plan is only explained. */
static void
begin_topic_scan(ForeignScanState *node, StreamScan *state, const Bitmapset *wanted, bool explain_only)
{
	ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
	Index		scanrelid = plan->scan.scanrelid;
	MrStream   *stream = mr_stream_get(RelationGetRelid(node->ss.ss_currentRelation));
	Oid			userid = mr_foreign_scan_user(node);
	AttrNumber *attnums = palloc((bms_num_members(wanted) + 1) * sizeof(AttrNumber));
	int			n = 0;

	state->topic_name = stream->topic;
	state->pushed_down = mr_bounds_clauses(stream, scanrelid, plan->scan.plan.qual);
	if (explain_only)
		return;

	for (int attnum = -1; (attnum = bms_next_member(wanted, attnum)) >= 0;)
		attnums[n++] = attnum;
	map_columns(state, wanted, n, attnums);
	state->bounds = mr_bounds_init(stream, scanrelid, state->pushed_down, &node->ss.ps);
	state->topic = mr_topic_scan_create(stream, wanted,
										OidIsValid(userid) ? userid : GetUserId());
}

/*
 * A function in a view's query would see the rows of the batch, or none, where it expects those of the topic; and
 * there is no waiting for a broker where the batch is taken.
 */
static void
refuse_function(Relation rel)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("a function that reads stream \"%s\" is not supported in a continuous view",
					RelationGetRelationName(rel)),
			 errhint("Let it read a table, or write its query as a subquery in FROM.")));
}

static void
begin_scan(ForeignScanState *node, int eflags)
{
	StreamScan *state = palloc0(sizeof(StreamScan));
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;
	Bitmapset  *wanted = plan_attributes((ForeignScan *) node->ss.ps.plan);

	node->fdw_state = state;
	state->source = mr_scan_source();
	if (state->source != NULL && state->source->plan != node->ss.ps.state->es_plannedstmt)
		refuse_function(node->ss.ss_currentRelation);
	if (state->source != NULL && !(eflags & EXEC_FLAG_EXPLAIN_ONLY))
		begin_batch_scan(state, node->ss.ss_currentRelation, wanted);
	else
		begin_topic_scan(node, state, wanted, eflags & EXEC_FLAG_EXPLAIN_ONLY);

	/* rows are not always fetched by the executor, which sets it for each */
	slot->tts_tableOid = RelationGetRelid(node->ss.ss_currentRelation);

	/* what is not read stays null */
	memset(slot->tts_values, 0, slot->tts_tupleDescriptor->natts * sizeof(Datum));
	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts * sizeof(bool));
}

static TupleTableSlot *
store_row(const StreamScan *state, int row, TupleTableSlot *slot)
{
	size_t		at = (size_t) row * state->batch->ncols;
	const Datum *values = state->batch->values + at;
	const bool *isnull = state->batch->isnull + at;

	ExecClearTuple(slot);
	for (int i = 0; i < state->ncopies; i++)
	{
		ColumnCopy	copy = state->copies[i];

		slot->tts_values[copy.to] = values[copy.from];
		slot->tts_isnull[copy.to] = isnull[copy.from];
	}
	(void) ExecStoreVirtualTuple(slot);
	mr_batch_time_to_tid(state->batch->time[row], &slot->tts_tid);
	return slot;
}

static TupleTableSlot *
iterate_batch(StreamScan *state, TupleTableSlot *slot)
{
	MrScanSource *source = state->source;

	while (state->row < state->last)
	{
		int			row = state->row++;

		if (!mr_scan_source_has(source, row))
			continue;
		source->row = row;
		return store_row(state, row, slot);
	}
	return ExecClearTuple(slot);
}

/* Begin reading, from where the conditions say now. */
static void
start_topic(ForeignScanState *node, StreamScan *state)
{
	MrBounds	bounds;

	mr_bounds_evaluate(state->bounds, node->ss.ps.ps_ExprContext, &bounds);
	mr_topic_scan_start(state->topic, &bounds);
	state->batch = NULL;
	state->row = state->last = 0;
	state->started = true;
}

static TupleTableSlot *
iterate_topic(ForeignScanState *node, StreamScan *state, TupleTableSlot *slot)
{
	if (!state->started)
		start_topic(node, state);

	while (state->row >= state->last)
	{
		state->batch = mr_topic_scan_next(state->topic);
		state->row = 0;
		state->last = state->batch == NULL ? 0 : state->batch->nrows;
		if (state->batch == NULL)
			return ExecClearTuple(slot);
	}
	return store_row(state, state->row++, slot);
}

static TupleTableSlot *
iterate_scan(ForeignScanState *node)
{
	StreamScan *state = node->fdw_state;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;

	if (state->source == NULL)
		return iterate_topic(node, state, slot);
	if (state->batch == NULL)
		return ExecClearTuple(slot);
	return iterate_batch(state, slot);
}

static void
rescan(ForeignScanState *node)
{
	StreamScan *state = node->fdw_state;

	if (state->source == NULL)
	{
		state->started = false;
		state->row = state->last = 0;
	}
	else if (state->batch != NULL)
		state->row = state->source->first;
}

static void
end_scan(ForeignScanState *node)
{
	StreamScan *state = node->fdw_state;

	if (state != NULL && state->topic != NULL)
		mr_topic_scan_end(state->topic);
}

static void
explain_scan(ForeignScanState *node, ExplainState *es)
{
	StreamScan *state = node->fdw_state;

	if (state->topic_name != NULL)
		ExplainPropertyText("Kafka Topic", state->topic_name, es);
	if (state->pushed_down != NIL)
	{
		List	   *context = set_deparse_context_plan(es->deparse_cxt, node->ss.ps.plan, NIL);
		Node	   *expr = (Node *) make_ands_explicit(state->pushed_down);

		ExplainPropertyText("Pushed Down",
							deparse_expression(expr, context,
											   es->verbose || list_length(es->rtable) > 1, false),
							es);
	}
}

void
mr_fdw_scan_routine(FdwRoutine *routine)
{
	routine->BeginForeignScan = begin_scan;
	routine->IterateForeignScan = iterate_scan;
	routine->ReScanForeignScan = rescan;
	routine->EndForeignScan = end_scan;
	routine->ExplainForeignScan = explain_scan;
}
