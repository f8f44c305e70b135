/*
 * view/swap.h
 *		Exchanging the contents of two tables.
 */
#ifndef MR_VIEW_SWAP_H
#define MR_VIEW_SWAP_H

#include "millrace.h"

/*
 * Let two tables of the same columns change contents, as CLUSTER does with its new heap.
 * Indexes of the first go along where the second has an index that is defined alike; others
 * are built anew.  Both tables must be locked in AccessExclusiveLock, and the second must
 * not be used after it, only dropped; it must not have been made by this transaction.
 */
extern void mr_swap_contents(Oid relid, Oid other);

/* when the other table has been dropped: give the TOAST table that came from it its name */
extern void mr_swap_rename_toast(Oid relid);

/* the statement that would make an index like this one; equal() tells indexes alike */
extern struct IndexStmt *mr_swap_index_stmt(Oid index);

#endif							/* MR_VIEW_SWAP_H */
