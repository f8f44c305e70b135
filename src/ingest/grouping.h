/*
 * ingest/grouping.h
 *		Aggregating a batch without the executor's Agg node.
 */
#ifndef MR_INGEST_GROUPING_H
#define MR_INGEST_GROUPING_H

#include "ingest/merge.h"

#include "nodes/plannodes.h"

typedef struct MrGrouping MrGrouping;

/*
 * How to run a view's plan (of mr_plan_partial) that way; lives in the current context, with
 * the plan.  NULL: only the executor can.
 */
extern MrGrouping *mr_grouping_create(PlannedStmt *plan, const MrViewAnalysis *analysis);

/*
 * Run it over the current scan source and give the groups to the merge, which has begun.
 * memory: bytes that groups may take before they are put aside (see merge.h).  Memory of
 * the batch is below the current context.  Call it as the view's owner.
 */
extern void mr_grouping_run(const MrGrouping *grouping, MrMerge *merge, Size memory);

#endif							/* MR_INGEST_GROUPING_H */
