/*
 * ingest/lock.h
 *		Locks that a step needs, tried with others in hand and waited for with none.
 */
#ifndef MR_INGEST_LOCK_H
#define MR_INGEST_LOCK_H

#include "ingest/step.h"
#include "storage/lockdefs.h"

/* a lock that somebody else's is in the way of */
typedef struct MrBusy
{
	Oid			relid;
	LOCKMODE	mode;
	Oid			view;			/* that needs it; InvalidOid: they all do */
} MrBusy;

/* each returns false, and *busy, when somebody is in the way */
extern bool mr_try_lock(Oid relid, LOCKMODE mode, MrBusy *busy);

/* what is read while a view is opened, so that nobody drops it meanwhile */
extern bool mr_try_lock_to_open(const MrView *view, MrBusy *busy);

/* what a view needs to take a batch */
extern bool mr_try_lock_to_take(const MrIngestView *view, MrBusy *busy);

/*
 * What the views need that will take rows from it at the commit, and those that follow them; with
 * the view locked.  Appends them to *followers (of Oid); what is in it is locked already.
 */
extern bool mr_try_lock_followers(const MrIngestView *view, List **followers, MrBusy *busy);

/* and their contents, which they would wait for then */
extern bool mr_try_lock_followers_contents(const List *followers);

/* in the current transaction, for whatever is waited for; as SET LOCAL lock_timeout */
extern void mr_set_lock_timeout(const char *value);

/*
 * Wait until nobody is in the way, with empty hands: outside of transactions.  ERROR when that
 * takes long, and the view that needs the lock is to blame; where it is the only one it returns then,
 * for the caller to look whether that is still so.
 */
extern void mr_wait_for_lock(const MrBusy *busy, bool only_view);

#endif							/* MR_INGEST_LOCK_H */
