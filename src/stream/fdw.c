/*
 * stream/fdw.c
 *		The foreign-data wrapper: its handler, and planning scans of streams.
 *
 * A scan's plan is the same in a client's session, where it reads the topic, and in an
 * ingest worker, where it returns the current batch; which of the two is decided when the
 * executor starts (fdw_scan.c).  The plan tells the columns that are read and keeps all
 * conditions; the bounds that follow from them are found at executor start, too, so that
 * they follow parameters and now().
 *
 * Planning never contacts a broker, so row estimates are guesses: a topic is taken for large
 * enough to be aggregated and joined by hashing.  In a worker the rows of the batch are
 * known, and are the estimate.
 */
#include "millrace.h"

#include "stream/batch.h"
#include "stream/fdw.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/planmain.h"
#include "optimizer/restrictinfo.h"
#include "utils/rel.h"

#define DEFAULT_MESSAGES	100000.0

/* connecting takes as long as reading some thousand pages */
#define TOPIC_STARTUP_COST	1000.0
/* a message is decoded: many operators' worth */
#define MESSAGE_COST_FACTOR 20.0

PG_FUNCTION_INFO_V1(mr_fdw_handler);


static double
estimated_messages(Oid relid)
{
	const MrScanSource *source = mr_scan_source();

	if (source == NULL)
		return DEFAULT_MESSAGES;
	if (source->batch == NULL || source->batch->relid != relid)
		return 1;
	return Max(source->last - source->first, 1);
}

static void
get_rel_size(PlannerInfo *root, RelOptInfo *baserel, Oid relid)
{
	baserel->tuples = estimated_messages(relid);
	set_baserel_size_estimates(root, baserel);
}

static void
get_paths(PlannerInfo *root, RelOptInfo *baserel, Oid relid)
{
	bool		from_batch = mr_scan_source() != NULL;
	Cost		startup = baserel->baserestrictcost.startup;
	Cost		per_message = baserel->baserestrictcost.per_tuple + cpu_tuple_cost;

	if (!from_batch)
	{
		startup += TOPIC_STARTUP_COST;
		per_message += MESSAGE_COST_FACTOR * cpu_operator_cost;
	}
	add_path(baserel, (Path *)
			 mr_create_foreignscan_path(root, baserel, startup,
										startup + per_message * baserel->tuples));
}

/* Attribute numbers that a query reads of the relation, as List of int, ascending. */
static List *
needed_attributes(RelOptInfo *baserel, Oid relid)
{
	Bitmapset  *attrs = NULL;
	List	   *result = NIL;
	Relation	rel = table_open(relid, NoLock);
	TupleDesc	desc = RelationGetDescr(rel);
	bool		whole_row;
	ListCell   *lc;

	pull_varattnos((Node *) baserel->reltarget->exprs, baserel->relid, &attrs);
	foreach(lc, baserel->baserestrictinfo)
		pull_varattnos((Node *) lfirst_node(RestrictInfo, lc)->clause, baserel->relid, &attrs);
	whole_row = bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, attrs);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (!attr->attisdropped &&
			(whole_row ||
			 bms_is_member(attr->attnum - FirstLowInvalidHeapAttributeNumber, attrs)))
			result = lappend_int(result, attr->attnum);
	}
	table_close(rel, NoLock);
	return result;
}

static ForeignScan *
get_plan(PlannerInfo *root, RelOptInfo *baserel, Oid relid, ForeignPath *best_path,
		 List *tlist, List *scan_clauses, Plan *outer_plan)
{
	return make_foreignscan(tlist,
							extract_actual_clauses(scan_clauses, false),
							baserel->relid,
							NIL,
							list_make1(needed_attributes(baserel, relid)),
							NIL, NIL, outer_plan);
}

Datum
mr_fdw_handler(PG_FUNCTION_ARGS)
{
	FdwRoutine *routine = makeNode(FdwRoutine);

	routine->GetForeignRelSize = get_rel_size;
	routine->GetForeignPaths = get_paths;
	routine->GetForeignPlan = get_plan;
	mr_fdw_scan_routine(routine);
	mr_fdw_modify_routine(routine);
	PG_RETURN_POINTER(routine);
}
