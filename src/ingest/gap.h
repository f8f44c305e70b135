/*
 * ingest/gap.h
 *		Offsets that the broker does not have, or that belong to another log.
 */
#ifndef MR_INGEST_GAP_H
#define MR_INGEST_GAP_H

#include "ingest/step.h"

/*
 * Look whether a partition's next offset is out of the broker's range, or its log another
 * one, and do what on_gap says, in a transaction of its own; false when the feed must be
 * opened anew.
 */
extern bool mr_gap_check(MrIngest *ingest, MrConsumer *consumer);

/*
 * The topic has so many partitions.  Those that were added since one of the feed's workers looked last get
 * their offsets, all shards', and what has been missed of them is recorded, in a transaction of its own:
 * what they lose from now on is a gap like others.
 */
extern void mr_gap_note_partitions(const MrIngest *ingest, MrConsumer *consumer, int npartitions);

/* did the feed take messages from a partition that is not among the first npartitions? */
extern bool mr_gap_misses_partitions(const MrIngest *ingest, int npartitions);

/* The topic has only so many partitions, fewer than were read: the same for all of them. */
extern void mr_gap_fewer_partitions(MrIngest *ingest, MrConsumer *consumer, int npartitions);

/*
 * Do the offsets belong to the cluster that answers?  If it is another one the feed stops, or
 * goes over to it where that was accepted.  False when the feed must be opened anew.
 */
extern bool mr_gap_check_cluster(MrIngest *ingest, MrConsumer *consumer, int npartitions);

#endif							/* MR_INGEST_GAP_H */
