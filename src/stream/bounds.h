/*
 * stream/bounds.h
 *		What a query's conditions say of the part of a topic that can hold its rows.
 *
 * Bounds only prune: a condition that gives one stays a filter, too.
 */
#ifndef MR_STREAM_BOUNDS_H
#define MR_STREAM_BOUNDS_H

#include "stream/option.h"

#include "nodes/execnodes.h"

/* ranges include both ends; nothing can match when empty is true */
typedef struct MrBounds
{
	bool		empty;
	int64		partition_min;
	int64		partition_max;
	List	   *partition_lists;	/* of List of int: a partition must be in
									 * all */
	int64		offset_min;
	int64		offset_max;
	int64		timestamp_min;	/* ms since the Unix epoch; PG_INT64_MIN: none */
} MrBounds;

typedef struct MrBoundExprs MrBoundExprs;

/* those of the conditions on relation scanrelid that give bounds */
extern List *mr_bounds_clauses(const MrStream *stream, Index scanrelid, List *quals);

/* ready to evaluate what mr_bounds_clauses returned; planstate may be NULL for constants */
extern MrBoundExprs *mr_bounds_init(const MrStream *stream, Index scanrelid, List *clauses,
									PlanState *planstate);

/* their values now */
extern void mr_bounds_evaluate(MrBoundExprs *exprs, ExprContext *econtext, MrBounds *bounds);

extern bool mr_bounds_has_partition(const MrBounds *bounds, int32 partition);

#endif							/* MR_STREAM_BOUNDS_H */
