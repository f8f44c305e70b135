/*
 * launcher.c
 *		Who runs what: one launcher per server, one supervisor per database that has the
 *		extension, ingest workers as the catalog wants them.
 *
 * The launcher cannot read a database's catalog without being connected to it, and a
 * process connects once in its life.  So it starts a supervisor in each database that may
 * be connected to; a supervisor that does not find the extension exits with 0 and the
 * database is left alone until something (CREATE EXTENSION, CREATE DATABASE, a new view)
 * asks for another look.
 *
 * A supervisor compares what should run (every feed with an active view: one worker for
 * each shard of a live feed, one for each other feed, these at most
 * millrace.catchup_workers at a time) with the worker slots, and starts what is missing.
 * It never stops a worker: a worker whose feed or definition changed exits by itself, with
 * 0, and is started again at once; one that failed is started again after a wait that
 * doubles up to millrace.retry_max_interval.
 *
 * All of this runs only where the server accepts writes (BgWorkerStart_RecoveryFinished),
 * so a standby does nothing until it is promoted.
 */
#include "millrace.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog_feed.h"
#include "catalog/pg_database.h"
#include "failpoint.h"
#include "ingest/exchange.h"
#include "ingest/local_expiry.h"
#include "ingest/recover.h"
#include "ingest/session.h"
#include "ingest/view_limit.h"
#include "ingest/worker.h"
#include "launcher.h"
#include "lock_wait.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "shmem.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "stream/option.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "wait_event.h"

#define LOOK_INTERVAL_MS	10000	/* a look without being asked */
#define RETRY_INTERVAL_MS	1000	/* between attempts to start what failed */
#define START_MS			5000	/* a server that has run longer is no new
									 * one */

extern PGDLLEXPORT void mr_launcher_main(Datum arg);
extern PGDLLEXPORT void mr_supervisor_main(Datum arg);

/* ---------- starting processes ---------- */

static void
describe_worker(BackgroundWorker *worker, const char *function, const char *name, const char *type)
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
	describe_worker(&worker, "mr_launcher_main", "millrace launcher", "millrace launcher");
	worker.bgw_restart_time = 1;
	RegisterBackgroundWorker(&worker);
}

/* wait for the latch, a timeout or the postmaster's end; serve interrupts and reloads */
static void
nap(long timeout_ms, MrWaitEvent event)
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

	StartTransactionCommand();
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

static void
free_database_slot(int slot)
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

/* told in the log when it begins, and to whoever looks while it lasts */
static void
note_shortage(bool *shortage, bool now)
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
		describe_worker(&worker, "mr_supervisor_main", "millrace supervisor", "millrace supervisor");
		worker.bgw_main_arg = Int32GetDatum(slot);
		worker.bgw_notify_pid = MyProcPid;
		MR_FAILPOINT("launch-reserved");
		if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		{
			free_database_slot(slot);
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

/* ask for a look, but not at once: what failed may fail again */
static void
probe_later(void)
{
	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	mr_shared->probe = true;
	mr_shared->probe_after = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), RETRY_INTERVAL_MS);
	LWLockRelease(mr_shared->lock);
}

/* is a look wanted?  If so, ms until it may be taken; else until the next one anyway */
static long
probe_due(void)
{
	long		result = LOOK_INTERVAL_MS;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	if (mr_shared->probe)
		result = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), mr_shared->probe_after);
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
		probe_later();			/* after a crash: let an administrator in
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

			note_shortage(&mr_shared->shortage, shortage);
			if (shortage)
				probe_later();
		}
		MemoryContextReset(context);
		nap(wait == 0 ? 0 : wait, MR_WAIT_LAUNCHER_MAIN);
	}
}

/* ---------- supervisor: what should run ---------- */

/* one process that the catalog asks for */
typedef struct Wanted
{
	Oid			stream;
	int64		feed;
	int			shard;
	int			nshards;
	bool		catch_up;
} Wanted;

static List *
append_wanted(List *list, const MrFeed *feed, int shard, int nshards)
{
	Wanted	   *wanted = palloc(sizeof(Wanted));

	wanted->stream = feed->stream;
	wanted->feed = feed->id;
	wanted->shard = shard;
	wanted->nshards = nshards;
	wanted->catch_up = !feed->live && !feed->apart;
	return lappend(list, wanted);
}

static List *
wanted_workers(void)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, mr_catalog_feeds())
	{
		MrFeed	   *feed = lfirst(lc);
		int			nshards;

		if (!mr_is_stream(feed->stream))
			continue;
		if (!feed->live)
		{
			result = append_wanted(result, feed, 0, 1);
			continue;
		}
		nshards = mr_stream_workers(feed->stream);
		for (int shard = 0; shard < nshards; shard++)
			result = append_wanted(result, feed, shard, nshards);
	}
	return result;
}

/* feeds of this database that a worker looks after */
static int64 *
served_feeds(int *n)
{
	int64	   *result = palloc(sizeof(int64) * mr_shared->nslots);

	*n = 0;
	LWLockAcquire(mr_shared->lock, LW_SHARED);
	for (int i = 0; i < mr_shared->nslots; i++)
	{
		const MrWorkerSlot *slot = &mr_shared->workers[i];

		if (slot->state != MR_WORKER_FREE && slot->database == MyDatabaseId)
			result[(*n)++] = slot->feed;
	}
	LWLockRelease(mr_shared->lock);
	return result;
}

static void
next_transaction(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

/* the catalog's wishes, read in transactions of its own, in the given context */
static List *
read_wanted(MemoryContext context, bool *extension)
{
	List	   *result = NIL;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	*extension = OidIsValid(mr_catalog_extension_oid());
	if (*extension && mr_enabled)
	{
		int			nserved;
		int64	   *served = served_feeds(&nserved);

		/*
		 * First, so that views that were created at once begin as the live
		 * feed together.  Each in a transaction of its own, because all write
		 * feeds' rows, by id: whoever drops views waits for them in that
		 * order.
		 */
		mr_catalog_merge_waiting_feeds(served, nserved);
		MR_FAILPOINT("supervise-merged");
		next_transaction();
		mr_catalog_forget_unused_feeds();
		next_transaction();
		mr_catalog_elect_feeds();
		MemoryContextSwitchTo(context);
		result = wanted_workers();
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return result;
}

/* ---------- supervisor: slots ---------- */

static bool
slot_serves(const MrWorkerSlot *slot, const Wanted *wanted)
{
	return slot->state != MR_WORKER_FREE && slot->database == MyDatabaseId &&
		slot->feed == wanted->feed && slot->shard == wanted->shard &&
		slot->nshards == wanted->nshards && slot->catch_up == wanted->catch_up;
}

/* is somebody looking after it already, or is it too early to try again? */
static bool
is_served(const Wanted *wanted, TimestampTz now, long *nap_ms)
{
	for (int i = 0; i < mr_shared->nslots; i++)
	{
		MrWorkerSlot *slot = &mr_shared->workers[i];

		if (!slot_serves(slot, wanted))
			continue;
		if (slot->state != MR_WORKER_EXITED)
			return true;
		if (slot->not_before > now)
		{
			*nap_ms = Min(*nap_ms, (long) ((slot->not_before - now) / 1000) + 1);
			return true;
		}
		slot->state = MR_WORKER_FREE;
	}
	return false;
}

static int
count_catch_up(void)
{
	int			n = 0;

	for (int i = 0; i < mr_shared->nslots; i++)
	{
		MrWorkerSlot *slot = &mr_shared->workers[i];

		/* those that only wait for better times do not keep others from work */
		if (slot->state != MR_WORKER_FREE && slot->state != MR_WORKER_EXITED &&
			slot->state != MR_WORKER_RETRYING &&
			slot->database == MyDatabaseId && slot->catch_up && mr_lock_wait_since(slot->pid) == 0)
			n++;
	}
	return n;
}

/* why not all workers run that should; *nap_ms: look again by then */
typedef struct Lack
{
	long		nap_ms;
	bool		shortage;		/* no slot is free */
	bool		crowded;		/* enough of them catch up */
} Lack;

/* reserve a slot; -1 when it is served, must wait, or for what lack tells */
static int
reserve_worker(const Wanted *wanted, Lack *lack)
{
	int			result = -1;
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	if (is_served(wanted, now, &lack->nap_ms) || mr_shmem_is_blocked(MyDatabaseId))
		result = -1;
	else if (wanted->catch_up && count_catch_up() >= mr_catchup_workers)
		lack->crowded = true;
	else
	{
		for (int i = 0; i < mr_shared->nslots && result < 0; i++)
			if (mr_shared->workers[i].state == MR_WORKER_FREE)
				result = i;
		lack->shortage = lack->shortage || result < 0;
	}
	if (result >= 0)
	{
		MrWorkerSlot *slot = &mr_shared->workers[result];
		uint32		generation = slot->generation + 1;

		memset(slot, 0, sizeof(MrWorkerSlot));
		slot->generation = generation;
		slot->state = MR_WORKER_STARTING;
		slot->database = MyDatabaseId;
		slot->stream = wanted->stream;
		slot->feed = wanted->feed;
		slot->shard = wanted->shard;
		slot->nshards = wanted->nshards;
		slot->catch_up = wanted->catch_up;
	}
	LWLockRelease(mr_shared->lock);
	return result;
}

static void
release_unstarted(int slot_index, const char *error, long wait_ms)
{
	MrWorkerSlot *slot = &mr_shared->workers[slot_index];

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	if (slot->pid == 0 && slot->state == MR_WORKER_STARTING)
	{
		slot->state = MR_WORKER_EXITED;
		slot->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms);
		mr_shmem_set_error(slot, error, GetCurrentTimestamp());
	}
	LWLockRelease(mr_shared->lock);
}

static void
start_worker(const Wanted *wanted, Lack *lack)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	pid_t		pid;
	int			slot = reserve_worker(wanted, lack);

	if (slot < 0)
		return;
	describe_worker(&worker, "mr_worker_main", "millrace worker",
					wanted->catch_up ? "millrace catch-up worker" : "millrace worker");
	worker.bgw_main_arg = Int32GetDatum(slot);
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, &mr_shared->workers[slot].generation, sizeof(uint32));
	MR_FAILPOINT("supervise-reserved");
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		release_unstarted(slot, MR_SHORTAGE, RETRY_INTERVAL_MS);
		lack->shortage = true;
	}
	else if (WaitForBackgroundWorkerStartup(handle, &pid) == BGWH_STOPPED)
	{
		release_unstarted(slot, "the worker ended before it could start", RETRY_INTERVAL_MS);
		lack->nap_ms = Min(lack->nap_ms, RETRY_INTERVAL_MS);
	}
}

/* workers that exited and are not wanted any more leave their slots */
static void
free_unwanted_slots(List *wanted)
{
	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < mr_shared->nslots; i++)
	{
		MrWorkerSlot *slot = &mr_shared->workers[i];
		bool		found = false;
		ListCell   *lc;

		if (slot->state != MR_WORKER_EXITED || slot->database != MyDatabaseId)
			continue;
		foreach(lc, wanted)
			found = found || slot_serves(slot, lfirst(lc));
		if (!found)
			slot->state = MR_WORKER_FREE;
	}
	LWLockRelease(mr_shared->lock);
}

/* let running workers look at the catalog */
static void
tell_workers(void)
{
	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < mr_shared->nslots; i++)
	{
		MrWorkerSlot *slot = &mr_shared->workers[i];

		if (slot->state == MR_WORKER_FREE || slot->database != MyDatabaseId || slot->pid == 0)
			continue;
		slot->reload = true;
		if (slot->latch)
			SetLatch(slot->latch);
	}
	LWLockRelease(mr_shared->lock);
}

/* ---------- supervisor: life ---------- */

/* workers that were to be started, and have not come yet, find their reservation gone */
static void
free_unattached_slots(void)
{
	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < mr_shared->nslots; i++)
	{
		MrWorkerSlot *slot = &mr_shared->workers[i];

		if (slot->state == MR_WORKER_STARTING && slot->pid == 0 && slot->database == MyDatabaseId)
			slot->state = MR_WORKER_FREE;
	}
	LWLockRelease(mr_shared->lock);
}

static void
supervisor_exit(int code, Datum arg)
{
	free_unattached_slots();
	if (code != 0)
		probe_later();			/* an error: the launcher starts another one */
	free_database_slot(DatumGetInt32(arg));
	mr_shmem_exited(MyDatabaseId);
	ConditionVariableBroadcast(&mr_shared->exits);
}

static void
supervisor_attach(int index)
{
	MrDatabaseSlot *slot = &mr_shared->databases[index];
	bool		blocked;
	Oid			database;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	database = slot->database;
	if (!OidIsValid(database) || slot->pid != 0)
	{
		/* who started us is gone, and has taken the reservation back */
		LWLockRelease(mr_shared->lock);
		proc_exit(0);
	}
	blocked = mr_shmem_is_blocked(database);
	slot->pid = MyProcPid;
	slot->latch = MyLatch;
	slot->changed = true;
	LWLockRelease(mr_shared->lock);
	before_shmem_exit(supervisor_exit, Int32GetDatum(index));
	if (blocked)
		proc_exit(0);
	mr_session_settings();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	pgstat_report_appname("millrace supervisor");
}

static bool
take_change(int index)
{
	MrDatabaseSlot *slot = &mr_shared->databases[index];
	bool		result;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	result = slot->changed;
	slot->changed = false;
	LWLockRelease(mr_shared->lock);
	return result;
}

void
mr_supervisor_main(Datum arg)
{
	int			index = DatumGetInt32(arg);
	MemoryContext context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	supervisor_attach(index);
	mr_view_limit_watch(NULL, NULL);

	context = AllocSetContextCreate(TopMemoryContext, "millrace supervisor", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	for (;;)
	{
		bool		changed = take_change(index);
		bool		parted = mr_recover_from_stubborn();
		bool		extension;
		List	   *wanted = read_wanted(context, &extension);
		Lack		lack = {.nap_ms = LOOK_INTERVAL_MS};
		ListCell   *lc;

		MR_FAILPOINT("supervise-looked");
		if (changed || !extension)
			tell_workers();
		if (!extension)
			proc_exit(0);
		free_unwanted_slots(wanted);
		foreach(lc, wanted)
			start_worker(lfirst(lc), &lack);
		note_shortage(&mr_shared->databases[index].shortage, lack.shortage);
		mr_shared->databases[index].crowded = lack.crowded;
		if (lack.shortage || lack.crowded || !parted)
			lack.nap_ms = Min(lack.nap_ms, RETRY_INTERVAL_MS);
		if (mr_enabled)
			mr_exchange_shadows(&lack.nap_ms);
		mr_local_expire(&lack.nap_ms);
		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
		pgstat_report_activity(STATE_IDLE, NULL);
		nap(lack.nap_ms, MR_WAIT_SUPERVISOR_MAIN);
	}
}
