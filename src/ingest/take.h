/*
 * ingest/take.h
 *		One view takes rows of a batch: its plan, and the merge of what that gives.
 */
#ifndef MR_INGEST_TAKE_H
#define MR_INGEST_TAKE_H

#include "ingest/step.h"

/* plan the view's partial query anew; call it as the view's owner */
extern void mr_take_plan(MrIngestView *view);

/*
 * Run the plan over the rows of source and keep what it gives; then put that into the
 * matrel.  Both act as the view's owner.
 */
extern void mr_take_aggregate(MrIngest *ingest, MrIngestView *view, MrScanSource *source);
extern void mr_take_merge(MrIngest *ingest, MrIngestView *view);

/*
 * Run the plan, and throw away what it gives: an error shows that some row cannot be taken.
 */
extern void mr_take_probe(MrIngest *ingest, MrIngestView *view, MrScanSource *source);

/* have a valid plan, so that errors in planning are met where nobody takes them for rows' */
extern void mr_take_prepare(MrIngest *ingest, MrIngestView *view);

/*
 * Say whose work is done from here on, InvalidOid: nobody's.  _blamed tells after an error,
 * and forgets it; _phase what was being done.
 */
typedef enum MrTakePhase
{
	MR_TAKE_OTHER,				/* opening, planning, judging */
	MR_TAKE_PLAN,				/* rows were run through the plan */
	MR_TAKE_MERGE				/* partial rows were merged */
} MrTakePhase;

extern void mr_take_blame(Oid view);
extern Oid	mr_take_blamed(void);
extern MrTakePhase mr_take_phase(void);

#endif							/* MR_INGEST_TAKE_H */
