/*
 * local_expiry.c
 *		Rows that leave views over streams inside of this database.
 *
 * Such views have no worker, so the supervisor removes their rows, now and then, a bounded
 * number in each transaction and for a bounded time, as workers do (retention.c).  Nobody who
 * inserts has to do it.
 */
#include "millrace.h"

#include "access/xact.h"
#include "catalog_expiry.h"
#include "elapsed.h"
#include "ingest/local_expiry.h"
#include "ingest/local_view.h"
#include "ingest/recover.h"
#include "ingest/retention.h"
#include "ingest/view_limit.h"
#include "miscadmin.h"
#include "transaction.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define EXPIRY_INTERVAL_MS	5000

/* views that rows may leave: List of Oid in the current context */
static List *
read_views(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *result;

	mr_start_transaction();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(context);
	result = OidIsValid(mr_catalog_extension_oid()) ? mr_catalog_local_views_that_expire() : NIL;
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return result;
}

/*
 * As it is now, in a transaction of its own; NULL when it is gone, or paused, or somebody has
 * locked it: the supervisor must not wait for anybody.
 */
static MrLocalView *
open_view(Oid relid)
{
	MemoryContext context = CurrentMemoryContext;
	MrLocalView *result;
	MrBusy		busy;

	mr_start_transaction();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(context);
	if (!mr_local_view_try_open(relid, &result, &busy))
		result = NULL;
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return result;
}

/*
 * An error is the view's own, and is tried again next time unless it does not come to an end, or
 * that of one that follows it and cannot take what is removed.  Such followers take rows as each removal commits, and that must not
 * close the view, though it may have changed.
 */
static void
expire_view(Oid relid)
{
	MemoryContext context = CurrentMemoryContext;
	MrLocalView *volatile local = NULL;

	PG_TRY();
	{
		local = open_view(relid);
		if (local != NULL)
		{
			local->pinned = true;
			(void) mr_retention_remove(&local->ingest);
			local->pinned = false;
		}
	}
	PG_CATCH();
	{
		ErrorData  *error;
		MrOverdue	overdue = mr_view_limit_exceeded();
		MrTakePhase phase;
		Oid			blamed = mr_ingest_after_error(&phase);

		if (local != NULL)
			local->pinned = false;
		MemoryContextSwitchTo(context);
		error = mr_view_limit_report(overdue);
		AbortCurrentTransaction();
		FlushErrorState();
		mr_local_view_forget_all();
		if (OidIsValid(blamed) && (blamed != relid || overdue != MR_OVERDUE_NOT))
			(void) mr_recover_without_slot(blamed, error, overdue);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
}

void
mr_local_expire(long *nap_ms)
{
	static TimestampTz next = 0;
	TimestampTz now = mr_steady_time();
	List	   *views;
	ListCell   *lc;

	if (now >= next)
	{
		mr_local_view_tidy();
		views = read_views();
		if (views == NIL)
			return;				/* whoever creates one wakes us */
		foreach(lc, views)
			expire_view(lfirst_oid(lc));
		next = TimestampTzPlusMilliseconds(now, EXPIRY_INTERVAL_MS);
	}
	*nap_ms = Min(*nap_ms, (long) ((next - now) / 1000) + 1);
}
