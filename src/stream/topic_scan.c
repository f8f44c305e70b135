/*
 * stream/topic_scan.c
 *		Reading a bounded part of a topic, in a client's session.
 *
 * The end of each partition is fixed when the scan starts, so a scan ends however fast
 * messages arrive.  A partition is finished when the consumer's position, or the end that
 * it was told, has reached that; the last message's offset is no sign, since transaction
 * markers and compaction leave holes.  A log that has become shorter than that is an error:
 * it was cut off, or the topic was created again.
 *
 * Messages that cannot be used are left out, as they are of continuous views, and counted
 * in a warning at the end; with on_error = stop the first one is an error, as it stops
 * ingest.
 *
 * Memory: one chunk of messages and its rows at a time, and what librdkafka reads ahead.
 * The consumer hangs on the scan's context.
 */
#include "millrace.h"

#include "elapsed.h"
#include "stream/topic_scan.h"

#include "kafka/ask.h"
#include "kafka/assign.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define CHUNK_MESSAGES		2000
#define POLL_TIMEOUT_MS		10	/* a poll does not return for an end of
								 * partition */
#define QUESTION_TIMEOUT_MS 10000
#define PATIENCE_MS			30000	/* in trouble, without a message */
#define END_DOUBT_MS		500 /* at the end of a log that should be longer */
#define GROUP_ID			"millrace"


typedef struct ScanPartition
{
	int64		low;			/* as of the first start */
	int64		high;
	int64		start;			/* of this pass: [start, end) */
	int64		end;
	bool		active;			/* not finished */
} ScanPartition;

struct MrTopicScan
{
	MemoryContext context;
	MemoryContext batch_context;	/* current batch */
	const MrStream *stream;
	Oid			userid;
	MrBatchDecoder *decoder;

	MrConsumer *consumer;		/* NULL before the first start */
	int			npartitions;
	ScanPartition *partitions;	/* by number */
	int			nactive;

	MrMessage  *taken;			/* from the consumer, to be given back */
	int			ntaken;
	MrMessage  *wanted;			/* those of them that lie within the scan */

	int64		nrejected;		/* in this pass */
	int64		max_rejected;	/* in any */
	char	   *first_reject;
	const MrBatch *stopped;		/* current batch, when an error comes behind
								 * it */
	TimestampTz last_progress;	/* or begin of waiting for it */
	TimestampTz last_look;		/* at the ends of logs */
};


MrTopicScan *
mr_topic_scan_create(const MrStream *stream, const Bitmapset *attrs, Oid userid)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "millrace topic scan",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	MrTopicScan *scan = palloc0(sizeof(MrTopicScan));

	scan->context = context;
	scan->batch_context = AllocSetContextCreate(context, "millrace topic scan batch",
												ALLOCSET_DEFAULT_SIZES);
	scan->stream = stream;
	scan->userid = userid;
	scan->decoder = mr_batch_decoder_create(stream, attrs);
	scan->taken = palloc(CHUNK_MESSAGES * sizeof(MrMessage));
	scan->wanted = palloc(CHUNK_MESSAGES * sizeof(MrMessage));
	MemoryContextSwitchTo(old);
	return scan;
}

static void
release_batch(MrTopicScan *scan)
{
	if (scan->ntaken > 0)
	{
		mr_consumer_release(scan->consumer, scan->taken, scan->ntaken);
		scan->ntaken = 0;
	}
	MemoryContextReset(scan->batch_context);
}

/* ERROR that says what is the matter with the topic or the brokers. */
static void
report_trouble(MrTopicScan *scan, MrErrorKind kind, const char *message)
{
	if (kind == MR_KAFKA_NO_TOPIC)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_TABLE_NOT_FOUND),
				 errmsg("topic \"%s\" of stream %s does not exist",
						scan->stream->topic, scan->stream->name),
				 errhint("Use millrace.create_topic() to create it.")));
	ereport(ERROR,
			(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
			 errmsg("could not read topic \"%s\" of stream %s: %s",
					scan->stream->topic, scan->stream->name,
					message != NULL && message[0] != '\0' ? message : "no answer from the brokers")));
}

/*
 * How to connect: what suits a scan that ends, then the user's properties, which may say
 * otherwise.
 */
static List *
scan_properties(const MrTopicScan *scan)
{
	static MrProperty ours[] = {
		/*
		 * How long the broker may wait for messages before it answers that
		 * there are none: partitions whose last offsets hold no messages end
		 * with such an answer.
		 */
		{"fetch.wait.max.ms", "5"}
	};
	List	   *props = NIL;

	for (int i = 0; i < lengthof(ours); i++)
		if (mr_conf_is_property(ours[i].name))
			props = lappend(props, &ours[i]);
	return list_concat(props, mr_server_properties(scan->stream->serverid, scan->userid));
}

/* Connect, and ask for the partitions' beginnings and ends. */
static void
connect_scan(MrTopicScan *scan)
{
	MemoryContext old = MemoryContextSwitchTo(scan->context);
	int32	   *numbers;
	int64	   *low;
	int64	   *high;
	int			n;

	scan->consumer = mr_consumer_create(scan_properties(scan), scan->stream->topic, GROUP_ID);
	n = mr_consumer_partitions(scan->consumer, QUESTION_TIMEOUT_MS, false);
	if (n == 0)
		report_trouble(scan, MR_KAFKA_NO_TOPIC, NULL);

	numbers = palloc(n * sizeof(int32));
	low = palloc(n * sizeof(int64));
	high = palloc(n * sizeof(int64));
	for (int i = 0; i < n; i++)
		numbers[i] = i;
	(void) mr_consumer_watermarks(scan->consumer, numbers, n, low, high,
								  QUESTION_TIMEOUT_MS, false);

	scan->partitions = palloc0(n * sizeof(ScanPartition));
	for (int i = 0; i < n; i++)
	{
		scan->partitions[i].low = low[i];
		scan->partitions[i].high = high[i];
	}
	scan->npartitions = n;
	MemoryContextSwitchTo(old);
}

/* Let partitions begin at their first message with a timestamp not before that one. */
static void
start_at_time(MrTopicScan *scan, MrPartitionOffset *parts, int n, int64 timestamp_ms)
{
	MrPartitionOffset *found = palloc(n * sizeof(MrPartitionOffset));

	memcpy(found, parts, n * sizeof(MrPartitionOffset));
	mr_consumer_offsets_for_time(scan->consumer, timestamp_ms, found, n, QUESTION_TIMEOUT_MS);
	for (int i = 0; i < n; i++)
	{
		ScanPartition *part = &scan->partitions[found[i].partition];

		part->start = Max(part->start, found[i].offset);
	}
	pfree(found);
}

/* Sets each partition's range; returns those with one, in parts. */
static int
set_ranges(MrTopicScan *scan, const MrBounds *bounds, MrPartitionOffset *parts)
{
	int			n = 0;

	for (int i = 0; i < scan->npartitions; i++)
	{
		ScanPartition *part = &scan->partitions[i];

		part->active = false;
		if (!mr_bounds_has_partition(bounds, i))
			continue;
		part->start = Max(part->low, bounds->offset_min);
		part->end = bounds->offset_max < part->high ? bounds->offset_max + 1 : part->high;
		if (part->start < part->end)
			parts[n++].partition = i;
	}

	if (n > 0 && bounds->timestamp_min != PG_INT64_MIN)
		start_at_time(scan, parts, n, bounds->timestamp_min);
	return n;
}

void
mr_topic_scan_start(MrTopicScan *scan, const MrBounds *bounds)
{
	MrPartitionOffset *parts;
	int			n;

	scan->nactive = 0;
	scan->nrejected = 0;
	scan->stopped = NULL;
	if (scan->consumer != NULL)
		release_batch(scan);
	if (bounds->empty)
		return;
	if (scan->consumer == NULL)
		connect_scan(scan);

	parts = palloc(scan->npartitions * sizeof(MrPartitionOffset));
	n = set_ranges(scan, bounds, parts);
	for (int i = 0; i < n; i++)
	{
		ScanPartition *part = &scan->partitions[parts[i].partition];

		if (part->start >= part->end)
			continue;
		part->active = true;
		parts[scan->nactive].partition = parts[i].partition;
		parts[scan->nactive++].offset = part->start;
	}
	if (scan->nactive > 0)
		mr_consumer_assign(scan->consumer, parts, scan->nactive);
	pfree(parts);
}

static void
finish_partition(MrTopicScan *scan, ScanPartition *part)
{
	if (part->active)
	{
		part->active = false;
		scan->nactive--;
	}
}

/* What lay ahead when the scan began is gone, though nothing of it was removed for its age. */
static void
report_cut(const MrTopicScan *scan, int32 partition, int64 high)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_ERROR),
			 errmsg("partition %d of topic \"%s\" of stream %s has become another while it was read",
					partition, scan->stream->topic, scan->stream->name),
			 errdetail("It ends at offset %lld, and ended at offset %lld before.",
					   (long long) high, (long long) scan->partitions[partition].high),
			 errhint("The topic may have been created again. Run the query again.")));
}

/* Retention was faster than we are: go on with the oldest message that is left. */
static void
skip_to_oldest(MrTopicScan *scan, int32 partition, int64 position)
{
	ScanPartition *part = &scan->partitions[partition];
	int64		low;
	int64		high;

	(void) mr_consumer_watermarks(scan->consumer, &partition, 1, &low, &high,
								  QUESTION_TIMEOUT_MS, false);
	if (high < position)
		report_cut(scan, partition, high);
	if (low >= part->end)
		finish_partition(scan, part);
	else
		mr_consumer_seek(scan->consumer, partition, Max(position, low));
}

/*
 * Nothing comes from partitions that should hold more.  It may be on its way, but a broker does not
 * tell an end before the one that it has told already.
 */
static void
check_ends(MrTopicScan *scan)
{
	TimestampTz now = mr_steady_time();
	int			n;
	const MrPartitionStatus *status;

	if (!TimestampDifferenceExceeds(Max(scan->last_progress, scan->last_look), now, END_DOUBT_MS))
		return;
	scan->last_look = now;
	status = mr_consumer_status(scan->consumer, &n);
	for (int i = 0; i < n; i++)
	{
		int32		partition = status[i].partition;
		int64		low;
		int64		high;

		if (!scan->partitions[partition].active || status[i].eof < 0)
			continue;
		(void) mr_consumer_watermarks(scan->consumer, &partition, 1, &low, &high,
									  QUESTION_TIMEOUT_MS, false);
		if (high < scan->partitions[partition].end)
			report_cut(scan, partition, high);
	}
}

/* Which partitions are finished? */
static void
check_positions(MrTopicScan *scan)
{
	int			n;
	const MrPartitionStatus *status = mr_consumer_status(scan->consumer, &n);

	for (int i = 0; i < n; i++)
	{
		int32		partition = status[i].partition;
		ScanPartition *part = &scan->partitions[partition];

		if (!part->active)
			continue;
		if (status[i].position >= part->end || status[i].eof >= part->end)
			finish_partition(scan, part);
		else if (status[i].out_of_range)
		{
			skip_to_oldest(scan, partition, status[i].position);
			return;				/* the array is gone; the others are seen next
								 * time */
		}
	}
}

/* ERROR when the consumer is in trouble that waiting does not mend, or did not. */
static void
check_trouble(MrTopicScan *scan)
{
	const char *message = NULL;
	MrErrorKind kind = mr_consumer_error(scan->consumer, &message);
	bool		impatient;

	impatient = TimestampDifferenceExceeds(scan->last_progress, mr_steady_time(), PATIENCE_MS);
	if (!mr_consumer_is_lost(scan->consumer) &&
		(kind == MR_KAFKA_OK || (kind == MR_KAFKA_TRANSIENT && !impatient)))
		return;
	report_trouble(scan, kind, message);
}

/* Copies to wanted those that lie within the scan; returns how many. */
static int
select_wanted(MrTopicScan *scan)
{
	int			n = 0;

	for (int i = 0; i < scan->ntaken; i++)
	{
		const MrMessage *msg = &scan->taken[i];

		if (msg->partition < scan->npartitions &&
			scan->partitions[msg->partition].active &&
			msg->offset >= scan->partitions[msg->partition].start &&
			msg->offset < scan->partitions[msg->partition].end)
			scan->wanted[n++] = *msg;
	}
	return n;
}

/* With on_error = stop: the ERROR that ends the scan. */
static void
report_reject(const MrTopicScan *scan, const MrMessage *msg, const MrReject *reject)
{
	ereport(ERROR,
			(errcode(reject->sqlstate),
			 errmsg("could not decode message at partition %d, offset %lld of stream %s",
					msg->partition, (long long) msg->offset, scan->stream->name),
			 errdetail("%s", reject->text)));
}

/* Otherwise: count them, and keep the first one's reason. */
static void
count_rejects(MrTopicScan *scan, const MrBatch *batch)
{
	const MrMessage *msg = &batch->messages[batch->rejected[0].message];

	scan->nrejected += batch->nrejected;
	scan->max_rejected = Max(scan->max_rejected, scan->nrejected);
	if (scan->first_reject == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(scan->context);

		scan->first_reject = psprintf("partition %d, offset %lld: %s",
									  msg->partition, (long long) msg->offset,
									  batch->rejected[0].reject.text);
		MemoryContextSwitchTo(old);
	}
}

/*
 * Rejected messages are an error or are counted, as on_error says.  The rows before an error
 * are still handed out: the query may need no more.
 */
static void
note_rejects(MrTopicScan *scan, MrBatch *batch)
{
	int			first;
	int			before = 0;

	if (batch->nrejected == 0)
		return;
	if (scan->stream->on_error != MR_ON_ERROR_STOP)
	{
		count_rejects(scan, batch);
		return;
	}

	first = batch->rejected[0].message;
	while (before < batch->nrows && batch->message[before] < first)
		before++;
	if (before == 0)
		report_reject(scan, &batch->messages[first], &batch->rejected[0].reject);
	batch->nrows = before;
	scan->stopped = batch;
}

static const MrBatch *
decode_wanted(MrTopicScan *scan, int n)
{
	MemoryContext old = MemoryContextSwitchTo(scan->batch_context);
	MrBatch    *batch = mr_batch_decode(scan->decoder, scan->wanted, n);

	note_rejects(scan, batch);
	MemoryContextSwitchTo(old);
	return batch;
}

const MrBatch *
mr_topic_scan_next(MrTopicScan *scan)
{
	if (scan->stopped != NULL)
		report_reject(scan, &scan->stopped->messages[scan->stopped->rejected[0].message],
					  &scan->stopped->rejected[0].reject);

	/* a cursor may have rested for long */
	scan->last_progress = mr_steady_time();
	while (scan->nactive > 0)
	{
		int			n;

		release_batch(scan);
		CHECK_FOR_INTERRUPTS();
		scan->ntaken = mr_consumer_poll(scan->consumer, scan->taken, CHUNK_MESSAGES, POLL_TIMEOUT_MS);
		if (scan->ntaken == 0)
		{
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
			check_trouble(scan);
			check_ends(scan);
		}
		else
			scan->last_progress = mr_steady_time();

		n = select_wanted(scan);
		check_positions(scan);
		if (n > 0)
		{
			const MrBatch *batch = decode_wanted(scan, n);

			if (batch->nrows > 0)
				return batch;
		}
	}
	if (scan->consumer != NULL)
		release_batch(scan);
	return NULL;
}

void
mr_topic_scan_end(MrTopicScan *scan)
{
	if (scan->consumer != NULL)
		release_batch(scan);
	if (scan->max_rejected > 0)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg_plural("%lld message of stream %s could not be used and was left out",
							   "%lld messages of stream %s could not be used and were left out",
							   scan->max_rejected, (long long) scan->max_rejected, scan->stream->name),
				 errdetail("The first is at %s", scan->first_reject)));
	MemoryContextDelete(scan->context);
}
