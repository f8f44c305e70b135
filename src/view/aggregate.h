/*
 * view/aggregate.h
 *		Aggregates as states, outside of an Agg node: which can be kept as such, and combining
 *		two of them.
 *
 * A state is stored as the transition type itself, or serialized and sealed, as
 * millrace.state, when that is internal.
 */
#ifndef MR_VIEW_AGGREGATE_H
#define MR_VIEW_AGGREGATE_H

#include "millrace.h"

#include "nodes/primnodes.h"

typedef struct MrAggregate MrAggregate;

/* type in which an aggregate's state is stored; ERROR 0A000 when it cannot be combined */
extern Oid	mr_aggregate_state_type(const Aggref *aggref);

/* type in which a partial plan emits the state: bytea where it is stored sealed */
extern Oid	mr_aggregate_partial_type(const Aggref *aggref);

/* ready to combine; lives in the current memory context */
extern MrAggregate *mr_aggregate_create(const Aggref *aggref);

/*
 * Combine two stored states into one, allocated in the current memory context (temporary
 * data too: call it in a short-lived context).  Semantics of nodeAgg.c's combine step.
 */
extern Datum mr_aggregate_combine(MrAggregate *agg, Datum a, bool a_null, Datum b, bool b_null,
								  bool *isnull);

/* do partial plans' states have to be sealed to be stored? */
extern bool mr_aggregate_is_sealed(const MrAggregate *agg);

/* the stored state of a partial plan's, not NULL, in the current memory context */
extern Datum mr_aggregate_seal(const MrAggregate *agg, Datum partial);

/* the stored state of no rows at all */
extern Datum mr_aggregate_initial(MrAggregate *agg, bool *isnull);

#endif							/* MR_VIEW_AGGREGATE_H */
