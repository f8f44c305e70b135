/*
 * ingest/view_limit.h
 *		How long may a view take while others wait for it?
 */
#ifndef MR_INGEST_VIEW_LIMIT_H
#define MR_INGEST_VIEW_LIMIT_H

#include "ingest/step.h"
#include "shmem.h"

/* what a view was doing when it had taken too long */
typedef enum MrOverdue
{
	MR_OVERDUE_NOT,
	MR_OVERDUE_WORKING,
	MR_OVERDUE_WAITING			/* for a lock */
} MrOverdue;

/*
 * Once: in a worker, of its slot and with what is open there, *ingest NULL while nothing is; with
 * NULLs in the supervisor.  Elsewhere there is no limit.
 */
extern void mr_view_limit_watch(const MrWorkerSlot *of, const MrIngest *const volatile *ingest);

/*
 * The work of the view relid begins, and ends; take.c ends it with the blame.  view: whose relations are locked
 * for it, besides those of what is open; may be NULL.  follows: it is none of the feed's own, and
 * one of those waits for it.
 */
extern void mr_view_limit_begin(Oid relid, const MrView *view, bool follows);
extern void mr_view_limit_end(void);

/* it has come to its end well: ERROR where that is not so, because it caught the cancel */
extern void mr_view_limit_done(void);

/* it has waited for a lock within its work, which is not its own time: begin anew */
extern void mr_view_limit_waited(void);

/* is, or was, the work at hand canceled, whatever came of that? */
extern bool mr_view_limit_is_over(void);

/* after an error: was it that?  Forgets it. */
extern MrOverdue mr_view_limit_exceeded(void);

/* for the log, the error at hand, and a copy of it: in words of ours if it was that */
extern ErrorData *mr_view_limit_report(MrOverdue how);

#endif							/* MR_INGEST_VIEW_LIMIT_H */
