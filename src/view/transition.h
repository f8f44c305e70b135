/*
 * view/transition.h
 *		An aggregate's transitions outside of an Agg node: from input values to the state
 *		that is stored.
 */
#ifndef MR_VIEW_TRANSITION_H
#define MR_VIEW_TRANSITION_H

#include "millrace.h"

#include "nodes/execnodes.h"

typedef struct MrTransition MrTransition;

/* One group's state; nodeAgg.c's AggStatePerGroupData. */
typedef struct MrTransitionState
{
	Datum		value;
	bool		isnull;
	bool		no_value;		/* nothing has been taken in yet, and the
								 * first value becomes the state */
} MrTransitionState;

/*
 * Ready to take values in; lives in the current memory context.  states: context whose
 * per-tuple memory holds whatever states point to.  Checks privileges as nodeAgg.c does.
 */
extern MrTransition *mr_transition_create(const Aggref *aggref, ExprContext *states);

/* no value has been taken in */
extern void mr_transition_init(const MrTransition *transition, MrTransitionState *state);

/*
 * Take a row's values in (values[arg][row], isnull[arg][row]).  Litter is left in the
 * current memory context; throws what the transition function throws.
 */
extern void mr_transition_advance(MrTransition *transition, MrTransitionState *state,
								  Datum *const *values, bool *const *isnull, int row);

/*
 * A function's result becomes the state: kept in context, where states live, the former one
 * freed.  byval, len: of the transition type.
 */
extern void mr_transition_replace(MrTransitionState *state, Datum value, bool isnull, bool byval, int16 len,
								  MemoryContext context);

/* the state as it is stored; may point into the state, or into the current memory context */
extern Datum mr_transition_stored(MrTransition *transition, const MrTransitionState *state,
								  bool *isnull);

#endif							/* MR_VIEW_TRANSITION_H */
