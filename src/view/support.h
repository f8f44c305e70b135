/*
 * view/support.h
 *		An aggregate's support functions, called outside of an Agg node.  Private to view/.
 */
#ifndef MR_VIEW_SUPPORT_H
#define MR_VIEW_SUPPORT_H

#include "view/aggregate_info.h"

#include "nodes/execnodes.h"

/*
 * Ready to be called; in the current memory context.  The aggregate's owner must be allowed to
 * use what it is made of, as in nodeAgg.c.
 */
extern void mr_support_init(FmgrInfo *finfo, Oid funcid, const MrAggregateInfo *info);

/* to be the calls' context: an AggState that has nothing but a memory context */
extern AggState *mr_support_aggstate(ExprContext *context);

/* the memory that functions which ask are told, from here on */
extern void mr_support_use_memory(ExprContext *context, MemoryContext memory);

/* a serialized state, not NULL, as the aggregate's functions want it */
extern Datum mr_support_deserialize(const MrAggregateInfo *info, FmgrInfo *deserialize,
									AggState *aggstate, uint64 stamp, Datum state);

#endif							/* MR_VIEW_SUPPORT_H */
