/*
 * monitor.c
 *		Asking the broker how far it is, for millrace.partitions.
 *
 * The end of a partition is its high watermark, messages of open transactions included: a
 * view that waits for them lags behind.
 *
 * Lag has to be true, so the broker is asked at the moment of the SELECT rather than
 * remembering what a worker heard last.  When it does not answer in time there are no rows
 * and lag is unknown, with a warning.
 */
#include "millrace.h"

#include "fmgr.h"
#include "funcapi.h"
#include "ingest/monitor.h"
#include "kafka/ask.h"
#include "miscadmin.h"
#include "stream/option.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#define TIMEOUT_MS	3000

PG_FUNCTION_INFO_V1(mr_watermarks);

/* the same properties, under which transactions that are not committed are seen, too */
List *
mr_monitor_see_everything(List *props)
{
	MrProperty *isolation = palloc(sizeof(MrProperty));

	isolation->name = "isolation.level";
	isolation->value = "read_uncommitted";
	return lappend(list_copy(props), isolation);
}

static void
put_rows(ReturnSetInfo *rsinfo, MrConsumer *consumer, int n)
{
	int32	   *partitions = palloc(sizeof(int32) * n);
	int64	   *low = palloc(sizeof(int64) * n);
	int64	   *high = palloc(sizeof(int64) * n);

	for (int i = 0; i < n; i++)
		partitions[i] = i;
	if (!mr_consumer_watermarks(consumer, partitions, n, low, high, TIMEOUT_MS, true))
		return;
	for (int i = 0; i < n; i++)
	{
		Datum		values[3] = {Int32GetDatum(i), Int64GetDatum(low[i]), Int64GetDatum(high[i])};
		bool		nulls[3] = {false, false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

/*
 * millrace.watermarks(stream): first and end offset of each partition.  Open to everybody
 * who may SELECT from the stream; others get no rows.
 */
Datum
mr_watermarks(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	MrStream   *stream;
	List	   *props;
	MrConsumer *consumer;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		return (Datum) 0;
	stream = mr_stream_get(relid);
	props = mr_monitor_see_everything(mr_server_properties(stream->serverid, stream->owner));
	consumer = mr_consumer_create(props, stream->topic, "millrace-monitor");
	n = mr_consumer_partitions(consumer, TIMEOUT_MS, true);
	if (n > 0)
		put_rows((ReturnSetInfo *) fcinfo->resultinfo, consumer, n);
	mr_consumer_destroy(consumer);
	return (Datum) 0;
}
