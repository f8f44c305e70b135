/*
 * worker.c
 *		The ingest process: one feed of one stream, or one shard of it.
 *
 * An attempt opens the feed and a consumer and then repeats: collect messages, take one
 * step, release them.  No transaction is open while it waits for the broker.  An attempt
 * ends when the catalog has changed (begin another one at once), or with an error: the
 * transaction is aborted, and what happens then is recover.c's affair.  Which messages are
 * in hand, and when a step is due, is collect.c's.
 *
 * Memory: "life" of the process, "attempt", and "batch", which is reset after each step.
 */
#include "millrace.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "elapsed.h"
#include "failpoint.h"
#include "ingest/collect.h"
#include "ingest/gap.h"
#include "ingest/open.h"
#include "ingest/partitions.h"
#include "ingest/recover.h"
#include "ingest/retention.h"
#include "ingest/session.h"
#include "ingest/slot.h"
#include "ingest/step.h"
#include "ingest/step_over.h"
#include "ingest/view_limit.h"
#include "ingest/worker.h"
#include "kafka/ask.h"
#include "kafka/assign.h"
#include "kafka/recall.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "shmem.h"
#include "sink/stream_sink.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "transaction.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "wait_event.h"

#define PORTION_MESSAGES	50000	/* messages in hand at a time */
#define ALONE_MESSAGES		1000	/* the same, where each is produced by
									 * itself */
#define ALONE_STEPS			3	/* careful steps then, without a refused
								 * message */
#define IDLE_WAIT_MS		1000	/* longest wait without a look around */
#define METADATA_INTERVAL_MS	5000	/* between looks for new partitions */
#define EXPIRY_INTERVAL_MS	1000	/* between looks for rows that are too old */
#define JOIN_MS				1000	/* a step that holds up the live feed
									 * should not take longer */
#define PLACE_MS			5000	/* waiting for the live feed, where others
									 * wait for the worker's place */
#define REST_MS				10000	/* so long they have it, at least */
#define SLOW_PORTIONS		8	/* so much smaller, but not smaller than this,
								 * after a step that took too long */
#define SMALL_PORTION		100
#define LONG_DELIVERY_MS	1000	/* after an error of a step that produces
									 * and took so long, fewer messages may do */

typedef struct MrWorker
{
	MrWorkerSlot *slot;
	MemoryContext life;
	MemoryContext attempt;
	MemoryContext batch;
	MrIngest   *ingest;
	MrConsumer *consumer;
	MrCollector collector;
	TimestampTz courtesy_at;
	TimestampTz expiry_at;		/* when to look for rows that are too old */
	MrPartitions partitions;
	bool		memory_kept;	/* a step was taken since memory was given
								 * back */
	int			portion;		/* messages to have in hand at most */
	bool		untried;		/* the views have not taken any messages in
								 * time yet */
	bool		slow;			/* nor since they have left others for that */
	bool		aloof;			/* they were too slow to join the live feed */
	bool		hurry;			/* it may be joined at once, if there are no
								 * messages */
	bool		rested;			/* from the trouble that the feed came from */
	bool		in_step;
	instr_time	step_since;
	bool		waits;			/* there is nothing to take before the live
								 * feed is somewhere else */
	instr_time	waits_since;
	MrRecovery	recovery;
} MrWorker;

static void
report_phase(const MrWorker *worker, const char *phase, BackendState state)
{
	char		activity[NAMEDATALEN * 4 + 64]; /* names with quotes doubled */

	snprintf(activity, sizeof(activity), "stream %s: %s",
			 worker->ingest ? worker->ingest->stream->name : "?", phase);
	pgstat_report_activity(state, activity);
}

static void
give_memory_back(MrWorker *worker)
{
	if (!worker->memory_kept)
		return;
	worker->memory_kept = false;
	mr_session_give_memory_back();
}

/* ---------- opening ---------- */

static void
close_attempt(MrWorker *worker)
{
	mr_ingest_close();
	worker->ingest = NULL;
	worker->consumer = NULL;
	mr_collect_close(&worker->collector);
	worker->partitions.n = 0;
	worker->partitions.fewer_since = 0;
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

	mr_start_transaction();
	MemoryContextSwitchTo(worker->attempt);
	props = mr_server_properties(stream->serverid, stream->owner);
	database = get_database_name(MyDatabaseId);
	CommitTransactionCommand();
	MemoryContextSwitchTo(worker->attempt);
	worker->consumer = mr_consumer_create(props, stream->topic,
										  psprintf("millrace-%s-%s", database, stream->name));
	mr_collect_open(&worker->collector, worker->consumer, worker->attempt);
	MemoryContextSwitchTo(old);
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
	if ((worker->ingest->feed->live || worker->ingest->feed->apart) == slot->catch_up ||
		(worker->ingest->feed->live && worker->ingest->stream->workers != slot->nshards))
		return false;
	pgstat_report_appname(worker->ingest->stream->name);
	report_phase(worker, "connecting", STATE_RUNNING);
	open_consumer(worker);
	MR_FAILPOINT("open-connected");
	mr_step_over_recover(worker->ingest);
	return true;
}

/* ---------- a step and what follows it ---------- */

static void
count_step(MrWorker *worker)
{
	MrWorkerSlot *slot = worker->slot;
	MrIngest   *ingest = worker->ingest;
	int64		nmessages = ingest->ntaken;

	mr_collect_committed(&worker->collector, nmessages, mr_ms_since(worker->step_since));
	/* one without messages tells nothing of the views */
	if (nmessages > 0)
		mr_recover_success(&worker->recovery);
	slot->batches++;
	slot->messages += nmessages;
	slot->decode_ms += ingest->decode_ms;
	slot->aggregate_ms += ingest->aggregate_ms;
	slot->merge_ms += ingest->merge_ms;
	slot->commit_ms += ingest->commit_ms;
	mr_slot_set_state(worker->slot, mr_slot_running_state(worker->slot), NULL);
	if (ingest->moved)
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

	for (int i = 0; i < worker->collector.nmessages; i++)
	{
		const MrMessage *message = &worker->collector.messages[i];
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
	TimestampTz now = mr_steady_time();

	if (worker->slot->catch_up || worker->ingest->sink != NULL || now - worker->courtesy_at < 5 * USECS_PER_SEC)
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
	TimestampTz now = mr_steady_time();

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
	const MrPartitionOffset *ends = mr_collect_ends(&worker->collector, &nends);

	if (worker->collector.nmessages > 0 || worker->slot->catch_up)
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

/* messages to have in hand at most */
static int
largest_portion(void)
{
	return mr_stream_sink_knows() ? ALONE_MESSAGES : PORTION_MESSAGES;
}

/*
 * Careful steps end when they have found nothing for a while, and grow meanwhile.  False: open
 * anew, the sink is to become an ordinary one.
 */
static bool
count_careful_step(MrWorker *worker)
{
	bool		alone = mr_stream_sink_knows();

	if (worker->recovery.careful == 0 || worker->ingest->ntaken == 0)
		return true;
	if (worker->ingest->nmessages < worker->collector.nmessages)
		worker->portion = worker->ingest->nmessages;
	else
		worker->portion = Min(worker->portion * 2, largest_portion());
	if (worker->ingest->nrefused > 0)
		worker->recovery.careful = CAREFUL_STEPS;
	else
		worker->recovery.careful = Min(worker->recovery.careful, alone ? ALONE_STEPS : CAREFUL_STEPS) - 1;
	if (worker->recovery.careful > 0)
		return true;
	worker->recovery.internal_too = false;
	worker->portion = PORTION_MESSAGES;
	mr_stream_sink_forget();
	return !alone;
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

/* may the live feed be in hand from now on while the views take messages? */
static void
count_trial(MrWorker *worker)
{
	const MrIngest *ingest = worker->ingest;
	double		ms = ingest->decode_ms + ingest->aggregate_ms + ingest->merge_ms;
	bool		kept_away = worker->aloof || worker->untried;

	if (ingest->ntaken == 0)
		return;
	worker->aloof = worker->aloof && ms > JOIN_MS;
	worker->untried = worker->untried && mr_view_timeout > 0 && ms > mr_view_timeout;
	worker->slow = worker->slow && worker->untried;
	worker->hurry = kept_away && !worker->aloof && !worker->untried;
}

/*
 * Who catches up and waits for the live feed does not keep others from work for long.  One that is shy
 * would not be, when it came back.
 */
static void
count_wait(MrWorker *worker, const MrStepSource *source, bool cut)
{
	bool		waits = worker->slot->catch_up && worker->ingest->live != NULL && worker->ingest->ntaken == 0 &&
	(cut || source->at_end(source->arg));

	if (waits && !worker->waits)
		INSTR_TIME_SET_CURRENT(worker->waits_since);
	worker->waits = waits;
	if (waits && !worker->slot->shy && mr_shmem_is_crowded() && mr_ms_since(worker->waits_since) > PLACE_MS)
		mr_slot_give_place(REST_MS);
}

/* false: open anew */
static bool
take_step(MrWorker *worker)
{
	MrStepSource source;
	MrStepResult result;
	bool		cut;
	bool		shortened;
	bool		current;

	if (!step_needed(worker))
	{
		pgstat_report_stat(true);
		return true;
	}
	report_phase(worker, "ingesting", STATE_RUNNING);
	worker->memory_kept = true;
	source = mr_collect_source(&worker->collector);
	worker->ingest->aloof = (worker->aloof || worker->untried) && worker->collector.nmessages > 0;
	worker->slot->shy = worker->aloof || worker->slow;
	worker->ingest->careful = worker->recovery.careful > 0;
	worker->ingest->internal_too = worker->recovery.internal_too;
	INSTR_TIME_SET_CURRENT(worker->step_since);
	worker->in_step = true;
	result = mr_ingest_step(worker->ingest, worker->collector.messages, worker->collector.nmessages, &source,
							worker->slot->catch_up);
	worker->in_step = false;
	if (result == MR_STEP_STALE)
		return false;
	count_step(worker);
	if (result != MR_STEP_COMMITTED)
		proc_exit(0);
	count_trial(worker);
	tell_last_messages(worker);
	shortened = worker->ingest->nmessages < worker->collector.nmessages;
	cut = (worker->slot->catch_up || worker->ingest->stepping_over || shortened) && seek_back(worker);
	current = count_careful_step(worker);
	mr_collect_release(&worker->collector);
	count_wait(worker, &source, cut);
	if (cut && !shortened && worker->slot->catch_up)
		wait_for_live(worker);
	else if (cut && worker->ingest->ntaken == 0)
		mr_slot_nap(worker->slot, FIRST_RETRY_MS);	/* other partitions first */
	courtesy(worker);
	return current;
}

/* ---------- an attempt ---------- */

static void
check_broker(MrWorker *worker)
{
	const char *error = NULL;
	MrErrorKind kind = mr_consumer_error(worker->consumer, &error);

	if (kind == MR_KAFKA_OK)
	{
		if (worker->slot->state != mr_slot_running_state(worker->slot))
		{
			mr_slot_set_state(worker->slot, mr_slot_running_state(worker->slot), NULL);
			mr_consumer_doubt(worker->consumer);
		}
		return;
	}
	mr_slot_set_state(worker->slot, MR_WORKER_RETRYING, error);
	if (kind == MR_KAFKA_FATAL || kind == MR_KAFKA_AUTH)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
				 errmsg("%s", error)));
}

/* false: only another handle helps */
static bool
is_reading(MrWorker *worker)
{
	if (!mr_consumer_is_lost(worker->consumer))
		return true;
	ereport(worker->slot->state == MR_WORKER_RETRYING ? DEBUG1 : LOG,
			(errmsg("connecting anew to read topic \"%s\"", worker->ingest->stream->topic)));
	return false;
}

static MrPartitionsFound
find_partitions(MrWorker *worker)
{
	return mr_partitions_find(&worker->partitions, worker->slot, worker->ingest, worker->consumer);
}

/* wait until the topic is there; false when the feed should be opened anew */
static bool
await_topic(MrWorker *worker)
{
	MrPartitionsFound found;

	while ((found = find_partitions(worker)) != MR_FOUND_ALL)
	{
		if (found == MR_FOUND_ANOTHER || (found == MR_FOUND_NO_ANSWER && !is_reading(worker)))
			return false;
		mr_slot_nap(worker->slot, IDLE_WAIT_MS);
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
	MrPartitionsFound found;

	if (!TimestampDifferenceExceeds(worker->partitions.looked_at, mr_steady_time(), METADATA_INTERVAL_MS))
		return true;
	found = find_partitions(worker);
	return found == MR_FOUND_ALL || found == MR_FOUND_NO_ANSWER;
}

/* returns when the feed should be opened anew */
static void
ingest_until_stale(MrWorker *worker)
{
	if (!worker->rested)
		worker->slow = mr_recover_rest(worker->slot);
	worker->rested = true;
	if (!open_attempt(worker))
		proc_exit(0);
	MemoryContextSwitchTo(worker->batch);
	if (!await_topic(worker))
		return;
	mr_slot_set_state(worker->slot, mr_slot_running_state(worker->slot), NULL);
	for (;;)
	{
		MemoryContextReset(worker->batch);
		if (mr_ingest_is_stale(worker->ingest) ||
			(mr_slot_take_reload(worker->slot) && !mr_ingest_is_current(worker->ingest)))
			return;
		if (!look_around(worker))
			return;
		report_phase(worker, "waiting for messages", STATE_IDLE);
		mr_collect(&worker->collector, worker->portion, worker->hurry ? 0 : IDLE_WAIT_MS);
		worker->hurry = false;
		if (worker->collector.nmessages == 0)
			give_memory_back(worker);
		check_broker(worker);
		if (!is_reading(worker))
			return;
		if (!mr_gap_check_cluster(worker->ingest, worker->consumer, worker->partitions.n) ||
			!take_step(worker))
			return;
		expire(worker);
		if (!mr_gap_check(worker->ingest, worker->consumer))
		{
			mr_slot_nap(worker->slot, FIRST_RETRY_MS);
			return;
		}
	}
}

/* ---------- errors ---------- */

/* after an error: report it, clean up, blame a view or wait for better times */
static void
recover(MrWorker *worker)
{
	ErrorData  *error;
	Oid			view;
	MrTakePhase phase;
	MrOverdue	overdue;
	bool		slow;
	bool		fenced = false;
	bool		long_delivery = false;

	HOLD_INTERRUPTS();
	overdue = mr_view_limit_exceeded();
	slow = overdue != MR_OVERDUE_NOT;
	MemoryContextSwitchTo(worker->life);
	error = mr_view_limit_report(overdue);
	AbortCurrentTransaction();
	FlushErrorState();
	view = mr_ingest_after_error(&phase);
	if (worker->ingest != NULL)
	{
		worker->aloof = worker->aloof || (slow && worker->ingest->holds_live);
		fenced = mr_step_over_is_fenced(worker->ingest);
		long_delivery = worker->in_step && worker->ingest->sink != NULL &&
			mr_ms_since(worker->step_since) > LONG_DELIVERY_MS;
	}
	worker->in_step = false;
	MemoryContextSwitchTo(worker->life);
	close_attempt(worker);
	RESUME_INTERRUPTS();

	if (fenced)
		mr_recover_from_rival(&worker->recovery, worker->slot, error);
	else
		mr_recover(&worker->recovery, worker->slot, mr_ingest_nviews(), view, error, phase, overdue);
	worker->portion = Min(worker->portion, largest_portion());
	if (slow && worker->recovery.careful > 0)
		worker->portion = Max(worker->portion / SLOW_PORTIONS, SMALL_PORTION);
	if (long_delivery)
	{
		/* the broker may have ended a transaction that took too long */
		worker->portion = Max(worker->portion / SLOW_PORTIONS, 1);
		worker->recovery.careful = CAREFUL_STEPS;
	}
	FreeErrorData(error);
}

void
mr_worker_main(Datum arg)
{
	MrWorker   *worker;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	mr_slot_attach(DatumGetInt32(arg));
	mr_session_keep_memory();

	worker = MemoryContextAllocZero(TopMemoryContext, sizeof(MrWorker));
	worker->slot = &mr_shared->workers[DatumGetInt32(arg)];
	worker->life = AllocSetContextCreate(TopMemoryContext, "millrace worker", ALLOCSET_DEFAULT_SIZES);
	worker->attempt = AllocSetContextCreate(worker->life, "millrace attempt", ALLOCSET_DEFAULT_SIZES);
	worker->portion = PORTION_MESSAGES;

	/*
	 * who joins has the live feed in hand while its views take the last
	 * messages
	 */
	worker->untried = worker->slot->catch_up;
	mr_view_limit_watch(worker->slot, (const MrIngest *const volatile *) &worker->ingest);
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
