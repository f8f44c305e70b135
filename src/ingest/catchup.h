/*
 * ingest/catchup.h
 *		A feed that is not live reads up to the live one and becomes one with it.
 */
#ifndef MR_INGEST_CATCHUP_H
#define MR_INGEST_CATCHUP_H

#include "ingest/step.h"

/*
 * In the step's transaction, offsets locked.  Cuts messages (their number in *n) at the
 * live feed's position, so that no view is fed twice, and tells in *cut if there were more;
 * where the messages and ends reach that position in all partitions, the live feed is
 * locked and true is returned: after this batch both stand at the same place, and
 * mr_catchup_join makes them one.
 */
extern bool mr_catchup_limit(MrIngest *ingest, MrMessage *messages, int *n,
							 const MrStepSource *source, bool *cut);

/* cut further messages of the same step there; true if there were some */
extern bool mr_catchup_cut(MrIngest *ingest, MrMessage *messages, int *n);

/*
 * When all messages are in: move the offsets to where the reader stands, past what is no
 * message, but never past the live ones.  Shadows that have come to the end of the stream
 * get to know it.
 */
extern void mr_catchup_move(MrIngest *ingest, const MrPartitionOffset *ends, int nends, bool at_end);

/*
 * With all messages in, and the live feed's lock: has it taken the same messages, as far as both
 * remember their last ones?  Where it has not, its worker is made to look.
 */
extern bool mr_catchup_is_same_log(MrIngest *ingest);

extern void mr_catchup_join(MrIngest *ingest);

#endif							/* MR_INGEST_CATCHUP_H */
