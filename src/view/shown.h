/*
 * view/shown.h
 *		What a row of the matrel looks like in the view.
 */
#ifndef MR_VIEW_SHOWN_H
#define MR_VIEW_SHOWN_H

#include "view/analyze.h"

#include "executor/tuptable.h"

typedef struct MrShown MrShown;

/*
 * Ready to show rows, in the current context.  ERROR 0A000, with the construct and a hint,
 * unless each row of the view is made of one row of the matrel, and of nothing else: else a
 * change of the one would not be a change of the other.
 */
extern MrShown *mr_shown_create(const MrViewAnalysis *analysis, Oid matrel);

/* how many columns the view has */
extern int	mr_shown_columns(const MrShown *shown);

/*
 * The view's row for one of the matrel, whose values the slot has (its descriptor may call
 * states otherwise); in the current context, or pointing into the row.  False: not shown.  A
 * retention's horizon does not matter: until it is removed, a row is there.  To be called as
 * the view's owner.
 */
extern bool mr_shown_row(MrShown *shown, TupleTableSlot *row, Datum *values, bool *isnull);

#endif							/* MR_VIEW_SHOWN_H */
