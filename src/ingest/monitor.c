/*
 * monitor.c
 *		Asking the broker how far it is, for millrace.partitions.
 *
 * The end of a partition is its high watermark, messages of open transactions included: a
 * view that waits for them lags behind.
 *
 * Lag has to be true, so the broker is asked at the moment of the SELECT rather than
 * remembering what a worker heard last.  When it does not answer in time, or cannot even be
 * asked, there are no rows and lag is unknown, with a warning: the lag of other streams is
 * not to be unknown with it.
 */
#include "millrace.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "ingest/monitor.h"
#include "kafka/ask.h"
#include "miscadmin.h"
#include "stream/option.h"
#include "subtransaction.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

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
	(void) mr_consumer_watermarks(consumer, partitions, n, low, high, TIMEOUT_MS, false);
	for (int i = 0; i < n; i++)
	{
		Datum		values[3] = {Int32GetDatum(i), Int64GetDatum(low[i]), Int64GetDatum(high[i])};
		bool		nulls[3] = {false, false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

/* throws what keeps the broker from telling */
static void
ask(ReturnSetInfo *rsinfo, Oid relid)
{
	MrStream   *stream = mr_stream_get(relid);
	List	   *props = mr_monitor_see_everything(mr_server_properties(stream->serverid, stream->owner));
	MrConsumer *consumer = mr_consumer_create(props, stream->topic, "millrace-monitor");

	put_rows(rsinfo, consumer, mr_consumer_partitions(consumer, TIMEOUT_MS, false));
	mr_consumer_destroy(consumer);
}

/* what is wrong with the connection, or with its options; anything else is thrown on */
static void
warn(Oid relid, ErrorData *error)
{
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_FDW_ERROR)
		ReThrowError(error);
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("could not get the watermarks of stream \"%s\": %s",
					get_rel_name(relid), error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 error->hint ? errhint("%s", error->hint) : 0));
}

/* in a subtransaction, because an error does not go on to the caller */
static void
ask_or_warn(ReturnSetInfo *rsinfo, Oid relid)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext scratch = AllocSetContextCreate(context, "millrace monitor", ALLOCSET_DEFAULT_SIZES);

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(scratch);
	PG_TRY();
	{
		ask(rsinfo, relid);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		warn(relid, mr_subtransaction_failed(context, owner));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	MemoryContextDelete(scratch);
}

/*
 * millrace.watermarks(stream): first and end offset of each partition.  Open to everybody
 * who may SELECT from the stream; others get no rows.
 */
Datum
mr_watermarks(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);

	InitMaterializedSRF(fcinfo, 0);
	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK)
		ask_or_warn((ReturnSetInfo *) fcinfo->resultinfo, relid);
	return (Datum) 0;
}
