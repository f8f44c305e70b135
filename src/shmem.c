/*
 * shmem.c
 *		The one segment of shared memory, and waking through it.
 *
 * It knows slots and latches, not what the processes behind them do.
 *
 * Locking: MrShared.lock guards everything but the counters of a worker slot.  It is held
 * for copies of a few fields only, never across a wait.  A latch is only set while its
 * owner's pid stands in the slot, which the owner clears before it exits.
 */
#include "millrace.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "failpoint.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "shmem.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "wait_event.h"

#define COUNTED	2048			/* views and streams with counters, in all
								 * databases */

MrShared   *mr_shared = NULL;
static HTAB *counters = NULL;

static shmem_request_hook_type prev_shmem_request = NULL;
static shmem_startup_hook_type prev_shmem_startup = NULL;

/* database to wake when the current transaction commits */
static Oid	wake_at_commit = InvalidOid;

/* is the launcher to look at all databases then? */
static bool probe_at_commit = false;

static Size
shared_size(void)
{
	Size		size = offsetof(MrShared, workers);

	size = add_size(size, mul_size(max_worker_processes, sizeof(MrWorkerSlot)));
	size = add_size(MAXALIGN(size), mul_size(max_worker_processes, sizeof(MrDatabaseSlot)));
	return size;
}

static void
request(void)
{
	if (prev_shmem_request)
		prev_shmem_request();
	RequestAddinShmemSpace(add_size(shared_size(), hash_estimate_size(COUNTED, sizeof(MrCounters))));
	RequestNamedLWLockTranche(MR_EXTENSION, 1);
	mr_failpoint_request();
}

static void
startup(void)
{
	HASHCTL		ctl = {.keysize = 2 * sizeof(Oid),.entrysize = sizeof(MrCounters)};
	bool		found;

	if (prev_shmem_startup)
		prev_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	mr_shared = ShmemInitStruct("millrace", shared_size(), &found);
	if (!found)
	{
		memset(mr_shared, 0, shared_size());
		mr_shared->lock = &(GetNamedLWLockTranche(MR_EXTENSION))->lock;
		mr_shared->nslots = max_worker_processes;
		mr_shared->databases = (MrDatabaseSlot *)
			((char *) mr_shared + shared_size() - mul_size(max_worker_processes, sizeof(MrDatabaseSlot)));
		mr_shared->probe = true;
		ConditionVariableInit(&mr_shared->exits);
		for (int i = 0; i < MR_PROGRESS_VARIABLES; i++)
			ConditionVariableInit(&mr_shared->progress[i]);
	}
	counters = ShmemInitHash("millrace counters", COUNTED, COUNTED, &ctl,
							 HASH_ELEM | HASH_BLOBS);
	mr_failpoint_startup();
	LWLockRelease(AddinShmemInitLock);
}

/* let the launcher look; the caller holds the lock */
static void
probe(void)
{
	mr_shared->probe = true;
	if (mr_shared->launcher_latch)
		SetLatch(mr_shared->launcher_latch);
}

void
mr_shmem_probe(void)
{
	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	probe();
	LWLockRelease(mr_shared->lock);
}

static void
at_xact_end(XactEvent event, void *arg)
{
	Oid			database = wake_at_commit;
	bool		probes = probe_at_commit;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	wake_at_commit = InvalidOid;
	probe_at_commit = false;
	if (event == XACT_EVENT_ABORT)
		return;
	if (OidIsValid(database))
		mr_shmem_wake(database);
	if (probes)
		mr_shmem_probe();
}

void
mr_shmem_init(void)
{
	prev_shmem_request = shmem_request_hook;
	shmem_request_hook = request;
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
	RegisterXactCallback(at_xact_end, NULL);
}

void
mr_shmem_wake_at_commit(Oid database)
{
	if (mr_shared != NULL)
		wake_at_commit = database;
}

void
mr_shmem_wake(Oid database)
{
	bool		supervised = false;

	if (mr_shared == NULL)
		return;
	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < mr_shared->nslots; i++)
	{
		MrDatabaseSlot *slot = &mr_shared->databases[i];

		if (slot->database != database || slot->pid == 0)
			continue;
		slot->changed = true;
		supervised = true;
		if (slot->latch)
			SetLatch(slot->latch);
	}
	if (!supervised)
		probe();
	LWLockRelease(mr_shared->lock);
	for (int i = 0; i < MR_PROGRESS_VARIABLES; i++)
		ConditionVariableBroadcast(&mr_shared->progress[i]);
}

void
mr_shmem_probe_at_commit(void)
{
	if (mr_shared != NULL)
		probe_at_commit = true;
}

bool
mr_shmem_shortage(void)
{
	bool		supervised = false;
	bool		result = false;

	if (mr_shared == NULL)
		return false;
	LWLockAcquire(mr_shared->lock, LW_SHARED);
	for (int i = 0; i < mr_shared->nslots; i++)
	{
		const MrDatabaseSlot *slot = &mr_shared->databases[i];

		if (slot->database != MyDatabaseId || slot->pid == 0)
			continue;
		supervised = true;
		result = slot->shortage;
	}
	if (!supervised)
		result = mr_shared->shortage;
	LWLockRelease(mr_shared->lock);
	return result;
}

bool
mr_shmem_is_crowded(void)
{
	for (int i = 0; i < mr_shared->nslots; i++)
		if (mr_shared->databases[i].database == MyDatabaseId)
			return mr_shared->databases[i].crowded;
	return false;
}

void
mr_shmem_note_stubborn(Oid view, bool fails)
{
	MrStubbornView *place = NULL;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MR_MAX_STUBBORN; i++)
	{
		MrStubbornView *stubborn = &mr_shared->stubborn[i];

		if (!OidIsValid(stubborn->database) ||
			(stubborn->database == MyDatabaseId && stubborn->view == view))
			place = stubborn;
	}
	if (place != NULL)
		*place = (MrStubbornView)
	{
		MyDatabaseId, view, fails
	};
	LWLockRelease(mr_shared->lock);
}

bool
mr_shmem_take_stubborn(MrStubbornView *stubborn)
{
	bool		result = false;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MR_MAX_STUBBORN && !result; i++)
	{
		if (mr_shared->stubborn[i].database != MyDatabaseId)
			continue;
		*stubborn = mr_shared->stubborn[i];
		mr_shared->stubborn[i].database = InvalidOid;
		result = true;
	}
	LWLockRelease(mr_shared->lock);
	return result;
}

void
mr_shmem_set_error(MrWorkerSlot *slot, const char *error, TimestampTz at)
{
	int			len = pg_mbcliplen(error, strlen(error), MR_ERROR_LENGTH - 1);

	memcpy(slot->last_error, error, len);
	slot->last_error[len] = '\0';
	slot->blamed = InvalidOid;
	slot->last_error_at = at;
}

static bool
is_supervised(Oid database)
{
	for (int i = 0; i < mr_shared->nslots; i++)
		if (mr_shared->databases[i].database == database)
			return true;
	return false;
}

void
mr_shmem_exited(Oid database)
{
	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < mr_shared->nslots; i++)
	{
		MrDatabaseSlot *slot = &mr_shared->databases[i];

		if (slot->database == database && slot->latch)
			SetLatch(slot->latch);
	}
	for (int i = 0; i < mr_shared->nslots; i++)
	{
		MrWorkerSlot *slot = &mr_shared->workers[i];

		if (slot->state == MR_WORKER_EXITED && !is_supervised(slot->database))
			slot->state = MR_WORKER_FREE;
	}
	LWLockRelease(mr_shared->lock);
}

ConditionVariable *
mr_shmem_progress(Oid stream)
{
	uint32		hash = murmurhash32(MyDatabaseId ^ (stream * 31));

	return &mr_shared->progress[hash % MR_PROGRESS_VARIABLES];
}

/* ---------- counters of views and streams ---------- */

void
mr_shmem_count_rows(Oid relid, int64 rows_in, int64 rows_out, int64 excess)
{
	Oid			key[2] = {MyDatabaseId, relid};
	MrCounters *entry;
	bool		found;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	entry = hash_search(counters, key, HASH_ENTER_NULL, &found);
	if (entry && !found)
		entry->rows_in = entry->rows_out = entry->excess = 0;
	if (entry)
	{
		entry->rows_in += rows_in;
		entry->rows_out += rows_out;
		entry->excess = Max(entry->excess + excess, 0);
	}
	LWLockRelease(mr_shared->lock);
}

void
mr_shmem_forget_excess(Oid relid)
{
	Oid			key[2] = {MyDatabaseId, relid};
	MrCounters *entry;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	entry = hash_search(counters, key, HASH_FIND, NULL);
	if (entry)
		entry->excess = 0;
	LWLockRelease(mr_shared->lock);
}

void
mr_shmem_forget_counters(Oid relid)
{
	Oid			key[2] = {MyDatabaseId, relid};

	if (mr_shared == NULL)
		return;
	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	(void) hash_search(counters, key, HASH_REMOVE, NULL);
	LWLockRelease(mr_shared->lock);
}

void
mr_shmem_forget_database(Oid database)
{
	HASH_SEQ_STATUS status;
	MrCounters *entry;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	hash_seq_init(&status, counters);
	while ((entry = hash_seq_search(&status)) != NULL)
		if (entry->database == database)
			(void) hash_search(counters, &entry->database, HASH_REMOVE, NULL);
	LWLockRelease(mr_shared->lock);
}

bool
mr_shmem_counters(Oid relid, MrCounters *result)
{
	Oid			key[2] = {MyDatabaseId, relid};
	MrCounters *entry;

	if (mr_shared == NULL)
		return false;
	LWLockAcquire(mr_shared->lock, LW_SHARED);
	entry = hash_search(counters, key, HASH_FIND, NULL);
	if (entry)
		*result = *entry;
	LWLockRelease(mr_shared->lock);
	return entry != NULL;
}

int64
mr_shmem_excess(Oid relid, int64 fallback)
{
	MrCounters	found;

	return mr_shmem_counters(relid, &found) ? found.excess : fallback;
}

/* ---------- databases that a command wants for itself ---------- */

bool
mr_shmem_is_blocked(Oid database)
{
	for (int i = 0; i < MR_MAX_BLOCKED; i++)
		if (mr_shared->blocked[i].database == database)
			return true;
	return false;
}

static bool
add_blocked(Oid database)
{
	for (int i = 0; i < MR_MAX_BLOCKED; i++)
	{
		MrBlockedDatabase *entry = &mr_shared->blocked[i];

		if (OidIsValid(entry->database))
			continue;
		entry->database = database;
		entry->pid = MyProcPid;
		return true;
	}
	return false;
}

/* tell all processes of a database to end; how many there are */
static int
terminate_processes(Oid database)
{
	int			n = 0;

	for (int i = 0; i < mr_shared->nslots; i++)
	{
		MrDatabaseSlot *db = &mr_shared->databases[i];
		MrWorkerSlot *worker = &mr_shared->workers[i];

		if (db->database == database && db->pid != 0)
		{
			n++;
			kill(db->pid, SIGTERM);
		}
		if (worker->state != MR_WORKER_FREE && worker->database == database && worker->pid != 0)
		{
			n++;
			kill(worker->pid, SIGTERM);
		}
	}
	return n;
}

void
mr_shmem_block_database(Oid database)
{
	bool		added;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	added = add_blocked(database);
	LWLockRelease(mr_shared->lock);
	if (!added)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many databases are being dropped, copied or moved"),
				 errhint("Try again when one of them is done.")));

	ConditionVariablePrepareToSleep(&mr_shared->exits);
	for (;;)
	{
		int			n;

		LWLockAcquire(mr_shared->lock, LW_SHARED);
		n = terminate_processes(database);
		LWLockRelease(mr_shared->lock);
		if (n == 0)
			break;
		ConditionVariableTimedSleep(&mr_shared->exits, 1000, mr_wait_event(MR_WAIT_DATABASE));
	}
	ConditionVariableCancelSleep();
}

void
mr_shmem_unblock_database(Oid database)
{
	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MR_MAX_BLOCKED; i++)
		if (mr_shared->blocked[i].database == database && mr_shared->blocked[i].pid == MyProcPid)
			mr_shared->blocked[i].database = InvalidOid;
	probe();
	LWLockRelease(mr_shared->lock);
}
