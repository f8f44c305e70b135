/*
 * view/aggregate_internal.h
 *		An aggregate that is ready to combine, for who calls its functions as well: aggregate.c,
 *		and merge_states.c in an Agg node.  Private to them.
 */
#ifndef MR_VIEW_AGGREGATE_INTERNAL_H
#define MR_VIEW_AGGREGATE_INTERNAL_H

#include "view/aggregate.h"
#include "view/support.h"

struct MrAggregate
{
	MrAggregateInfo info;
	Oid			collation;
	uint64		stamp;			/* of serialized states */
	int16		statelen;		/* of the stored state's type */
	bool		statebyval;
	FmgrInfo	combine;
	FmgrInfo	serialize;
	FmgrInfo	deserialize;
	ExprContext *context;
	AggState   *aggstate;
};

/* find the functions of an aggregate whose info is there, in the current memory context */
extern void mr_aggregate_init(MrAggregate *agg, Oid collation);

/* a stored state as the combine function wants it; a copy, for it may write on the first */
extern Datum mr_aggregate_load(MrAggregate *agg, Datum state);

/* state as it is stored */
extern Datum mr_aggregate_store(MrAggregate *agg, Datum state, bool *isnull);

#endif							/* MR_VIEW_AGGREGATE_INTERNAL_H */
