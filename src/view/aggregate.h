/*
 * view/aggregate.h
 *		Aggregates as states: combining, serializing and finishing them outside of an
 *		Agg node.
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

/*
 * Expression that finishes the stored state in state_expr: state_expr itself when there is
 * no final function, else a call of millrace.finalize().
 */
extern Expr *mr_aggregate_finalize_expr(const Aggref *aggref, Expr *state_expr);

/*
 * Call of aggregate millrace.merge_states(), which makes one stored state of those of many
 * rows; that of no rows at all when there is none.
 */
extern Aggref *mr_aggregate_merge_expr(const Aggref *aggref, Expr *state_expr);

/* such a call over a window, whose frame may be empty: there it cannot know its aggregate */
extern Node *mr_aggregate_merge_over_window(WindowFunc *merge);

#endif							/* MR_VIEW_AGGREGATE_H */
