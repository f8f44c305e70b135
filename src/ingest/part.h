/*
 * ingest/part.h
 *		A view leaves the others of its feeds.
 */
#ifndef MR_INGEST_PART_H
#define MR_INGEST_PART_H

#include "millrace.h"

/*
 * In a transaction of its own: give a view a feed of its own in each of its streams, where it stands; a
 * catch-up worker will care for it, after a while, because of the error.  The same, and it has
 * failed: nobody cares until it is activated, and nothing is lost.
 */
extern void mr_ingest_leave_view(Oid view, const char *error);
extern void mr_ingest_fail_view(Oid view, const char *error);

/* the same by who must not wait; false: somebody has locked what belongs to the view */
extern bool mr_ingest_try_leave_view(Oid view, const char *error);
extern bool mr_ingest_try_fail_view(Oid view, const char *error);

#endif							/* MR_INGEST_PART_H */
