/*
 * ingest/step_over.h
 *		A transform into a stream: delivering a step, and not delivering it twice.
 */
#ifndef MR_INGEST_STEP_OVER_H
#define MR_INGEST_STEP_OVER_H

#include "ingest/step.h"

/* with the feed's views opened, in that transaction: does the feed need a sink of its own? */
extern void mr_step_over_open(MrIngest *ingest);

/* not in a transaction, before the first step: find out what has been delivered */
extern void mr_step_over_recover(MrIngest *ingest);

/*
 * At a step's beginning: keep the messages that have been delivered, if there are any, and
 * put the others behind them; true when it does, and then nothing is delivered in this step.
 */
extern bool mr_step_over_cut(MrIngest *ingest, MrMessage *messages, int *n);

/* before the commit, with the new offsets known: deliver */
extern void mr_step_over_deliver(MrIngest *ingest);

/* after an error: has somebody else taken the feed's place? */
extern bool mr_step_over_is_fenced(const MrIngest *ingest);

#endif							/* MR_INGEST_STEP_OVER_H */
