/*
 * supervisor.c
 *		The supervisor: one process per database that has the extension, which has ingest
 *		workers run as the catalog wants them.
 *
 * A supervisor compares what should run (every feed with an active view: one worker for
 * each shard of a live feed, one for each other feed, these at most
 * millrace.catchup_workers at a time) with the worker slots, and starts what is missing.
 * It never stops a worker: a worker whose feed or definition changed exits by itself, with
 * 0, and is started again at once; one that failed is started again after a wait that
 * doubles up to millrace.retry_max_interval.
 *
 * Besides, it does what is no single worker's affair.  Before it looks it puts feeds in order,
 * and lets views leave them whose workers could not be interrupted; afterwards shadows take
 * their views' places, and rows leave views that have no worker.
 *
 * The launcher starts it, and does so again after an error.  It exits with 0 where the
 * extension is not, or not any more.
 *
 * Slots: a worker's is reserved here, filled by the worker, and freed here after the worker
 * has exited.  Who exits as a supervisor takes back what no worker has come for.
 */
#include "millrace.h"

#include "access/xact.h"
#include "catalog_feed.h"
#include "elapsed.h"
#include "failpoint.h"
#include "ingest/exchange.h"
#include "ingest/local_expiry.h"
#include "ingest/recover.h"
#include "ingest/session.h"
#include "ingest/view_limit.h"
#include "launcher.h"
#include "lock_wait.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "stream/option.h"
#include "supervisor.h"
#include "tcop/tcopprot.h"
#include "transaction.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* ---------- what should run ---------- */

/* one process that the catalog asks for */
typedef struct Wanted
{
	Oid			stream;
	int64		feed;
	int			shard;
	int			nshards;
	bool		catch_up;
	TimestampTz rested;			/* since when it might be started again; 0: no
								 * slot tells */
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
	wanted->rested = 0;
	return lappend(list, wanted);
}

/* does one of these views (of Oid) follow it? */
static bool
is_followed(const MrFeed *feed, const List *views)
{
	ListCell   *lc;

	foreach(lc, views)
		if (mr_catalog_feed_of(lfirst_oid(lc), feed->stream) == feed->id)
		return true;
	return false;
}

/* none for what a stubborn view (of Oid) is still to leave: that would only be in its way */
static List *
wanted_workers(const List *stubborn)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, mr_catalog_feeds())
	{
		MrFeed	   *feed = lfirst(lc);
		int			nshards;

		if (!mr_is_stream(feed->stream) || is_followed(feed, stubborn))
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

/* nobody is in it, and who was may be started again */
static bool
has_rested(const MrWorkerSlot *slot, TimestampTz now)
{
	return slot->state == MR_WORKER_EXITED && slot->not_before <= now;
}

/* feeds of this database that a worker looks after, or rests from */
static int64 *
served_feeds(int *n)
{
	int64	   *result = palloc(sizeof(int64) * mr_shared->nslots);
	TimestampTz now = mr_steady_time();

	*n = 0;
	LWLockAcquire(mr_shared->lock, LW_SHARED);
	for (int i = 0; i < mr_shared->nslots; i++)
	{
		const MrWorkerSlot *slot = &mr_shared->workers[i];

		if (slot->state != MR_WORKER_FREE && !has_rested(slot, now) && slot->database == MyDatabaseId)
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
	mr_start_transaction();
	PushActiveSnapshot(GetTransactionSnapshot());
}

/*
 * The catalog's wishes, read in transactions of its own, in the given context.  *all: nothing was
 * left for the next round because of locks.
 */
static List *
read_wanted(MemoryContext context, const List *stubborn, bool *extension, bool *all)
{
	List	   *result = NIL;

	mr_start_transaction();
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
		*all = mr_catalog_merge_waiting_feeds(served, nserved);
		MR_FAILPOINT("supervise-merged");
		next_transaction();
		*all = mr_catalog_forget_unused_feeds() && *all;
		next_transaction();
		*all = mr_catalog_elect_feeds() && *all;
		MemoryContextSwitchTo(context);
		result = wanted_workers(stubborn);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return result;
}

/* ---------- slots ---------- */

static bool
slot_serves(const MrWorkerSlot *slot, const Wanted *wanted)
{
	return slot->state != MR_WORKER_FREE && slot->database == MyDatabaseId &&
		slot->feed == wanted->feed && slot->shard == wanted->shard &&
		slot->nshards == wanted->nshards && slot->catch_up == wanted->catch_up;
}

/* the slot that serves it, or did; -1: none */
static int
slot_of(const Wanted *wanted)
{
	for (int i = 0; i < mr_shared->nslots; i++)
		if (slot_serves(&mr_shared->workers[i], wanted))
			return i;
	return -1;
}

/* is somebody looking after it already, or is it too early to try again? */
static bool
is_served(int own_slot, TimestampTz now, long *nap_ms)
{
	const MrWorkerSlot *slot;

	if (own_slot < 0)
		return false;
	slot = &mr_shared->workers[own_slot];
	if (has_rested(slot, now))
		return false;
	if (slot->state != MR_WORKER_EXITED)
		return true;
	*nap_ms = Min(*nap_ms, (long) ((slot->not_before - now) / 1000) + 1);
	return true;
}

/* the feed that was the last one to get a place to catch up */
static int64 last_turn = 0;

/*
 * Who catches up comes after others, and first who has no slot to tell how long it has rested, from the
 * last one's turn on, or has rested for the longest time, so that all have their turn where places or slots
 * are few.
 */
static int
compare_wanted(const ListCell *a, const ListCell *b)
{
	const Wanted *wa = lfirst(a);
	const Wanted *wb = lfirst(b);

	if (wa->catch_up != wb->catch_up)
		return wa->catch_up ? 1 : -1;
	if (wa->rested != wb->rested)
		return wa->rested > wb->rested ? 1 : -1;
	if (wa->catch_up && (wa->feed > last_turn) != (wb->feed > last_turn))
		return wa->feed > last_turn ? -1 : 1;
	if (wa->feed != wb->feed)
		return wa->feed > wb->feed ? 1 : -1;
	return wa->shard - wb->shard;
}

static void
sort_by_turn(List *list)
{
	ListCell   *lc;

	LWLockAcquire(mr_shared->lock, LW_SHARED);
	foreach(lc, list)
	{
		Wanted	   *wanted = lfirst(lc);
		int			slot = slot_of(wanted);

		if (slot >= 0 && mr_shared->workers[slot].state == MR_WORKER_EXITED)
			wanted->rested = mr_shared->workers[slot].not_before;
	}
	LWLockRelease(mr_shared->lock);
	list_sort(list, compare_wanted);
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

/*
 * For one that has none: a free one, or of those that are only kept to tell whose turn it is that of who
 * has rested for the longest time; -1: none
 */
static int
find_slot(TimestampTz now)
{
	int			result = -1;

	for (int i = 0; i < mr_shared->nslots; i++)
	{
		if (mr_shared->workers[i].state == MR_WORKER_FREE)
			return i;
		if (has_rested(&mr_shared->workers[i], now) &&
			(result < 0 || mr_shared->workers[i].not_before < mr_shared->workers[result].not_before))
			result = i;
	}
	return result;
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
	int			own;
	TimestampTz now = mr_steady_time();

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	own = slot_of(wanted);
	if (is_served(own, now, &lack->nap_ms) || mr_shmem_is_blocked(MyDatabaseId))
		result = -1;
	else if (wanted->catch_up && count_catch_up() >= mr_catchup_workers)
		lack->crowded = true;
	else
	{
		result = own >= 0 ? own : find_slot(now);
		lack->shortage = lack->shortage || result < 0;
	}
	if (result >= 0)
	{
		MrWorkerSlot *slot = &mr_shared->workers[result];
		uint32		generation = slot->generation + 1;
		TimestampTz renewed_at = own >= 0 ? slot->renewed_at : 0;

		memset(slot, 0, sizeof(MrWorkerSlot));
		slot->generation = generation;
		slot->renewed_at = renewed_at;
		slot->state = MR_WORKER_STARTING;
		slot->database = MyDatabaseId;
		slot->stream = wanted->stream;
		slot->feed = wanted->feed;
		slot->shard = wanted->shard;
		slot->nshards = wanted->nshards;
		slot->catch_up = wanted->catch_up;
		if (wanted->catch_up)
			last_turn = wanted->feed;
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
		slot->not_before = TimestampTzPlusMilliseconds(mr_steady_time(), wait_ms);
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
	mr_launcher_describe(&worker, "mr_worker_main", "millrace worker",
						 wanted->catch_up ? "millrace catch-up worker" : "millrace worker");
	worker.bgw_main_arg = Int32GetDatum(slot);
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, &mr_shared->workers[slot].generation, sizeof(uint32));
	MR_FAILPOINT("supervise-reserved");
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		release_unstarted(slot, MR_SHORTAGE, MR_RETRY_INTERVAL_MS);
		lack->shortage = true;
	}
	else if (WaitForBackgroundWorkerStartup(handle, &pid) == BGWH_STOPPED)
	{
		release_unstarted(slot, "the worker ended before it could start", MR_RETRY_INTERVAL_MS);
		lack->nap_ms = Min(lack->nap_ms, MR_RETRY_INTERVAL_MS);
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

/* ---------- life ---------- */

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
		mr_launcher_probe_later();	/* an error: the launcher starts another
									 * one */
	mr_launcher_free_database(DatumGetInt32(arg));
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
		List	   *stubborn = mr_recover_from_stubborn();
		bool		extension;
		bool		all = true;
		List	   *wanted = read_wanted(context, stubborn, &extension, &all);
		Lack		lack = {.nap_ms = MR_LOOK_INTERVAL_MS};
		ListCell   *lc;

		MR_FAILPOINT("supervise-looked");
		if (changed || !extension)
			tell_workers();
		if (!extension)
			proc_exit(0);
		free_unwanted_slots(wanted);
		sort_by_turn(wanted);
		foreach(lc, wanted)
			start_worker(lfirst(lc), &lack);
		mr_launcher_note_shortage(&mr_shared->databases[index].shortage, lack.shortage);
		mr_shared->databases[index].crowded = lack.crowded;
		if (lack.shortage || lack.crowded || !all || stubborn != NIL)
			lack.nap_ms = Min(lack.nap_ms, MR_RETRY_INTERVAL_MS);
		if (mr_enabled)
			mr_exchange_shadows(&lack.nap_ms);
		mr_local_expire(&lack.nap_ms);
		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
		pgstat_report_activity(STATE_IDLE, NULL);
		mr_launcher_nap(lack.nap_ms, MR_WAIT_SUPERVISOR_MAIN);
	}
}
