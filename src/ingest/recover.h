/*
 * ingest/recover.h
 *		What becomes of an attempt that ended with an error.
 */
#ifndef MR_INGEST_RECOVER_H
#define MR_INGEST_RECOVER_H

#include "ingest/step.h"
#include "shmem.h"

#define FIRST_RETRY_MS		100
#define CAREFUL_STEPS		20	/* without a refused message, before steps are
								 * ordinary again */

/* What a worker remembers of its errors. */
typedef struct MrRecovery
{
	int			failures;		/* attempts since the last success */
	int			careful;		/* steps that are still to be careful */
	bool		internal_too;	/* careful about internal errors, too */
	Oid			blamed;			/* view whose errors have been counted, in a
								 * row */
	int			blamed_errors;
} MrRecovery;

/*
 * After an error, when everything of the attempt is gone: blame a view, or wait for better
 * times.  nviews: of the feed.  view: in whose plan or merge it happened, or InvalidOid.
 */
extern void mr_recover(MrRecovery *recovery, MrWorkerSlot *slot, int nviews, Oid view,
					   const ErrorData *error, MrTakePhase phase);

#endif							/* MR_INGEST_RECOVER_H */
