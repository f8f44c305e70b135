/*
 * stream/batch.h
 *		Messages of one stream, decoded once for all views: rows and rejects.
 *
 * In an ingest worker, a foreign scan of the stream returns the rows of the current
 * batch instead of reading the topic.
 */
#ifndef MR_STREAM_BATCH_H
#define MR_STREAM_BATCH_H

#include "kafka/consumer.h"
#include "stream/option.h"

#include "storage/itemptr.h"

/* turns messages into rows; kept across batches */
typedef struct MrBatchDecoder MrBatchDecoder;

typedef struct MrRejected
{
	int			message;		/* index into the messages given */
	MrReject	reject;
} MrRejected;

typedef struct MrBatch
{
	Oid			relid;
	int			ncols;
	const AttrNumber *attnums;	/* ncols, ascending */
	int			nrows;
	Datum	   *values;			/* row-major: values[row * ncols + col] */
	bool	   *isnull;
	int32	   *partition;		/* nrows: where a row's message lies */
	int64	   *offset;
	int64	   *time;			/* the message's timestamp in ms, or -1 */

	/* of the messages appended last */
	const MrMessage *messages;
	int			nmessages;
	int			first_row;		/* the first row that came from them */
	int		   *message;		/* from first_row on: index of a row's message */
	MrRejected *rejected;
	int			nrejected;

	/* private */
	MrBatchDecoder *decoder;
	MemoryContext context;		/* of the arrays */
	MemoryContext data;			/* of what Datums point to */
	int			capacity;		/* rows that the arrays have room for */
	int			rejected_size;
} MrBatch;

/*
 * attrs: attribute numbers wanted (plain attnums, no offset).  Lives in the current context.
 */
extern MrBatchDecoder *mr_batch_decoder_create(const MrStream *stream, const Bitmapset *attrs);

/* an empty batch, below the current memory context */
extern MrBatch *mr_batch_create(MrBatchDecoder *decoder);

/*
 * Decode messages into further rows; afterwards the messages may be given back.  Must run
 * inside a transaction with an active snapshot when an input function may be called (subtransactions
 * isolate the messages that make one throw; an error that is not the message's fault,
 * such as out of memory or a cancel, goes on to the caller).
 */
extern void mr_batch_append(MrBatch *batch, const MrMessage *messages, int n);

/* both at once */
extern MrBatch *mr_batch_decode(MrBatchDecoder *decoder, const MrMessage *messages, int n);

/*
 * What scans of streams return from here on in this process: rows [first, last) of batch
 * whose message lies at or after start[partition] (start may be NULL, and partitions >=
 * nstart have no bound), without those that are excluded (by row; may be NULL).  Other
 * streams are empty.  NULL ends it: scans read topics again.
 *
 * Without a batch: no topic gives rows; what executors find in environment does, if there is
 * one.
 */
typedef struct MrScanSource
{
	const MrBatch *batch;
	int			first;
	int			last;
	const int64 *start;
	int			nstart;
	const bool *excluded;
	int			row;			/* row that a scan returned last, for error
								 * contexts; -1: none */
	struct QueryEnvironment *environment;
	const struct PlannedStmt *plan; /* whose scans it feeds; those of
									 * functions in it are an error */
} MrScanSource;

/*
 * In a scan of a batch, a row's ctid is its message's timestamp in ms, -1 when it has none, and at
 * most in the year 6429.
 */
extern void mr_batch_time_to_tid(int64 ms, ItemPointer tid);
extern int64 mr_batch_time_from_tid(const ItemPointerData *tid);

extern void mr_scan_source_set(MrScanSource *source);
extern MrScanSource *mr_scan_source(void);

/* the source, if there is one, is for a plan that is about to be run */
extern void mr_scan_source_run(const struct PlannedStmt *plan);

/* that of the source, or NULL */
extern struct QueryEnvironment *mr_scan_environment(void);

/* does a scan return this row? */
static inline bool
mr_scan_source_has(const MrScanSource *source, int row)
{
	int32		partition = source->batch->partition[row];

	return !(source->start != NULL && partition < source->nstart &&
			 source->batch->offset[row] < source->start[partition]) &&
		!(source->excluded != NULL && source->excluded[row]);
}

#endif							/* MR_STREAM_BATCH_H */
