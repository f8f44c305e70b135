/*
 * ingest/part.h
 *		A view leaves the others of its feeds.
 */
#ifndef MR_INGEST_PART_H
#define MR_INGEST_PART_H

#include "millrace.h"

/* what becomes of it */
typedef enum MrParting
{
	MR_PART_IN_TROUBLE,			/* a catch-up worker will care for it, after a
								 * while, because of the error */
	MR_PART_SLOW,				/* the same; the trouble is that it takes
								 * longer than others can wait */
	MR_PART_FAILED				/* nobody cares until it is activated */
} MrParting;

/*
 * In a transaction of its own: give a view a feed of its own in each of its streams, where it stands,
 * so that nothing is lost.  error: why.
 */
extern void mr_ingest_part_with_view(Oid view, MrParting how, const char *error);

/* the same by who must not wait; false: somebody has locked what belongs to the view */
extern bool mr_ingest_try_part_with_view(Oid view, MrParting how, const char *error);

#endif							/* MR_INGEST_PART_H */
