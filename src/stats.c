/*
 * stats.c
 *		What shared memory knows of ingest processes, as rows.
 */
#include "millrace.h"

#include "access/htup_details.h"
#include "blame.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lock_wait.h"
#include "miscadmin.h"
#include "shmem.h"
#include "utils/builtins.h"

#define WORKER_COLUMNS 14

PG_FUNCTION_INFO_V1(mr_worker_slots);
PG_FUNCTION_INFO_V1(mr_view_counters);
PG_FUNCTION_INFO_V1(mr_worker_shortage);

static const char *
state_name(const MrWorkerSlot *slot)
{
	switch (slot->state)
	{
		case MR_WORKER_STARTING:
			return "starting";
		case MR_WORKER_RUNNING:
			return "running";
		case MR_WORKER_CATCHING_UP:
			return "catching up";
		case MR_WORKER_RETRYING:
			return "retrying";
		case MR_WORKER_EXITED:
			return slot->exit_code == 0 && slot->last_error[0] == '\0' ? "starting" : "retrying";
		case MR_WORKER_FREE:
			break;
	}
	return NULL;
}

/* errors show the beginning of values: others are told that there is one */
static void
fill_row(const MrWorkerSlot *slot, Datum *values, bool *nulls)
{
	memset(nulls, 0, sizeof(bool) * WORKER_COLUMNS);
	values[0] = Int32GetDatum(slot->pid);
	nulls[0] = slot->pid == 0;
	values[1] = ObjectIdGetDatum(slot->stream);
	values[2] = Int64GetDatum(slot->feed);
	values[3] = Int32GetDatum(slot->shard);
	values[4] = CStringGetTextDatum(state_name(slot));
	values[5] = CStringGetTextDatum(mr_blame_text(slot->last_error, OidIsValid(slot->blamed) ? slot->blamed : slot->stream));
	nulls[5] = slot->last_error[0] == '\0';
	values[6] = TimestampTzGetDatum(slot->last_error_at);
	nulls[6] = nulls[5];
	values[7] = Int64GetDatum(slot->batches);
	values[8] = Int64GetDatum(slot->messages);
	values[9] = Float8GetDatum(slot->batches > 0 ? (double) slot->messages / slot->batches : 0);
	nulls[9] = slot->batches == 0;
	values[10] = Float8GetDatum(slot->decode_ms);
	values[11] = Float8GetDatum(slot->aggregate_ms);
	values[12] = Float8GetDatum(slot->merge_ms);
	values[13] = Float8GetDatum(slot->commit_ms);
}

/* a worker that waits for a lock is in trouble, though it cannot say so itself */
static void
look_for_lock(MrWorkerSlot *slot)
{
	TimestampTz since = slot->state == MR_WORKER_EXITED ? 0 : mr_lock_wait_since(slot->pid);
	char	   *text = since == 0 ? NULL : mr_lock_wait_describe(slot->pid);

	if (text == NULL)
		return;
	slot->state = MR_WORKER_RETRYING;
	mr_shmem_set_error(slot, text, since);
}

/*
 * millrace.worker_slots(): ingest processes of this database, times in ms since the start of
 * each, errors as the caller may read them; no rows when the library is not preloaded.
 */
Datum
mr_worker_slots(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	if (mr_shared == NULL)
		return (Datum) 0;
	for (int i = 0; i < mr_shared->nslots; i++)
	{
		MrWorkerSlot slot;
		Datum		values[WORKER_COLUMNS];
		bool		nulls[WORKER_COLUMNS];

		LWLockAcquire(mr_shared->lock, LW_SHARED);
		slot = mr_shared->workers[i];
		LWLockRelease(mr_shared->lock);
		if (slot.state == MR_WORKER_FREE || slot.database != MyDatabaseId)
			continue;
		look_for_lock(&slot);
		fill_row(&slot, values, nulls);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* millrace.view_counters(view): nulls for a view that has not been fed since the start */
Datum
mr_view_counters(PG_FUNCTION_ARGS)
{
	MrCounters	counters;
	Datum		values[2] = {0, 0};
	bool		nulls[2] = {true, true};
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (mr_blame_may_read(PG_GETARG_OID(0)) && mr_shmem_counters(PG_GETARG_OID(0), &counters))
	{
		values[0] = Int64GetDatum(counters.rows_in);
		values[1] = Int64GetDatum(counters.rows_out);
		nulls[0] = nulls[1] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* millrace.worker_shortage(): why workers that should run do not, or null */
Datum
mr_worker_shortage(PG_FUNCTION_ARGS)
{
	if (!mr_shmem_shortage())
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(MR_SHORTAGE));
}
