/*
 * ingest/take.h
 *		One view takes rows of a batch: its plan, and the merge of what that gives.
 */
#ifndef MR_INGEST_TAKE_H
#define MR_INGEST_TAKE_H

#include "ingest/fault.h"
#include "ingest/step.h"

/* plan the view's partial query anew; call it as the view's owner */
extern void mr_take_plan(MrIngestView *view);

/*
 * A type has changed, that entry of a system cache (hash 0: any).  Types change with every table, so
 * only a plan that names it, for a domain, is given up.
 */
extern void mr_take_type_changed(MrIngestView *view, int cache, uint32 hash);

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
 * Say whose work is done from here on, InvalidOid: nobody's; _done when it is done, ERROR if it took
 * a cancel for something else.  _blamed tells after an error,
 * and forgets it; _phase what was being done.  While rows are removed by age that is always
 * MR_TAKE_OTHER, also when followers take what is told of it: there are no messages to blame.
 */
extern void mr_take_blame(Oid view);
extern void mr_take_done(void);
extern Oid	mr_take_blamed(void);
extern MrTakePhase mr_take_phase(void);
extern void mr_take_begin_removal(void);
extern void mr_take_end_removal(void);

/* whose fault is an error in that phase? */
extern MrFault mr_take_fault(MrTakePhase phase, const ErrorData *error);

/* are rows being written into a transform's sink, by this process and right now? */
extern bool mr_take_is_writing(void);

#endif							/* MR_INGEST_TAKE_H */
