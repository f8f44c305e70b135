/*
 * ingest/view_limit.h
 *		How long may a view take for a batch while others wait for it?
 */
#ifndef MR_INGEST_VIEW_LIMIT_H
#define MR_INGEST_VIEW_LIMIT_H

#include "ingest/step.h"

/* in a worker, once: what is open there, *ingest NULL while nothing is; elsewhere there is no limit */
extern void mr_view_limit_watch(const MrIngest *const volatile *ingest);

/*
 * A view's work begins, and ends; take.c ends it with the blame.  follows: it is none of the feed's
 * own, and one of those waits for it.
 */
extern void mr_view_limit_begin(bool follows);
extern void mr_view_limit_end(void);

/* after an error: was it that?  Forgets it. */
extern bool mr_view_limit_exceeded(void);

#endif							/* MR_INGEST_VIEW_LIMIT_H */
