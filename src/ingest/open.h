/*
 * ingest/open.h
 *		A feed and its views, opened to take batches.
 */
#ifndef MR_INGEST_OPEN_H
#define MR_INGEST_OPEN_H

#include "ingest/step.h"

/*
 * Read a feed and its views in a transaction of its own, into a child of the current
 * context; NULL when the feed or its stream is gone, or nothing is to be done for it.
 */
extern MrIngest *mr_ingest_open(int64 feed, int shard, int nshards);

/*
 * Open some views on a stream in the caller's transaction, in the current context, without a
 * feed; the views (of MrView *, by oid) and the stream must be locked.
 */
extern MrIngest *mr_ingest_open_views(Oid stream, List *views);

/* what was opened is about to be thrown away */
extern void mr_ingest_close(void);

/* is anything open in this process? */
extern bool mr_ingest_is_open(void);

/* views of the feed that was opened last, or that an error kept from being opened */
extern int	mr_ingest_nviews(void);

/* is what was opened out of date, as far as invalidation messages tell? */
extern bool mr_ingest_is_stale(const MrIngest *ingest);

/* does the catalog still say what was opened? Reads it in a transaction of its own. */
extern bool mr_ingest_is_current(const MrIngest *ingest);

#endif							/* MR_INGEST_OPEN_H */
