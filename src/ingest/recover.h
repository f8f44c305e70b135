/*
 * ingest/recover.h
 *		What becomes of an attempt that ended with an error.
 */
#ifndef MR_INGEST_RECOVER_H
#define MR_INGEST_RECOVER_H

#include "ingest/step.h"
#include "ingest/view_limit.h"
#include "nodes/pg_list.h"
#include "portability/instr_time.h"
#include "shmem.h"

#define FIRST_RETRY_MS		100
#define CAREFUL_STEPS		20	/* without a refused message, before steps are
								 * ordinary again */

/* how often one view was to blame since the last success */
typedef struct MrBlame
{
	Oid			view;
	bool		passing;		/* those that may pass by themselves, which
								 * say nothing of others */
	int			errors;
} MrBlame;

/* What a worker remembers of its errors. */
typedef struct MrRecovery
{
	int			failures;		/* attempts since the last success */
	int			careful;		/* steps that are still to be careful */
	bool		internal_too;	/* careful about internal errors, too */
	List	   *blamed;			/* of MrBlame *; several views may fail by
								 * turns */
	int			fenced;			/* times that a rival has gone on instead */
	instr_time	fenced_at;		/* when that was last */
} MrRecovery;

/*
 * After an error, when everything of the attempt is gone: blame a view, or wait for better
 * times.  nviews: of the feed.  view: in whose plan or merge it happened, or InvalidOid.
 */
extern void mr_recover(MrRecovery *recovery, MrWorkerSlot *slot, int nviews, Oid view,
					   const ErrorData *error, MrTakePhase phase, MrOverdue overdue);

/*
 * The same after the error of a transform into a stream whose place a worker of another server has taken: one
 * that this server is a copy of, or a copy of it.
 */
extern void mr_recover_from_rival(MrRecovery *recovery, MrWorkerSlot *slot, const ErrorData *error);

/*
 * After an error in a view's work that the supervisor did, when everything of it is gone.  True when
 * that was the end of it and the view has failed; else it may be tried again.
 */
extern bool mr_recover_without_slot(Oid view, const ErrorData *error, MrOverdue overdue);

/*
 * In the supervisor: part with views that processes have ended for.  Those (of Oid) that somebody
 * has locked come later.
 */
extern List *mr_recover_from_stubborn(void);

/* at the start: if the feed is in trouble, wait a while; true: its views are slow, that is what it was */
extern bool mr_recover_rest(MrWorkerSlot *slot);

/* after a step that went well */
extern void mr_recover_success(MrRecovery *recovery);

#endif							/* MR_INGEST_RECOVER_H */
