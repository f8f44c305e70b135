/*
 * view/changes.h
 *		The change feed: what a transaction changes in a view, into <view>_changes.
 */
#ifndef MR_VIEW_CHANGES_H
#define MR_VIEW_CHANGES_H

#include "catalog_changes.h"
#include "catalog_view.h"
#include "view/analyze.h"

#include "executor/tuptable.h"

typedef struct MrChanges MrChanges;

/*
 * Ready to tell the changes of a view, in the current context; NULL when it keeps none.  Of a
 * shadow's nothing is ever told, but they must be possible to show.  This and all that follows
 * is to be called as the view's owner, under the view's settings.
 */
extern MrChanges *mr_changes_create(const MrView *view, const MrViewAnalysis *analysis);

/* the table, for whoever locks it beforehand (RowExclusiveLock) */
extern Oid	mr_changes_table(const MrChanges *changes);

/* begin to collect, in a child of the current context; memory in kB, the rest goes to disk */
extern void mr_changes_begin(MrChanges *changes, int memory);

/*
 * A row of the matrel becomes another one, NULL: there was or is none.  What cannot be seen in
 * the view is no change.
 */
extern void mr_changes_note(MrChanges *changes, TupleTableSlot *before, TupleTableSlot *after);

/*
 * Write what was collected, numbered, and notify who listens at the commit.  Locks the view's
 * contents.  stand: what the transaction will make of the offsets of one stream, or NULL.
 */
extern void mr_changes_write(MrChanges *changes, const MrStand *stand);

#endif							/* MR_VIEW_CHANGES_H */
