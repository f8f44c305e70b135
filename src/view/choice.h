/*
 * view/choice.h
 *		DISTINCT ON: the one row of each group that a view keeps; private to view/.
 */
#ifndef MR_VIEW_CHOICE_H
#define MR_VIEW_CHOICE_H

#include "view/split.h"

/* does the level choose among the stream's rows, and do nothing else with them together? */
extern bool mr_choice_is_made(const Query *level);

/* add the columns of such a level, and the order of its rows */
extern void mr_choice_find(MrSplit *split);

/* let the batch's half, which shows the columns and groups by the keys, choose instead */
extern void mr_choice_fill(Query *partial, const MrSplit *split);

/* is it the greatest value of this column that is chosen, and null before all others? */
extern bool mr_choice_is_greatest(const MrViewAnalysis *analysis, int column);

#endif							/* MR_VIEW_CHOICE_H */
