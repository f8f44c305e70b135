/*
 * ingest/gap.h
 *		Offsets that the broker does not have.
 */
#ifndef MR_INGEST_GAP_H
#define MR_INGEST_GAP_H

#include "ingest/step.h"

/*
 * Look whether a partition's next offset is out of the broker's range, and do what on_gap
 * says, in a transaction of its own; false when the feed must be opened anew.
 */
extern bool mr_gap_check(MrIngest *ingest, MrConsumer *consumer);

#endif							/* MR_INGEST_GAP_H */
