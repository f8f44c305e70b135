/*
 * view/grouping_sets.h
 *		GROUPING SETS, ROLLUP and CUBE: the sets of a view, and the column that tells them
 *		apart; private to view/.
 */
#ifndef MR_VIEW_GROUPING_SETS_H
#define MR_VIEW_GROUPING_SETS_H

#include "view/split.h"

/*
 * Fill in the analysis' sets from the split level; leaves them NIL where the level has one
 * that holds all of its group columns.
 */
extern void mr_grouping_sets_find(MrSplit *split);

/* index among the columns of what a target entry of the level is grouped by; -1: it is not */
extern int	mr_grouping_sets_entry_column(const MrSplit *split, const TargetEntry *tle);

/* let the batch's half, which shows the columns and groups by all keys but one, have the sets */
extern void mr_grouping_sets_fill(Query *partial, const MrSplit *split);

/* GROUPING() for a reader; set: the column that tells the sets apart, or NULL without sets */
extern Expr *mr_grouping_sets_function(const MrSplit *split, const GroupingFunc *function, Var *set);

/*
 * Call of a function that returns a row for each time that a row's set is declared; NULL where
 * none is declared more than once.
 */
extern Expr *mr_grouping_sets_copies(const MrSplit *split, Var *set);

#endif							/* MR_VIEW_GROUPING_SETS_H */
