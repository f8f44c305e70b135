/*
 * view/aggregate_expr.h
 *		Expressions over stored states: calls of millrace.finalize() and merge_states().
 */
#ifndef MR_VIEW_AGGREGATE_EXPR_H
#define MR_VIEW_AGGREGATE_EXPR_H

#include "millrace.h"

#include "nodes/primnodes.h"

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

#endif							/* MR_VIEW_AGGREGATE_EXPR_H */
