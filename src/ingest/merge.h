/*
 * ingest/merge.h
 *		Partial rows of a batch into a view's matrel.
 */
#ifndef MR_INGEST_MERGE_H
#define MR_INGEST_MERGE_H

#include "ingest/groups.h"
#include "view/analyze.h"
#include "view/changes.h"

#include "tcop/dest.h"

typedef struct MrMerge MrMerge;

/*
 * What a view's merges need; lives in the current context, usable for many batches.  changes:
 * what is to be told of each change, or NULL; it must be collecting from _begin to _finish.
 */
extern MrMerge *mr_merge_create(const MrViewAnalysis *analysis, Oid view, Oid matrel,
								MrChanges *changes);

/*
 * One batch: sort_memory in kB.  _begin gives the receiver for the partial plan's rows, which
 * are kept (sorted by key) in the current context; rows of the same key may come more than
 * once.  _finish puts them into the matrel, waiting for other workers of the same view, and
 * returns how many rows there were.  Both must run as the view's owner: combine functions and
 * comparisons may be a user's.  After an error the batch's context and the merge are simply
 * thrown away.
 */
extern DestReceiver *mr_merge_begin(MrMerge *merge, int sort_memory);
extern uint64 mr_merge_finish(MrMerge *merge);

/* to change a view's contents; what it takes to get the lock is not the view's own time */
extern void mr_merge_lock_contents(Oid view);

/*
 * Instead of rows: groups, which stay where they are until _finish.  desc: of the rows that
 * they make.  _put_aside takes them as rows, which may go to disk, and empties the table.
 */
extern void mr_merge_take_groups(MrMerge *merge, MrGroups *groups, TupleDesc desc);
extern void mr_merge_put_aside(MrMerge *merge, MrGroups *groups, TupleDesc desc);

#endif							/* MR_INGEST_MERGE_H */
