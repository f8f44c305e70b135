/*
 * ingest/careful.h
 *		A careful step: all views take the batch, each without what it cannot take.
 */
#ifndef MR_INGEST_CAREFUL_H
#define MR_INGEST_CAREFUL_H

#include "ingest/step.h"

/*
 * With the letters locked, feed all views.  Returns how many of the n messages the step can have: fewer than n, and it
 * has to be taken anew with those; stop_error tells if the stream is to stop there.
 */
extern int	mr_careful_feed(MrIngest *ingest, int n);

#endif							/* MR_INGEST_CAREFUL_H */
