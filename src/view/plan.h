/*
 * view/plan.h
 *		Planning a view's partial query, and running it over the current batch.
 */
#ifndef MR_VIEW_PLAN_H
#define MR_VIEW_PLAN_H

#include "view/analyze.h"

#include "nodes/plannodes.h"
#include "tcop/dest.h"

/*
 * Rewrite (rules, row security) and plan the partial query; its top Agg emits stored
 * states (AGGSPLIT_INITIAL_SERIAL), so that the plan's rows are rows of the matrel.
 * Result lives in the current memory context.  Call it as the view's owner.
 */
extern PlannedStmt *mr_plan_partial(const MrViewAnalysis *analysis);

/* of a view over tables: the same over all rows of the tables, instead of those provided */
extern PlannedStmt *mr_plan_contents(const MrViewAnalysis *analysis);

/* is it out of date when that entry of a system cache (hash 0: any) has changed? */
extern bool mr_plan_depends_on(const PlannedStmt *plan, int cache, uint32 hash);

/*
 * Run a plan once over what the scan source says, rows go to dest; params may be NULL; needs an active snapshot.  Returns
 * rows emitted, or removed.
 */
extern uint64 mr_plan_run(PlannedStmt *plan, DestReceiver *dest, ParamListInfo params);

#endif							/* MR_VIEW_PLAN_H */
