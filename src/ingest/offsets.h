/*
 * ingest/offsets.h
 *		Where a feed stands in its partitions: the fence, and moving on.
 */
#ifndef MR_INGEST_OFFSETS_H
#define MR_INGEST_OFFSETS_H

#include "catalog_feed.h"
#include "kafka/consumer.h"

/* One partition of a feed as its worker sees it. */
typedef struct MrPosition
{
	int32		partition;
	bool		stored;			/* there is a row for it */
	/* as of the last commit */
	int64		next_offset;
	MrRecord	last;			/* message taken last */
	MrRecord	anchor;			/* one taken a while before, for when the last
								 * ones are lost */
	MrRecord	waiting;		/* the next anchor; not stored */
	TimestampTz anchored_at;	/* when that began to wait */
	/* what the batch at hand will make of it */
	int64		new_offset;
	MrRecord	new_last;
	MrRecord	new_anchor;
	bool		moved;			/* not by messages */
	int64		messages;
	int64		bytes;
	int64		tombstones;
	int64		skipped;		/* by on_error = skip, once for each view */
	int64		timestamp_ms;	/* of the last message, -1: none */
	const MrMessage *message;	/* while a portion is counted: the last one */
} MrPosition;

typedef struct MrOffsets
{
	int64		feed;
	int64		generation;
	int			shard;
	int			nshards;
	int			n;
	MrPosition *positions;		/* by partition */
} MrOffsets;

/* read a feed's rows for one shard; in a transaction */
extern MrOffsets *mr_offsets_load(const MrFeed *feed, int shard, int nshards);

/* NULL when the partition is not ours */
extern MrPosition *mr_offsets_find(MrOffsets *offsets, int32 partition);

/* take in partitions of the shard that got a row since; in a transaction */
extern void mr_offsets_load_new(MrOffsets *offsets);

/* take in a partition that has no row yet, to be read from next_offset */
extern void mr_offsets_add(MrOffsets *offsets, int32 partition, int64 next_offset);

/*
 * Lock the feed and compare its generation with what we believe: false when the set of
 * views has changed.  From here to the end of the transaction nobody can change it, or copy
 * the feed's position.
 */
extern bool mr_offsets_lock_feed(MrOffsets *offsets);

/*
 * After that, lock the offset rows and compare them: false when somebody else has moved
 * them.  From here to the end of the transaction nobody else can.
 */
extern bool mr_offsets_lock(MrOffsets *offsets);

/* forget what a batch would have done */
extern void mr_offsets_reset(MrOffsets *offsets);

/* take note of a batch's messages: new_offset, messages, bytes, timestamp */
extern void mr_offsets_count(MrOffsets *offsets, const MrMessage *messages, int n);

/*
 * After a gap, go on elsewhere.  What is still there of what is remembered, or MR_NO_RECORD: last, the
 * message directly before that offset; anchor, one before it.
 */
extern void mr_offsets_move(MrPosition *position, int64 offset, MrRecord last, MrRecord anchor);

/* is there anything to write? */
extern bool mr_offsets_dirty(const MrOffsets *offsets);

/* write new_offset and counters; _committed afterwards makes them the old ones */
extern void mr_offsets_store(MrOffsets *offsets);
extern void mr_offsets_committed(MrOffsets *offsets);

#endif							/* MR_INGEST_OFFSETS_H */
