/*
 * catalog_rebuild.h
 *		Shadows in millrace's own tables.
 *
 * A shadow is a view's contents in the making: a row of millrace.continuous_view with a
 * matrel, whose OID is the shadow's, too, and with feeds of its own.  To ingest it is a view
 * like any other.
 */
#ifndef MR_CATALOG_REBUILD_H
#define MR_CATALOG_REBUILD_H

#include "catalog_view.h"

#include "storage/lock.h"

/* the shadow of a view; NULL: there is none */
extern MrView *mr_catalog_shadow_of(Oid view);

/*
 * Register a shadow, with everything else as its view has it; start_at NULL: that, too.
 * _stream: the feed that it follows in one of the view's streams.
 */
extern void mr_catalog_insert_shadow(Oid view, Oid shadow, const char *start_at);
extern void mr_catalog_insert_shadow_stream(Oid view, Oid shadow, Oid stream, int64 feed);

/*
 * Of a stream that has no live feed: a feed stands at the end, or has gone on.  Its shadows have come far
 * enough there, or where they hold as much as their views; true if that is news to one.
 */
extern bool mr_catalog_shadows_reached(int64 feed, bool at_end);

/* shadows whose contents can take their views' places: List of MrView * */
extern List *mr_catalog_ready_shadows(void);

/*
 * The view gets everything that the shadow has (feeds, start, dead letters) and runs; the
 * shadow is forgotten.  All their feeds must be locked by the caller.
 */
extern void mr_catalog_adopt_shadow(const MrView *shadow);

/*
 * A session that waits for any shadow to take its view's place must not be waited for, although
 * it has a snapshot.  It says so by a lock, until _end or the end of its transaction.
 * _waiters: their transactions, *n of them.
 */
extern void mr_catalog_shadow_wait_begin(void);
extern void mr_catalog_shadow_wait_end(void);
extern VirtualTransactionId *mr_catalog_shadow_waiters(int *n);

#endif							/* MR_CATALOG_REBUILD_H */
