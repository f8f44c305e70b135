/*
 * launcher.c
 *		The launcher: one process per server, which has a supervisor run in each database that
 *		has the extension.
 *
 * The launcher cannot read a database's catalog without being connected to it, and a
 * process connects once in its life.  So it starts a supervisor in each database that may
 * be connected to; a supervisor that does not find the extension exits with 0 and the
 * database is left alone until something (CREATE EXTENSION, CREATE DATABASE, a new view)
 * asks for another look.
 *
 * It reserves a supervisor's slot in shared memory, and takes back what no supervisor came
 * for; from then on the slot is the supervisor's, who frees it on its way out.  What runs in
 * a database is not known here; see supervisor.c.
 *
 * Here is, too, what both kinds of process need: how a process of ours is described to the
 * server, how one waits that only looks now and then, what it tells when slots are short.
 *
 * All of this runs only where the server accepts writes (BgWorkerStart_RecoveryFinished),
 * so a standby does nothing until it is promoted.
 */
#include "millrace.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "elapsed.h"
#include "failpoint.h"
#include "ingest/session.h"
#include "launcher.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "transaction.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define START_MS			5000	/* a server that has run longer is no new
									 * one */

extern PGDLLEXPORT void mr_launcher_main(Datum arg);

/* ---------- starting processes ---------- */

void
mr_launcher_describe(BackgroundWorker *worker, const char *function, const char *name, const char *type)
{
	memset(worker, 0, sizeof(BackgroundWorker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, MR_EXTENSION, sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, function, sizeof(worker->bgw_function_name));
	strlcpy(worker->bgw_name, name, sizeof(worker->bgw_name));
	strlcpy(worker->bgw_type, type, sizeof(worker->bgw_type));
}

void
mr_launcher_register(void)
{
	BackgroundWorker worker;

	if (IsBinaryUpgrade)
		return;
	mr_launcher_describe(&worker, "mr_launcher_main", "millrace launcher", "millrace launcher");
	worker.bgw_restart_time = 1;
	RegisterBackgroundWorker(&worker);
}

void
mr_launcher_nap(long timeout_ms, MrWaitEvent event)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout_ms,
					 mr_wait_event(event));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* ---------- launcher ---------- */

/* supervisors that were to be started, and have not come yet, find their reservation gone */
static void
launcher_exit(int code, Datum arg)
{
	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	mr_shared->launcher_pid = 0;
	mr_shared->launcher_latch = NULL;
	for (int i = 0; i < mr_shared->nslots; i++)
		if (mr_shared->databases[i].pid == 0)
			mr_shared->databases[i].database = InvalidOid;
	mr_shared->probe = true;
	LWLockRelease(mr_shared->lock);
}

/*
 * Databases that may be connected to, by oid, in the current context: no templates, nor what is
 * left of one whose DROP DATABASE was interrupted.
 */
static List *
connectable_databases(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *result = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	mr_start_transaction();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database db = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old;

		if (!db->datallowconn || db->datistemplate || db->datconnlimit == MR_INVALID_DATABASE_LIMIT)
			continue;
		old = MemoryContextSwitchTo(context);
		result = lappend_oid(result, db->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	list_sort(result, list_oid_cmp);
	return result;
}

/* reserve a slot for a database's supervisor; -1 when it has one, or none is free */
static int
reserve_database(Oid database)
{
	int			free_slot = -1;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < mr_shared->nslots; i++)
	{
		Oid			owner = mr_shared->databases[i].database;

		if (owner == database)
		{
			LWLockRelease(mr_shared->lock);
			return -1;
		}
		if (!OidIsValid(owner) && free_slot < 0)
			free_slot = i;
	}
	if (mr_shmem_is_blocked(database))
		free_slot = -1;
	if (free_slot >= 0)
	{
		memset(&mr_shared->databases[free_slot], 0, sizeof(MrDatabaseSlot));
		mr_shared->databases[free_slot].database = database;
	}
	LWLockRelease(mr_shared->lock);
	return free_slot;
}

void
mr_launcher_free_database(int slot)
{
	bool		changed;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	changed = mr_shared->databases[slot].changed;
	mr_shared->databases[slot].database = InvalidOid;
	mr_shared->databases[slot].pid = 0;
	mr_shared->databases[slot].latch = NULL;
	LWLockRelease(mr_shared->lock);
	if (changed)
		mr_shmem_probe();		/* somebody has asked it on its way out */
}

void
mr_launcher_note_shortage(bool *shortage, bool now)
{
	bool		begins;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	begins = now && !*shortage;
	*shortage = now;
	LWLockRelease(mr_shared->lock);
	if (begins)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no background worker slot is free for millrace"),
				 errhint("Raise max_worker_processes.")));
}

static int
position_of(const List *databases, Oid database)
{
	int			result = 0;

	while (result < list_length(databases) && list_nth_oid(databases, result) != database)
		result++;
	return result;
}

/*
 * Start a supervisor in each database that has none; those that exit free their slot.  False:
 * there was no background worker slot for one.  With that one the next call begins: others,
 * which only look whether the extension is there, would take the slot from it each time.
 */
static bool
start_supervisors(const List *databases)
{
	static Oid	first = InvalidOid;
	int			n = list_length(databases);
	int			position = position_of(databases, first);

	for (int i = 0; i < n; i++)
	{
		Oid			database = list_nth_oid(databases, (position + i) % n);
		BackgroundWorker worker;
		BackgroundWorkerHandle *handle;
		int			slot = reserve_database(database);
		pid_t		pid;

		if (slot < 0)
			continue;
		mr_launcher_describe(&worker, "mr_supervisor_main", "millrace supervisor", "millrace supervisor");
		worker.bgw_main_arg = Int32GetDatum(slot);
		worker.bgw_notify_pid = MyProcPid;
		MR_FAILPOINT("launch-reserved");
		if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		{
			mr_launcher_free_database(slot);
			first = database;
			return false;
		}
		if (WaitForBackgroundWorkerStartup(handle, &pid) != BGWH_STARTED)
		{
			/* it may have come and gone; a slot without a process is free */
			LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
			if (mr_shared->databases[slot].pid == 0)
				mr_shared->databases[slot].database = InvalidOid;
			LWLockRelease(mr_shared->lock);
		}
	}
	first = InvalidOid;
	return true;
}

void
mr_launcher_probe_later(void)
{
	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	mr_shared->probe = true;
	mr_shared->probe_after = TimestampTzPlusMilliseconds(mr_steady_time(), MR_RETRY_INTERVAL_MS);
	LWLockRelease(mr_shared->lock);
}

/* is a look wanted?  If so, ms until it may be taken; else until the next one anyway */
static long
probe_due(void)
{
	long		result = MR_LOOK_INTERVAL_MS;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	if (mr_shared->probe)
		result = TimestampDifferenceMilliseconds(mr_steady_time(), mr_shared->probe_after);
	if (result == 0)
		mr_shared->probe = false;
	LWLockRelease(mr_shared->lock);
	return result;
}

void
mr_launcher_main(Datum arg)
{
	MemoryContext context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	mr_session_settings();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("millrace launcher");

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	mr_shared->launcher_pid = MyProcPid;
	mr_shared->launcher_latch = MyLatch;
	LWLockRelease(mr_shared->lock);
	if (TimestampDifferenceExceeds(PgStartTime, GetCurrentTimestamp(), START_MS))
		mr_launcher_probe_later();	/* after a crash: let an administrator in
									 * first */
	before_shmem_exit(launcher_exit, (Datum) 0);

	context = AllocSetContextCreate(TopMemoryContext, "millrace launcher", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	for (;;)
	{
		long		wait = probe_due();

		if (wait == 0)
		{
			bool		shortage = !start_supervisors(connectable_databases());

			mr_launcher_note_shortage(&mr_shared->shortage, shortage);
			if (shortage)
				mr_launcher_probe_later();
		}
		MemoryContextReset(context);
		mr_launcher_nap(wait == 0 ? 0 : wait, MR_WAIT_LAUNCHER_MAIN);
	}
}
