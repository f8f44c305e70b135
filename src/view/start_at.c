/*
 * view/start_at.c
 *		Where in its topics a new view begins.
 *
 * 'earliest' is where a feed without offsets begins anyway, so the broker is not asked.
 * 'latest' and timestamps are resolved to offsets before the creating call returns, or
 * "latest" would be whenever a worker came to it.  Partitions that appear later are read
 * from their beginning, and so is a topic that does not exist yet: whatever is in them
 * came after the call.
 */
#include "millrace.h"

#include "datatype/timestamp.h"
#include "kafka/ask.h"
#include "stream/option.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "view/relations.h"
#include "view/start_at.h"

#define BROKER_TIMEOUT_MS	30000

static void
start_at_error_callback(void *arg)
{
	errhint("start_at is 'earliest', 'latest' or a timestamp.");
}

static MrStartKind
parse_start_at(const char *start_at, int64 *timestamp_ms)
{
	ErrorContextCallback callback = {.callback = start_at_error_callback};
	TimestampTz time;
	int64		unix_us;

	if (pg_strcasecmp(start_at, "earliest") == 0)
		return MR_START_EARLIEST;
	if (pg_strcasecmp(start_at, "latest") == 0)
		return MR_START_LATEST;

	callback.previous = error_context_stack;
	error_context_stack = &callback;
	time = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(start_at),
												   ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
	error_context_stack = callback.previous;
	if (TIMESTAMP_IS_NOEND(time))
		return MR_START_LATEST;
	if (TIMESTAMP_IS_NOBEGIN(time))
		return MR_START_EARLIEST;

	/* negative timestamps have other meanings in Kafka's protocol */
	unix_us = time + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	if (unix_us <= 0)
		return MR_START_EARLIEST;
	*timestamp_ms = (unix_us + 999) / 1000;
	return MR_START_AT_TIME;
}

MrStartKind
mr_start_at_kind(const char *start_at)
{
	int64		timestamp_ms;

	return parse_start_at(start_at, &timestamp_ms);
}

void
mr_start_at_check(const char *start_at)
{
	(void) mr_start_at_kind(start_at);
}

static void
resolve(MrConsumer *consumer, MrStartKind kind, int64 timestamp_ms,
		MrPartitionOffset *parts, int n)
{
	int32	   *partitions;
	int64	   *low;
	int64	   *high;

	if (kind == MR_START_AT_TIME)
	{
		mr_consumer_offsets_for_time(consumer, timestamp_ms, parts, n, BROKER_TIMEOUT_MS);
		return;
	}
	partitions = palloc(sizeof(int32) * n);
	low = palloc(sizeof(int64) * n);
	high = palloc(sizeof(int64) * n);
	for (int i = 0; i < n; i++)
		partitions[i] = parts[i].partition;
	(void) mr_consumer_watermarks(consumer, partitions, n, low, high, BROKER_TIMEOUT_MS, false);
	for (int i = 0; i < n; i++)
		parts[i].offset = high[i];
}

/* n partitions of the stream's topic, with no offsets yet, and a consumer that knows them */
static MrPartitionOffset *
partitions_of(Oid streamid, MrConsumer **consumer, int *n)
{
	MrStream   *stream = mr_stream_get(streamid);
	MrPartitionOffset *parts;

	*consumer = mr_consumer_create(mr_server_properties(stream->serverid, stream->owner),
								   stream->topic, MR_EXTENSION);
	*n = mr_consumer_partitions(*consumer, BROKER_TIMEOUT_MS, false);
	parts = palloc0(sizeof(MrPartitionOffset) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		parts[i].partition = i;
	return parts;
}

void
mr_start_at_store(const char *start_at, Oid view, Oid streamid, int64 feed)
{
	int64		timestamp_ms = 0;
	MrStartKind kind = parse_start_at(start_at, &timestamp_ms);
	MrConsumer *consumer;
	MrPartitionOffset *parts;
	char	   *cluster;
	int			n;

	if (kind == MR_START_EARLIEST)
		return;
	parts = partitions_of(streamid, &consumer, &n);
	if (n > 0)
		resolve(consumer, kind, timestamp_ms, parts, n);
	cluster = mr_consumer_cluster_id(consumer);
	mr_consumer_destroy(consumer);

	if (n > 0 && cluster != NULL)
		(void) mr_catalog_set_cluster(feed, NULL, cluster);
	for (int i = 0; i < n; i++)
	{
		mr_catalog_insert_feed_offset(feed, parts[i].partition, parts[i].offset);
		mr_catalog_insert_view_start(view, streamid, parts[i].partition, parts[i].offset);
	}
}

/* partitions that came after the view's creation have no start: their beginning */
void
mr_start_at_repeat(Oid view, Oid shadow, Oid streamid, int64 feed)
{
	int			nstart;
	MrFeedOffset *start = mr_catalog_view_start(view, streamid, &nstart);
	MrConsumer *consumer;
	int			n;

	if (nstart == 0)
		return;
	(void) partitions_of(streamid, &consumer, &n);
	for (int i = 0; i < nstart && start[i].partition < n; i++)
	{
		int64		low;
		int64		high;

		(void) mr_consumer_watermarks(consumer, &start[i].partition, 1, &low, &high,
									  BROKER_TIMEOUT_MS, false);
		mr_catalog_insert_feed_offset(feed, start[i].partition, Max(low, start[i].next_offset));
		mr_catalog_insert_view_start(shadow, streamid, start[i].partition, start[i].next_offset);
	}
	mr_consumer_destroy(consumer);
}
