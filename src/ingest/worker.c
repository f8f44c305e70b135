/*
 * worker.c
 *		The ingest process: one feed of one stream, or one shard of it.
 *
 * An attempt opens the feed and a consumer and then repeats: collect messages, take one
 * step, release them.  No transaction is open while it waits for the broker.  An attempt
 * ends when the catalog has changed (begin another one at once), or with an error: the
 * transaction is aborted, and either the error is a view's own, which gets the state failed
 * and leaves the others alone, or it is tried again after a wait that doubles up to
 * millrace.retry_max_interval.  The broker still has everything that was rolled back.
 *
 * An error that a message may have caused in a view is followed by careful steps: smaller
 * ones, of messages that are all in hand, in which the culprits are isolated
 * (ingest/isolate) and become dead letters of that view.  They go on until there were none
 * for a while.  So nothing is paid for it as long as all messages can be taken.
 *
 * When to commit: a stream that was idle commits its first message at once.  While
 * messages keep coming, a batch is closed when the time since the last commit is a few
 * times what the last step took (so light streams are fresh and heavy ones efficient), at
 * the latest after millrace.commit_interval.  Where the broker is known to hold much more
 * than what was collected, freshness does not matter, and the batch grows up to
 * millrace.batch_messages or millrace.batch_memory.
 *
 * Memory: "life" of the process, "attempt", and "batch", which is reset after each step.
 */
#include "millrace.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "ingest/fault.h"
#include "ingest/gap.h"
#include "ingest/retention.h"
#include "ingest/step.h"
#include "ingest/worker.h"
#include "kafka/ask.h"
#include "kafka/assign.h"
#include "kafka/recall.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "shmem.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "wait_event.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#define POLL_CHUNK			10000	/* messages per call of the consumer */
#define PORTION_MESSAGES	50000	/* messages in hand at a time */
#define IDLE_WAIT_MS		1000	/* longest wait without a look around */
#define METADATA_INTERVAL_MS	5000	/* between looks for new partitions */
#define BROKER_TIMEOUT_MS	10000
#define FIRST_ANSWER_MS		2000	/* after which a silent broker is a
									 * trouble to show */
#define EXPIRY_INTERVAL_MS	1000	/* between looks for rows that are too old */
#define KEPT_BLOCK_MAX		(32 * 1024 * 1024)	/* as large as mallopt takes
												 * it */
#define FEWER_MS			10000	/* until it is believed that partitions
									 * are gone: brokers learn of new ones one
									 * after the other */
#define PACE				4	/* commit when waiting took this many steps */
#define BACKLOG_FACTOR		20	/* a backlog may stretch commit_interval that
								 * far */
#define FIRST_RETRY_MS		100
#define CAREFUL_STEPS		20	/* without a refused message, before steps are
								 * ordinary again */
#define ERRORS_MAX			3	/* of one view in a row that are no verdict by
								 * themselves */

typedef struct MrWorker
{
	MrWorkerSlot *slot;
	MemoryContext life;
	MemoryContext attempt;
	MemoryContext batch;
	MrIngest   *ingest;
	MrConsumer *consumer;
	MrMessage  *messages;		/* in attempt's context */
	int			nmessages;
	int			capacity;
	Size		memory;			/* held by messages, roughly */
	int64		taken;			/* messages of this step */
	TimestampTz last_commit;
	double		last_step_ms;
	TimestampTz metadata_at;	/* when partitions were looked for */
	TimestampTz courtesy_at;
	TimestampTz expiry_at;		/* when to look for rows that are too old */
	int			npartitions;
	bool		memory_kept;	/* a step was taken since memory was given
								 * back */
	TimestampTz fewer_since;	/* when there were fewer for the first time;
								 * 0: there are not */
	int			failures;		/* attempts since the last success */
	int			nviews;			/* of the feed */
	int			careful;		/* steps that are still to be careful */
	int			portion;		/* messages to have in hand at most */
	bool		internal_too;	/* careful about internal errors, too */
	Oid			blamed;			/* view whose errors have been counted, in a
								 * row */
	int			blamed_errors;
} MrWorker;

/* ---------- state that others see ---------- */

static void
set_state(MrWorker *worker, MrWorkerState state, const char *error)
{
	MrWorkerSlot *slot = worker->slot;
	bool		changed;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	changed = slot->state != state || (error && strcmp(slot->last_error, error) != 0);
	slot->state = state;
	if (error)
	{
		strlcpy(slot->last_error, error, MR_ERROR_LENGTH);
		slot->last_error_at = GetCurrentTimestamp();
	}
	LWLockRelease(mr_shared->lock);
	if (changed)
		ConditionVariableBroadcast(mr_shmem_progress(slot->stream));
}

static MrWorkerState
running_state(const MrWorker *worker)
{
	return worker->slot->catch_up ? MR_WORKER_CATCHING_UP : MR_WORKER_RUNNING;
}

static void
report_phase(const MrWorker *worker, const char *phase, BackendState state)
{
	char		activity[NAMEDATALEN * 2 + 64];

	snprintf(activity, sizeof(activity), "stream %s: %s",
			 worker->ingest ? worker->ingest->stream->name : "?", phase);
	pgstat_report_activity(state, activity);
}

/* ---------- process ---------- */

void
mr_worker_session_settings(void)
{
	static const char *const settings[][2] = {
		{"synchronous_commit", "off"},	/* the broker still has what a crash
										 * loses */
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"transaction_timeout", "0"},	/* from 17 on */
		{"restrict_nonsystem_relation_kind", ""},	/* from minor releases on */
		{"session_replication_role", "origin"},
		{"row_security", "on"},
		{"jit", "off"},			/* costs more per batch than it gains */
		{"max_parallel_workers_per_gather", "0"},
		{"client_min_messages", "error"},
		{"search_path", "pg_catalog, pg_temp"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);

	/* rows take one half of batch_memory, hashing and sorting a quarter each */
	SetConfigOption("work_mem", psprintf("%d", mr_batch_memory / 4), PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("hash_mem_multiplier", "1", PGC_SUSET, PGC_S_OVERRIDE);
}

static void
worker_exit(int code, Datum arg)
{
	MrWorkerSlot *slot = &mr_shared->workers[DatumGetInt32(arg)];
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	slot->pid = 0;
	slot->latch = NULL;
	slot->exit_code = code;
	slot->not_before = code == 0 ? now : TimestampTzPlusMilliseconds(now, 1000);
	slot->state = MR_WORKER_EXITED;
	LWLockRelease(mr_shared->lock);
	ConditionVariableBroadcast(&mr_shared->exits);
	ConditionVariableBroadcast(&mr_shared->progress[0]);
}

static void
attach(int index)
{
	MrWorkerSlot *slot = &mr_shared->workers[index];
	bool		blocked;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	slot->pid = MyProcPid;
	slot->latch = MyLatch;
	blocked = mr_shmem_is_blocked(slot->database);
	LWLockRelease(mr_shared->lock);
	before_shmem_exit(worker_exit, Int32GetDatum(index));
	if (blocked)
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(slot->database, InvalidOid, 0);
	mr_worker_session_settings();
}

/*
 * Batches ask for the same large blocks again and again, and a kernel that has to clear their
 * pages anew each time takes a tenth of the worker's time.  So the C library keeps what was
 * freed, up to a batch's worth, until the stream is idle.
 */
static void
keep_freed_memory(void)
{
#ifdef __GLIBC__
	(void) mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK_MAX);
	(void) mallopt(M_TRIM_THRESHOLD, Min(mr_batch_memory, INT_MAX / 1024) * 1024);
#endif
}

static void
give_memory_back(MrWorker *worker)
{
	if (!worker->memory_kept)
		return;
	worker->memory_kept = false;
#ifdef __GLIBC__
	(void) malloc_trim(0);
#endif
}

/* interrupts, reloads, changes of the catalog; never with a transaction open */
static void
serve_interrupts(MrWorker *worker)
{
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	AcceptInvalidationMessages();	/* DDL, while no transaction would hear of
									 * it */
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		mr_worker_session_settings();
	}
	if (!mr_enabled)
		proc_exit(0);
}

static bool
take_reload(MrWorker *worker)
{
	bool		result;

	LWLockAcquire(mr_shared->lock, LW_EXCLUSIVE);
	result = worker->slot->reload;
	worker->slot->reload = false;
	LWLockRelease(mr_shared->lock);
	return result;
}

/* wait without a consumer to poll */
static void
nap(MrWorker *worker, long ms)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);

	for (;;)
	{
		long		rest = (long) TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

		serve_interrupts(worker);
		if (rest <= 0 || take_reload(worker))
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, rest,
						 mr_wait_event(MR_WAIT_RETRY));
	}
}

/* ---------- opening ---------- */

static void
close_attempt(MrWorker *worker)
{
	mr_ingest_close();
	worker->ingest = NULL;
	worker->consumer = NULL;
	worker->messages = NULL;
	worker->nmessages = 0;
	worker->capacity = 0;
	worker->npartitions = 0;
	worker->fewer_since = 0;
	MemoryContextReset(worker->batch);
	MemoryContextReset(worker->attempt);
}

static void
open_consumer(MrWorker *worker)
{
	MrStream   *stream = worker->ingest->stream;
	List	   *props;
	MemoryContext old = CurrentMemoryContext;
	char	   *database;

	StartTransactionCommand();
	MemoryContextSwitchTo(worker->attempt);
	props = mr_server_properties(stream->serverid, stream->owner);
	database = get_database_name(MyDatabaseId);
	CommitTransactionCommand();
	MemoryContextSwitchTo(worker->attempt);
	worker->consumer = mr_consumer_create(props, stream->topic,
										  psprintf("millrace-%s-%s", database, stream->name));
	MemoryContextSwitchTo(old);
}

/* partitions [worker->npartitions, n) that are ours and have no offset: their beginning */
static void
resolve_new_partitions(MrWorker *worker, int n)
{
	MrOffsets  *offsets = worker->ingest->offsets;

	for (int32 p = 0; p < n; p++)
	{
		int64		low;
		int64		high;
		MemoryContext old;

		if (p % offsets->nshards != offsets->shard || mr_offsets_find(offsets, p))
			continue;
		(void) mr_consumer_watermarks(worker->consumer, &p, 1, &low, &high, BROKER_TIMEOUT_MS, false);
		old = MemoryContextSwitchTo(worker->ingest->context);
		mr_offsets_add(offsets, p, low);
		MemoryContextSwitchTo(old);
	}
}

/* start reading our partitions that are new among those that there are */
static void
assign(MrWorker *worker, int from, int to)
{
	MrOffsets  *offsets = worker->ingest->offsets;
	MrPartitionResume *parts = palloc(sizeof(MrPartitionResume) * (offsets->n + 1));
	int			n = 0;

	for (int i = 0; i < offsets->n; i++)
	{
		const MrPosition *position = &offsets->positions[i];

		if (position->partition < from || position->partition >= to)
			continue;
		parts[n].partition = position->partition;
		parts[n].offset = position->next_offset;
		parts[n++].last = position->last;
	}
	if (n > 0)
		mr_consumer_resume(worker->consumer, parts, n);
	pfree(parts);
}

/* what a look for partitions found */
typedef enum Found
{
	FOUND_ALL,
	FOUND_NO_ANSWER,
	FOUND_TOO_FEW,				/* no such topic, or without partitions that
								 * were read */
	FOUND_ANOTHER				/* the topic is another one: open anew */
} Found;

/*
 * Kafka never takes partitions away, so if some are missing for a while the topic is another
 * one.
 */
static Found
note_missing_partitions(MrWorker *worker, int n)
{
	set_state(worker, MR_WORKER_RETRYING,
			  psprintf("topic \"%s\" has only %d partitions, fewer than were read",
					   worker->ingest->stream->topic, n));
	if (worker->fewer_since == 0)
		worker->fewer_since = worker->metadata_at;
	if (!TimestampDifferenceExceeds(worker->fewer_since, worker->metadata_at, FEWER_MS))
		return FOUND_TOO_FEW;
	if (mr_gap_check_cluster(worker->ingest, worker->consumer, n))
		mr_gap_fewer_partitions(worker->ingest, worker->consumer, n);
	return FOUND_ANOTHER;
}

/* look for partitions, and read those that are new */
static Found
find_partitions(MrWorker *worker)
{
	const char *error;
	int			n = mr_consumer_partitions(worker->consumer,
										   worker->slot->state == MR_WORKER_RETRYING
										   ? BROKER_TIMEOUT_MS : FIRST_ANSWER_MS, true);

	worker->metadata_at = GetCurrentTimestamp();
	if (n <= 0)
	{
		if (n == 0)
			error = psprintf("topic \"%s\" does not exist", worker->ingest->stream->topic);
		else
			(void) mr_consumer_error(worker->consumer, &error);
		set_state(worker, MR_WORKER_RETRYING, error ? error : "the broker does not answer");
		return n == 0 ? FOUND_TOO_FEW : FOUND_NO_ANSWER;
	}
	if (mr_gap_misses_partitions(worker->ingest, n))
		return note_missing_partitions(worker, n);
	worker->fewer_since = 0;
	if (n > worker->npartitions)
	{
		resolve_new_partitions(worker, n);
		assign(worker, worker->npartitions, n);
		worker->npartitions = n;
	}
	return FOUND_ALL;
}

/* false: there is nothing to do for this process any more */
static bool
open_attempt(MrWorker *worker)
{
	MrWorkerSlot *slot = worker->slot;

	MemoryContextSwitchTo(worker->attempt);
	worker->ingest = mr_ingest_open(slot->feed, slot->shard, slot->nshards);
	if (worker->ingest == NULL)
		return false;
	worker->nviews = list_length(worker->ingest->views);
	if (worker->ingest->feed->live == slot->catch_up ||
		(worker->ingest->feed->live && worker->ingest->stream->workers != slot->nshards))
		return false;
	pgstat_report_appname(worker->ingest->stream->name);
	report_phase(worker, "connecting", STATE_RUNNING);
	open_consumer(worker);
	return true;
}

/* ---------- collecting ---------- */

static void
make_room(MrWorker *worker, int n)
{
	if (worker->nmessages + n <= worker->capacity)
		return;
	worker->capacity = Max(worker->capacity * 2, worker->nmessages + n);
	worker->messages = worker->messages == NULL
		? MemoryContextAllocHuge(worker->attempt, sizeof(MrMessage) * worker->capacity)
		: repalloc_huge(worker->messages, sizeof(MrMessage) * worker->capacity);
}

/* does the broker hold much more than what was collected? */
static bool
has_backlog(MrWorker *worker)
{
	int			n;
	const MrPartitionStatus *status = mr_consumer_status(worker->consumer, &n);
	int64		behind = 0;

	for (int i = 0; i < n; i++)
	{
		int64		low;
		int64		high;

		mr_consumer_cached_watermarks(worker->consumer, status[i].partition, &low, &high);
		if (high > status[i].position)
			behind += high - status[i].position;
	}
	return behind > worker->nmessages;
}

/* enough messages in hand to begin a step; it takes more if there are more */
static bool
portion_full(const MrWorker *worker)
{
	return worker->nmessages >= Min(mr_batch_messages, worker->portion) ||
		worker->memory >= (Size) mr_batch_memory * 1024 / 4;
}

/* ms until the batch should be closed; 0: now */
static long
time_left(MrWorker *worker, bool queue_empty)
{
	double		pace = Min((double) mr_commit_interval, PACE * worker->last_step_ms);
	long		elapsed = (long) TimestampDifferenceMilliseconds(worker->last_commit, GetCurrentTimestamp());
	long		left = (long) pace - elapsed;

	if (portion_full(worker))
		return 0;
	if (left <= 0 && !queue_empty && elapsed < (long) mr_commit_interval * BACKLOG_FACTOR && has_backlog(worker))
		return 1;
	return Max(left, 0);
}

static int
poll_once(MrWorker *worker, long timeout)
{
	int			room = Min(POLL_CHUNK, Min(mr_batch_messages, worker->portion) - worker->nmessages);
	int			n;

	make_room(worker, room);
	n = mr_consumer_poll(worker->consumer, worker->messages + worker->nmessages, room, (int) timeout);
	for (int i = 0; i < n; i++)
		worker->memory += mr_message_memory(&worker->messages[worker->nmessages + i]);
	worker->nmessages += n;
	return n;
}

/* fill the batch; returns with none when there was none for a while or the latch was set */
static void
collect(MrWorker *worker)
{
	long		timeout = IDLE_WAIT_MS;

	report_phase(worker, "waiting for messages", STATE_IDLE);
	for (;;)
	{
		int			n = poll_once(worker, timeout);

		serve_interrupts(worker);
		if (worker->nmessages == 0)
			return;
		timeout = time_left(worker, n == 0);
		if (timeout == 0)
		{
			/* what has come meanwhile is free */
			while (!portion_full(worker) && n > 0 && !has_backlog(worker))
				n = poll_once(worker, 0);
			return;
		}
	}
}

static void
release(MrWorker *worker)
{
	mr_consumer_release(worker->consumer, worker->messages, worker->nmessages);
	worker->nmessages = 0;
	worker->memory = 0;
}

/* where the consumer stands, control records and aborted messages passed included */
static const MrPartitionOffset *
reader_positions(void *arg, int *n)
{
	MrWorker   *worker = arg;
	int			nstatus;
	const MrPartitionStatus *status = mr_consumer_status(worker->consumer, &nstatus);
	MrPartitionOffset *ends = palloc(sizeof(MrPartitionOffset) * (nstatus + 1));

	*n = nstatus;
	for (int i = 0; i < nstatus; i++)
	{
		ends[i].partition = status[i].partition;
		ends[i].offset = Max(status[i].position, status[i].eof);
	}
	return ends;
}

static bool
reader_at_end(void *arg)
{
	MrWorker   *worker = arg;
	int			n;
	const MrPartitionStatus *status = mr_consumer_status(worker->consumer, &n);

	for (int i = 0; i < n; i++)
		if (status[i].eof < status[i].position)
			return false;
	return n > 0;
}

/* during a step: the next portion of a backlog, instead of the one in hand */
static int
next_portion(void *arg, MrMessage **messages)
{
	MrWorker   *worker = arg;

	CHECK_FOR_INTERRUPTS();
	if (worker->taken >= mr_batch_messages || !has_backlog(worker))
		return 0;
	release(worker);
	while (!portion_full(worker) && poll_once(worker, 0) > 0)
		;
	*messages = worker->messages;
	worker->taken += worker->nmessages;
	return worker->nmessages;
}

/* ---------- a step and what follows it ---------- */

static void
count_step(MrWorker *worker, int64 nmessages, TimestampTz began)
{
	MrWorkerSlot *slot = worker->slot;
	MrIngest   *ingest = worker->ingest;

	worker->last_commit = GetCurrentTimestamp();
	worker->last_step_ms = TimestampDifferenceMilliseconds(began, worker->last_commit);
	worker->failures = 0;
	worker->blamed = InvalidOid;
	slot->batches++;
	slot->messages += nmessages;
	slot->decode_ms += ingest->decode_ms;
	slot->aggregate_ms += ingest->aggregate_ms;
	slot->merge_ms += ingest->merge_ms;
	slot->commit_ms += ingest->commit_ms;
	set_state(worker, running_state(worker), NULL);
	ConditionVariableBroadcast(mr_shmem_progress(slot->stream));
	pgstat_report_stat(false);
}

/* messages that were cut off at the live position have to be fetched again */
static bool
seek_back(MrWorker *worker)
{
	MrOffsets  *offsets = worker->ingest->offsets;
	MrPartitionOffset *back = palloc(sizeof(MrPartitionOffset) * (offsets->n + 1));
	int			nback = 0;

	for (int i = 0; i < worker->nmessages; i++)
	{
		const MrMessage *message = &worker->messages[i];
		MrPosition *position = mr_offsets_find(offsets, message->partition);
		bool		known = false;

		if (message->offset < position->next_offset)
			continue;
		for (int j = 0; j < nback; j++)
			known = known || back[j].partition == message->partition;
		if (known)
			continue;
		back[nback].partition = message->partition;
		back[nback++].offset = position->next_offset;
	}
	for (int j = 0; j < nback; j++)
		mr_consumer_seek(worker->consumer, back[j].partition, back[j].offset);
	pfree(back);
	return nback > 0;
}

/* what the live worker does decides when it makes sense to go on */
static void
wait_for_live(MrWorker *worker)
{
	ConditionVariablePrepareToSleep(mr_shmem_progress(worker->slot->stream));
	(void) ConditionVariableTimedSleep(mr_shmem_progress(worker->slot->stream), IDLE_WAIT_MS,
									   mr_wait_event(MR_WAIT_LIVE));
	ConditionVariableCancelSleep();
}

static void
courtesy(MrWorker *worker)
{
	MrOffsets  *offsets = worker->ingest->offsets;
	MrPartitionOffset *parts;
	TimestampTz now = GetCurrentTimestamp();

	if (worker->slot->catch_up || now - worker->courtesy_at < 5 * USECS_PER_SEC)
		return;
	worker->courtesy_at = now;
	parts = palloc(sizeof(MrPartitionOffset) * (offsets->n + 1));
	for (int i = 0; i < offsets->n; i++)
	{
		parts[i].partition = offsets->positions[i].partition;
		parts[i].offset = offsets->positions[i].next_offset;
	}
	mr_consumer_commit_courtesy(worker->consumer, parts, offsets->n);
	pfree(parts);
}

/* rows that leave views by age */
static void
expire(MrWorker *worker)
{
	TimestampTz now = GetCurrentTimestamp();

	if (now < worker->expiry_at || worker->slot->shard != 0)
		return;
	worker->expiry_at = mr_retention_remove(worker->ingest) ? now :
		TimestampTzPlusMilliseconds(now, EXPIRY_INTERVAL_MS);
}

/* is there anything that a step would write? */
static bool
step_needed(MrWorker *worker)
{
	int			nends;
	const MrPartitionOffset *ends = reader_positions(worker, &nends);

	if (worker->nmessages > 0 || worker->slot->catch_up)
		return true;
	for (int i = 0; i < nends; i++)
	{
		MrPosition *position = mr_offsets_find(worker->ingest->offsets, ends[i].partition);

		if (position && ends[i].offset > position->next_offset)
			return true;
	}
	mr_offsets_reset(worker->ingest->offsets);
	return mr_offsets_dirty(worker->ingest->offsets);
}

/* careful steps end when they have found nothing for a while, and grow meanwhile */
static void
count_careful_step(MrWorker *worker)
{
	if (worker->careful == 0)
		return;
	if (worker->ingest->nmessages < worker->nmessages)
		worker->portion = worker->ingest->nmessages;
	else
		worker->portion = Min(worker->portion * 2, PORTION_MESSAGES);
	if (worker->ingest->nrefused > 0)
		worker->careful = CAREFUL_STEPS;
	else
		worker->careful--;
	if (worker->careful > 0)
		return;
	worker->internal_too = false;
	worker->portion = PORTION_MESSAGES;
}

/* by which the consumer recognizes the log */
static void
tell_last_messages(MrWorker *worker)
{
	MrOffsets  *offsets = worker->ingest->offsets;

	for (int i = 0; i < offsets->n; i++)
		mr_consumer_took(worker->consumer, offsets->positions[i].partition,
						 offsets->positions[i].next_offset, &offsets->positions[i].last);
}

/* false: open anew */
static bool
take_step(MrWorker *worker)
{
	const MrStepSource source = {next_portion, reader_positions, reader_at_end, worker};
	TimestampTz began = GetCurrentTimestamp();
	MrStepResult result;
	bool		cut;
	bool		shortened;

	if (!step_needed(worker))
	{
		pgstat_report_stat(true);
		return true;
	}
	report_phase(worker, "ingesting", STATE_RUNNING);
	worker->memory_kept = true;
	worker->taken = worker->nmessages;
	worker->ingest->careful = worker->careful > 0;
	worker->ingest->internal_too = worker->internal_too;
	result = mr_ingest_step(worker->ingest, worker->messages, worker->nmessages, &source,
							worker->slot->catch_up);
	if (result == MR_STEP_STALE)
		return false;
	count_step(worker, worker->ingest->careful ? worker->ingest->nmessages : worker->taken, began);
	if (result != MR_STEP_COMMITTED)
		proc_exit(0);
	tell_last_messages(worker);
	shortened = worker->ingest->nmessages < worker->nmessages;
	cut = (worker->slot->catch_up || shortened) && seek_back(worker);
	count_careful_step(worker);
	release(worker);
	if (cut && !shortened)
		wait_for_live(worker);
	courtesy(worker);
	return true;
}

/* ---------- an attempt ---------- */

static void
check_broker(MrWorker *worker)
{
	const char *error = NULL;
	MrErrorKind kind = mr_consumer_error(worker->consumer, &error);

	if (kind == MR_KAFKA_OK)
	{
		if (worker->slot->state != running_state(worker))
		{
			set_state(worker, running_state(worker), NULL);
			mr_consumer_doubt(worker->consumer);
		}
		return;
	}
	set_state(worker, MR_WORKER_RETRYING, error);
	if (kind == MR_KAFKA_FATAL || kind == MR_KAFKA_AUTH)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
				 errmsg("%s", error)));
}

/* wait until the topic is there; false when the feed should be opened anew */
static bool
await_topic(MrWorker *worker)
{
	Found		found;

	while ((found = find_partitions(worker)) != FOUND_ALL)
	{
		if (found == FOUND_ANOTHER)
			return false;
		nap(worker, IDLE_WAIT_MS);
		MemoryContextReset(worker->batch);
		if (!mr_ingest_is_current(worker->ingest))
			return false;
	}
	return true;
}

/* now and then: new partitions, or no more topic; false when the feed should be opened anew */
static bool
look_around(MrWorker *worker)
{
	Found		found;

	if (!TimestampDifferenceExceeds(worker->metadata_at, GetCurrentTimestamp(), METADATA_INTERVAL_MS))
		return true;
	found = find_partitions(worker);
	return found == FOUND_ALL || found == FOUND_NO_ANSWER;
}

/* returns when the feed should be opened anew */
static void
ingest_until_stale(MrWorker *worker)
{
	if (!open_attempt(worker))
		proc_exit(0);
	MemoryContextSwitchTo(worker->batch);
	if (!await_topic(worker))
		return;
	set_state(worker, running_state(worker), NULL);
	for (;;)
	{
		MemoryContextReset(worker->batch);
		if (mr_ingest_is_stale(worker->ingest) ||
			(take_reload(worker) && !mr_ingest_is_current(worker->ingest)))
			return;
		if (!look_around(worker))
			return;
		collect(worker);
		if (worker->nmessages == 0)
			give_memory_back(worker);
		check_broker(worker);
		if (!mr_gap_check_cluster(worker->ingest, worker->consumer, worker->npartitions) ||
			!take_step(worker))
			return;
		expire(worker);
		if (!mr_gap_check(worker->ingest, worker->consumer))
		{
			nap(worker, FIRST_RETRY_MS);
			return;
		}
	}
}

/* ---------- errors ---------- */

/* in a transaction of its own: the view has failed, or only leaves the others in peace */
static void
part_with_view(MrWorker *worker, Oid view, const char *error, bool failed)
{
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (failed)
		mr_ingest_fail_view(view, error);
	else
		mr_ingest_leave_view(view);
	PopActiveSnapshot();
	CommitTransactionCommand();
	ConditionVariableBroadcast(mr_shmem_progress(worker->slot->stream));
}

/* errors of this view in a row, this one included */
static int
count_blame(MrWorker *worker, Oid view)
{
	if (worker->blamed != view)
		worker->blamed_errors = 0;
	worker->blamed = view;
	return ++worker->blamed_errors;
}

static void
wait_and_retry(MrWorker *worker, const char *error)
{
	long		wait = FIRST_RETRY_MS << Min(worker->failures++, 16);

	set_state(worker, MR_WORKER_RETRYING, error);
	nap(worker, Min(wait, mr_retry_max_interval));
}

/* what an owner reads in millrace.views */
static char *
error_text(const ErrorData *error)
{
	if (error->hint == NULL)
		return pstrdup(error->message);
	return psprintf("%s\nHINT:  %s", error->message, error->hint);
}

/*
 * After an error that came from running rows or merging: shall the messages that caused it be
 * looked for?  Not when that has just been tried.  An internal error has to come again and
 * again first.
 */
static bool
be_careful(MrWorker *worker, MrFault fault, bool again)
{
	bool		internal = fault == MR_FAULT_INTERNAL && again && !worker->internal_too;

	if (!internal && (fault != MR_FAULT_MESSAGE || worker->careful == CAREFUL_STEPS))
		return false;
	worker->careful = CAREFUL_STEPS;
	worker->internal_too = worker->internal_too || internal;
	return true;
}

/*
 * After an error that happened in a view's plan or merge.  One that a message may have caused
 * is followed by careful steps.  An error of the view's own is a verdict at once.  An
 * internal error is one when it comes again and again.  One that may pass (a joined foreign
 * server is down) never is, but the other views need not wait for it: the view gets a feed of
 * its own, and a worker that goes on trying.
 */
static void
judge_view(MrWorker *worker, Oid view, const ErrorData *error, bool rows)
{
	MrFault		fault = mr_fault(error->sqlerrcode);
	bool		again = count_blame(worker, view) >= ERRORS_MAX;
	char	   *text = error_text(error);

	if (rows && be_careful(worker, fault, again))
		return;
	if (fault != MR_FAULT_PASSING && (again || fault != MR_FAULT_INTERNAL))
		part_with_view(worker, view, text, true);
	else if (fault == MR_FAULT_PASSING && again && worker->nviews > 1)
		part_with_view(worker, view, text, false);
	else
		wait_and_retry(worker, text);
}

/* after an error: report it, clean up, blame a view or wait for better times */
static void
recover(MrWorker *worker)
{
	ErrorData  *error;
	Oid			view;
	bool		rows;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(worker->life);
	error = CopyErrorData();
	EmitErrorReport();
	AbortCurrentTransaction();
	FlushErrorState();
	view = mr_ingest_after_error(&rows);
	MemoryContextSwitchTo(worker->life);
	close_attempt(worker);
	RESUME_INTERRUPTS();

	if (OidIsValid(view))
		judge_view(worker, view, error, rows);
	else
		wait_and_retry(worker, error->message);
	FreeErrorData(error);
}

void
mr_worker_main(Datum arg)
{
	MrWorker   *worker;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	attach(DatumGetInt32(arg));
	keep_freed_memory();

	worker = MemoryContextAllocZero(TopMemoryContext, sizeof(MrWorker));
	worker->slot = &mr_shared->workers[DatumGetInt32(arg)];
	worker->life = AllocSetContextCreate(TopMemoryContext, "millrace worker", ALLOCSET_DEFAULT_SIZES);
	worker->attempt = AllocSetContextCreate(worker->life, "millrace attempt", ALLOCSET_DEFAULT_SIZES);
	worker->portion = PORTION_MESSAGES;
	worker->batch = AllocSetContextCreate(worker->life, "millrace batch", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		PG_TRY();
		{
			ingest_until_stale(worker);
			MemoryContextSwitchTo(worker->life);
			close_attempt(worker);
		}
		PG_CATCH();
		{
			recover(worker);
		}
		PG_END_TRY();
		if (mr_consumer_any_stuck())
			proc_exit(0);		/* and be started again */
	}
}
