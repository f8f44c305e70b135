/*
 * ingest/slot.c
 *		A worker and its slot in shared memory: taken at the start, given back at exit, and
 *		between them the state that others see.
 *
 * Locking: see shmem.h; counters, which need none, are worker.c's.
 */
#include "millrace.h"

#include "elapsed.h"
#include "ingest/session.h"
#include "ingest/slot.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"
#include "wait_event.h"

#define SHORT_NAP_MS	1000	/* so long, no nap is one between attempts */

static MrWorkerSlot *own_slot = NULL;
static long rest_ms = 0;		/* after an orderly exit */

static void
worker_exit(int code, Datum arg)
{
	MrWorkerSlot *slot = &mr_shared->workers[DatumGetInt32(arg)];
	Oid			database = slot->database;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	slot->pid = 0;
	slot->latch = NULL;
	slot->exit_code = code;
	slot->not_before = TimestampTzPlusMilliseconds(mr_steady_time(), code == 0 ? rest_ms : 1000);
	slot->state = MR_WORKER_EXITED;
	if (code != 0)
		mr_shmem_set_error(slot, "the process was terminated, or ended with an error that is in the server's log", GetCurrentTimestamp());
	LWLockRelease(mr_shared->lock);
	mr_shmem_exited(database);
	ConditionVariableBroadcast(&mr_shared->exits);
	ConditionVariableBroadcast(&mr_shared->progress[0]);
}

void
mr_slot_attach(int index)
{
	MrWorkerSlot *slot = &mr_shared->workers[index];
	uint32		generation;
	bool		blocked;

	memcpy(&generation, MyBgworkerEntry->bgw_extra, sizeof(uint32));
	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	if (slot->state != MR_WORKER_STARTING || slot->generation != generation)
	{
		/* who started us is gone, and has taken the reservation back */
		LWLockRelease(mr_shared->lock);
		proc_exit(0);
	}
	slot->pid = MyProcPid;
	slot->latch = MyLatch;
	own_slot = slot;
	blocked = mr_shmem_is_blocked(slot->database);
	LWLockRelease(mr_shared->lock);
	before_shmem_exit(worker_exit, Int32GetDatum(index));
	if (blocked)
		proc_exit(0);
	mr_session_settings();
	BackgroundWorkerInitializeConnectionByOid(slot->database, InvalidOid, 0);
}

void
mr_slot_give_place(long ms)
{
	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	own_slot->last_error[0] = '\0'; /* it is in no trouble any more */
	LWLockRelease(mr_shared->lock);
	rest_ms = ms;
	proc_exit(0);
}

static void
set_state(MrWorkerSlot *slot, MrWorkerState state, const char *error, Oid blamed)
{
	bool		changed;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	changed = slot->state != state || (error && strcmp(slot->last_error, error) != 0);
	slot->state = state;
	if (error)
	{
		mr_shmem_set_error(slot, error, GetCurrentTimestamp());
		slot->blamed = blamed;
	}
	LWLockRelease(mr_shared->lock);
	if (changed)
		ConditionVariableBroadcast(mr_shmem_progress(slot->stream));
}

void
mr_slot_set_state(MrWorkerSlot *slot, MrWorkerState state, const char *error)
{
	set_state(slot, state, error, InvalidOid);
}

void
mr_slot_set_trouble(MrWorkerSlot *slot, Oid view, const char *error)
{
	set_state(slot, MR_WORKER_RETRYING, error, view);
}

void
mr_slot_note_wait(Oid view, const char *error)
{
	static char noted[sizeof(own_slot->last_error)] = "";
	bool		retrying;

	if (own_slot == NULL)
		return;
	retrying = own_slot->state == MR_WORKER_RETRYING;
	if (error != NULL && !(retrying && strcmp(own_slot->last_error, error) == 0))
	{
		mr_slot_set_trouble(own_slot, view, error);
		strlcpy(noted, own_slot->last_error, sizeof(noted));
	}
	else if (error == NULL && noted[0] != '\0')
	{
		/* something else may have gone wrong since */
		if (retrying && strcmp(own_slot->last_error, noted) == 0)
			mr_slot_set_state(own_slot, mr_slot_running_state(own_slot), NULL);
		noted[0] = '\0';
	}
}

MrWorkerState
mr_slot_running_state(const MrWorkerSlot *slot)
{
	return slot->catch_up ? MR_WORKER_CATCHING_UP : MR_WORKER_RUNNING;
}

bool
mr_slot_take_reload(MrWorkerSlot *slot)
{
	bool		result;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	result = slot->reload;
	slot->reload = false;
	LWLockRelease(mr_shared->lock);
	return result;
}

/* by a clock that nobody sets back, and as long as the setting says by then */
void
mr_slot_nap(MrWorkerSlot *slot, long ms)
{
	instr_time	began;

	INSTR_TIME_SET_CURRENT(began);
	for (;;)
	{
		long		rest;

		mr_session_serve_interrupts();
		rest = Min(ms, Max(mr_retry_max_interval, SHORT_NAP_MS)) - (long) mr_ms_since(began);
		if (rest <= 0 || mr_slot_take_reload(slot))
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, rest,
						 mr_wait_event(MR_WAIT_RETRY));
	}
}
