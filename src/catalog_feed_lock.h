/*
 * catalog_feed_lock.h
 *		Locks of feeds, all until the end of the transaction.
 *
 * Two kinds.  A heavyweight lock, which queues and costs no WAL, is for the feed's offsets and
 * for which views follow it.  Its row in millrace.feed is for whoever writes it or its views'
 * rows.  Who needs both takes the heavyweight one first, and the rows of several feeds in the
 * order of their ids.
 */
#ifndef MR_CATALOG_FEED_LOCK_H
#define MR_CATALOG_FEED_LOCK_H

#include "millrace.h"

#include "nodes/pg_list.h"
#include "storage/lockdefs.h"

/*
 * ShareLock to move a feed's offsets, ExclusiveLock to change which views follow it or to copy
 * its position.  _try: ExclusiveLock; false when somebody has it.
 */
extern void mr_catalog_lock_feed(int64 feed, LOCKMODE mode);
extern bool mr_catalog_try_lock_feed(int64 feed);

/*
 * ExclusiveLock on the feeds that these views (of Oid) follow by now, those that are not live before any
 * live one, as a worker that joins does.  _of_view: of one, which are returned, one for each stream; list
 * of MrFeed *.
 */
extern void mr_catalog_lock_feeds_of_views(const List *views);
extern List *mr_catalog_lock_feeds_of_view(Oid view);

/*
 * Rows of feeds, and of those that some views follow (list of their OIDs) by the time we have
 * them.  Before any row of the views is written.  _by_id sorts what it is given.
 */
extern void mr_catalog_lock_feed_rows_by_id(int64 *feeds, int n);

/* without waiting: those whose rows it has, sorted, are the first then.  How many they are */
extern int	mr_catalog_try_lock_feed_rows_by_id(int64 *feeds, int n);
extern void mr_catalog_lock_feed_rows(const List *views);

/* of int64, for qsort() and bsearch() */
extern int	mr_catalog_compare_ids(const void *a, const void *b);

#endif							/* MR_CATALOG_FEED_LOCK_H */
