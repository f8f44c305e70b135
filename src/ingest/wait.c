/*
 * wait.c
 *		wait_for_latest and wait_for_offset.
 *
 * Workers broadcast a condition variable after each commit and each change of state; a
 * waiter then looks at the offsets in the catalog with the latest snapshot, so whoever is
 * told that a message is in also sees it in his next statement.  Nobody polls for that; who would wait for ever
 * looks now and then whether a worker waits for him.
 *
 * "All that was in the topic" ends at the high watermark.  The last stable offset, where a
 * read_committed reader stops, may lie before it because a transaction is open, or because
 * one has been committed but its markers are still being written: to the producer, and to
 * whoever then calls wait_for_latest, that is committed.  So the high watermark is waited
 * for first; only what a worker has not reached for a while is compared with the last
 * stable offset, and open transactions are not waited for.
 */
#include "millrace.h"

#include "access/xact.h"
#include "blame.h"
#include "catalog_rebuild.h"
#include "catalog_table.h"
#include "elapsed.h"
#include "fmgr.h"
#include "ingest/monitor.h"
#include "kafka/ask.h"
#include "lock_wait.h"
#include "miscadmin.h"
#include "shmem.h"
#include "storage/lmgr.h"
#include "stream/option.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "view/target.h"
#include "wait_event.h"

#define BROKER_TIMEOUT_MS	30000
#define BROKER_TIMEOUT_MIN_MS	2000	/* even "now" needs to know where the
										 * topic ends */
#define LOOK_MS				60000	/* looks without being told; it must fit
									 * an int */
#define OWN_LOCKS_MS		1000	/* between looks for workers that wait for
									 * us */
#define OWN_LOCKS_MET		10	/* so often, and it is an error; that takes
								 * longer than a view waits for a table before
								 * it leaves others */
#define MARKERS_MS			3000	/* longest time that a committed
									 * transaction's markers may be on their
									 * way */

PG_FUNCTION_INFO_V1(mr_wait_for_latest);
PG_FUNCTION_INFO_V1(mr_wait_for_offset);

/* what one view must reach in one stream */
typedef struct Goal
{
	Oid			view;
	Oid			stream;
	int64		feed;			/* that the view followed at the call */
	Oid			shadow;			/* must have taken the view's place before, if
								 * valid */
	int			n;
	MrPartitionOffset *targets;
	MrFeedOffset *before;		/* where the view stood before the broker was
								 * asked; NULL: does not matter */
	int			nbefore;
} Goal;

/* looking for workers that wait for this transaction */
typedef struct OwnLocks
{
	TimestampTz look_at;		/* the next time */
	int			met;
	int64		feed;			/* since it is this, of this generation */
	int64		generation;
} OwnLocks;

/* ---------- goals ---------- */

/*
 * Present ends of all partitions of a stream: high watermarks, or what readers under the
 * stream's own isolation level can reach.
 */
static MrPartitionOffset *
present_ends(Oid relid, bool stable, int *n, int timeout_ms)
{
	MrStream   *stream = mr_stream_get(relid);
	List	   *props = mr_server_properties(stream->serverid, stream->owner);
	MrConsumer *consumer;
	MrPartitionOffset *result;
	int32	   *partitions;
	int64	   *low;
	int64	   *high;

	if (!stable)
		props = mr_monitor_see_everything(props);
	consumer = mr_consumer_create(props, stream->topic, "millrace-wait");
	*n = mr_consumer_partitions(consumer, timeout_ms, false);
	if (*n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_TABLE_NOT_FOUND),
				 errmsg("topic \"%s\" of stream %s does not exist", stream->topic, stream->name),
				 errhint("Ingest starts when it appears; millrace.create_topic() creates it.")));
	result = palloc(sizeof(MrPartitionOffset) * (*n + 1));
	partitions = palloc(sizeof(int32) * (*n + 1));
	low = palloc(sizeof(int64) * (*n + 1));
	high = palloc(sizeof(int64) * (*n + 1));
	for (int i = 0; i < *n; i++)
		partitions[i] = i;
	if (*n > 0)
		(void) mr_consumer_watermarks(consumer, partitions, *n, low, high, timeout_ms, false);
	mr_consumer_destroy(consumer);
	for (int i = 0; i < *n; i++)
	{
		result[i].partition = i;
		result[i].offset = high[i];
	}
	return result;
}

/* one goal for each stream of each view, with no targets yet */
static List *
make_goals(List *views)
{
	List	   *goals = NIL;
	ListCell   *lc;
	ListCell   *lf;

	foreach(lc, views)
	{
		const MrView *view = lfirst(lc);
		const MrView *shadow = mr_catalog_shadow_of(view->view);

		if (view->target != view->view)
			continue;
		foreach(lf, mr_catalog_streams_of_view(view->view))
		{
			Goal	   *goal = palloc0(sizeof(Goal));

			goal->view = view->view;
			goal->shadow = shadow ? shadow->view : InvalidOid;
			goal->stream = ((MrFeed *) lfirst(lf))->stream;
			goal->feed = ((MrFeed *) lfirst(lf))->id;
			goals = lappend(goals, goal);
		}
	}
	return goals;
}

/* the same stream's ends, copied, if they have been asked for already */
static bool
take_known_ends(List *goals, Goal *goal)
{
	ListCell   *lc;

	foreach(lc, goals)
	{
		const Goal *other = lfirst(lc);

		if (other->targets == NULL || other->stream != goal->stream)
			continue;
		goal->n = other->n;
		goal->targets = palloc(sizeof(MrPartitionOffset) * (goal->n + 1));
		memcpy(goal->targets, other->targets, sizeof(MrPartitionOffset) * goal->n);
		return true;
	}
	return false;
}

static List *
latest_goals(List *views, int timeout_ms)
{
	List	   *goals = make_goals(views);
	ListCell   *lc;

	/* all positions before any end: a position beyond an end means something */
	foreach(lc, goals)
	{
		Goal	   *goal = lfirst(lc);

		goal->before = mr_catalog_feed_offsets(goal->feed, false, &goal->nbefore);
	}
	foreach(lc, goals)
	{
		Goal	   *goal = lfirst(lc);

		if (!take_known_ends(goals, goal))
			goal->targets = present_ends(goal->stream, false, &goal->n, timeout_ms);
	}
	return goals;
}

static List *
offset_goals(List *views, int32 partition, int64 offset)
{
	List	   *goals = make_goals(views);
	ListCell   *lc;

	foreach(lc, goals)
	{
		Goal	   *goal = lfirst(lc);

		goal->n = 1;
		goal->targets = palloc(sizeof(MrPartitionOffset));
		goal->targets->partition = partition;
		goal->targets->offset = offset < PG_INT64_MAX ? offset + 1 : offset;
	}
	return goals;
}

/* ---------- looking ---------- */

static void
refuse(const MrView *view, const char *what, const char *error)
{
	bool		is_shadow = view->target != view->view;

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg(is_shadow ? "the rebuild of continuous view \"%s\" %s" : "continuous view \"%s\" %s",
					get_rel_name(view->target), what),
			 error ? errdetail("%s", error) : 0,
			 is_shadow ? errhint("Use millrace.activate() or millrace.cancel_rebuild().")
			 : errhint("Use millrace.activate().")));
}

/* errors when nobody will ever feed the view, or its shadow while there is one */
static void
check_view_runs(Oid relid, Oid stream)
{
	MrView	   *shadow = mr_catalog_shadow_of(relid);
	MrView	   *view = shadow ? shadow : mr_catalog_view(relid);
	int64		feed = mr_catalog_feed_of(view ? view->view : relid, stream);
	MrFeed	   *place = mr_catalog_feed(feed);
	Oid			blamed;
	const char *error = mr_catalog_feed_error(feed, &blamed);

	if (view == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the continuous view was dropped while waiting for it")));
	if (view->failed)
		refuse(view, "has failed", view->last_error);
	if (!view->active)
		refuse(view, "is not active", NULL);
	if (place != NULL && place->away)
		refuse(view, "is not active", "The database was restored or copied.");
	if (error != NULL)
		refuse(view, psprintf("waits for stream \"%s\", which has stopped", get_rel_name(stream)),
			   mr_blame_text(error, blamed));
	if (!mr_enabled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("ingest is switched off"),
				 errhint("Set millrace.enabled to on and reload the configuration.")));
}

/*
 * Did the view stand beyond the topic's end already before that was asked for, and still
 * does?  Then the topic was truncated or created again, which a worker has yet to notice.
 */
static bool
is_beyond_end(const Goal *goal, const MrPartitionOffset *target, int64 next_offset)
{
	for (int i = 0; i < goal->nbefore; i++)
		if (goal->before[i].partition == target->partition)
			return goal->before[i].next_offset > target->offset &&
				goal->before[i].next_offset == next_offset;
	return false;
}

static bool
goal_reached(const Goal *goal)
{
	int64		feed = mr_catalog_feed_of(goal->view, goal->stream);
	int			n;
	MrFeedOffset *rows = mr_catalog_feed_offsets(feed, false, &n);

	if (OidIsValid(goal->shadow) && mr_catalog_view(goal->shadow) != NULL)
		return false;
	for (int i = 0; i < goal->n; i++)
	{
		bool		reached = false;

		for (int j = 0; j < n; j++)
			if (rows[j].partition == goal->targets[i].partition)
				reached = rows[j].next_offset >= goal->targets[i].offset &&
					!is_beyond_end(goal, &goal->targets[i], rows[j].next_offset);

		/*
		 * a partition without a row is new to the worker; an empty one still
		 * counts
		 */
		if (!reached)
			return false;
	}
	return true;
}

/* look in a context that is given back, as a wait may look many times */
static bool
all_reached(List *goals)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "millrace wait",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	bool		result = true;
	ListCell   *lc;

	foreach(lc, goals)
	{
		Goal	   *goal = lfirst(lc);

		if (goal_reached(goal))
			continue;
		check_view_runs(goal->view, goal->stream);
		result = false;
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return result;
}

/*
 * Where the view seems to stand beyond the end, ask for the end once more, and tell whether it
 * still does: a broker that has just begun to lead a partition knows its end only by and by.
 */
static bool
ask_again_beyond_end(Goal *goal)
{
	int64		feed = mr_catalog_feed_of(goal->view, goal->stream);
	MrFeedOffset *rows = mr_catalog_feed_offsets(feed, false, &goal->nbefore);
	MrPartitionOffset *ends = NULL;
	int			nends = 0;
	bool		result = false;

	goal->before = rows;
	for (int i = 0; i < goal->nbefore; i++)
	{
		for (int j = 0; j < goal->n; j++)
		{
			if (goal->targets[j].partition != rows[i].partition ||
				!is_beyond_end(goal, &goal->targets[j], rows[i].next_offset))
				continue;
			if (ends == NULL)
				ends = present_ends(goal->stream, false, &nends, BROKER_TIMEOUT_MS);
			for (int k = 0; k < nends; k++)
				if (ends[k].partition == rows[i].partition)
					goal->targets[j].offset = ends[k].offset;
			result = result || is_beyond_end(goal, &goal->targets[j], rows[i].next_offset);
		}
	}
	return result;
}

/* do not wait for transactions that are open: see above */
static void
leave_out_open_transactions(Goal *goal)
{
	int			n;
	MrPartitionOffset *stable = present_ends(goal->stream, true, &n, BROKER_TIMEOUT_MS);

	for (int i = 0; i < goal->n; i++)
		for (int j = 0; j < n; j++)
			if (stable[j].partition == goal->targets[i].partition)
				goal->targets[i].offset = Min(goal->targets[i].offset, stable[j].offset);
}

static long
ms_until(TimestampTz when)
{
	return TimestampDifferenceMilliseconds(mr_steady_time(), when);
}

/* is a worker that the goal needs in wait for a lock of this transaction? */
static bool
is_in_our_wait(const Goal *goal)
{
	int64		feed = mr_catalog_feed_of(goal->view, goal->stream);
	int64		shadow = OidIsValid(goal->shadow) ? mr_catalog_feed_of(goal->shadow, goal->stream) : feed;
	pid_t	   *pids = palloc(sizeof(pid_t) * mr_shared->nslots);
	int			n = 0;

	LWLockAcquire(mr_shared->lock, LW_SHARED);
	for (int i = 0; i < mr_shared->nslots; i++)
	{
		const MrWorkerSlot *slot = &mr_shared->workers[i];

		if (slot->database == MyDatabaseId && (slot->feed == feed || slot->feed == shadow) && slot->pid != 0)
			pids[n++] = slot->pid;
	}
	LWLockRelease(mr_shared->lock);
	for (int i = 0; i < n; i++)
		if (mr_lock_waits_for_us(pids[i]))
			return true;
	return false;
}

/* the view's feed; by another generation it has other views */
static void
look(const Goal *goal, OwnLocks *own)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "millrace own locks", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	const MrFeed *feed = mr_catalog_feed(mr_catalog_feed_of(goal->view, goal->stream));

	if (feed != NULL && (feed->id != own->feed || feed->generation != own->generation))
	{
		own->feed = feed->id;
		own->generation = feed->generation;
		own->met = 0;
	}
	own->met += is_in_our_wait(goal);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/*
 * That a worker waits for us is told by nobody, and is no deadlock that the server would see, as we
 * sleep.  What waits for a lock that one of its views needs goes on without that one after a while; so
 * an error comes only when the worker has been met like that often enough with the same views.
 */
static void
check_not_awaited(const Goal *goal, OwnLocks *own)
{
	if (ms_until(own->look_at) > 0)
		return;
	own->look_at = TimestampTzPlusMilliseconds(mr_steady_time(), OWN_LOCKS_MS);
	look(goal, own);
	if (own->met < OWN_LOCKS_MET)
		return;
	ConditionVariableCancelSleep();
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot wait for continuous view \"%s\" in a transaction that its worker waits for",
					get_rel_name(goal->view)),
			 errdetail("The worker waits for a lock that this transaction has until it ends."),
			 errhint("Commit first.")));
}

/* markers_until: when to stop waiting for markers, DT_NOEND: the goal is final */
static bool
wait_for_goal(Goal *goal, TimestampTz deadline, TimestampTz markers_until)
{
	ConditionVariable *progress = mr_shmem_progress(goal->stream);
	bool		forever = deadline == DT_NOEND;
	OwnLocks	own = {.look_at = TimestampTzPlusMilliseconds(mr_steady_time(), OWN_LOCKS_MS)};

	ConditionVariablePrepareToSleep(progress);
	while (!all_reached(list_make1(goal)))
	{
		if (ms_until(deadline) <= 0)
		{
			ConditionVariableCancelSleep();
			return false;
		}
		if (ms_until(markers_until) <= 0)
		{
			ConditionVariableCancelSleep();
			markers_until = DT_NOEND;
			if (ask_again_beyond_end(goal))
				markers_until = TimestampTzPlusMilliseconds(mr_steady_time(), MARKERS_MS);
			else
				leave_out_open_transactions(goal);
			ConditionVariablePrepareToSleep(progress);
			continue;
		}
		(void) ConditionVariableTimedSleep(progress,
										   Min(forever ? OWN_LOCKS_MS : LOOK_MS, Min(ms_until(deadline), ms_until(markers_until))),
										   mr_wait_event(MR_WAIT_PROGRESS));
		if (forever)
			check_not_awaited(goal, &own);
	}
	ConditionVariableCancelSleep();
	return true;
}

/*
 * Let nobody wait for our snapshot before a shadow takes its view's place.  One that is kept
 * for the whole transaction may still be read with.
 */
static void
set_waiting(List *goals, bool waiting)
{
	ListCell   *lc;
	bool		shadows = false;

	foreach(lc, goals)
		shadows = shadows || OidIsValid(((const Goal *) lfirst(lc))->shadow);
	if (!shadows || IsolationUsesXactSnapshot())
		return;
	if (waiting)
		mr_catalog_shadow_wait_begin();
	else
		mr_catalog_shadow_wait_end();
}

static bool
wait_for_all(List *goals, TimestampTz deadline, bool latest)
{
	ListCell   *lc;

	/* let workers look for new partitions and the like */
	mr_shmem_wake(MyDatabaseId);
	foreach(lc, goals)
	{
		TimestampTz markers_until = latest
		? TimestampTzPlusMilliseconds(mr_steady_time(), MARKERS_MS) : DT_NOEND;

		if (!wait_for_goal(lfirst(lc), deadline, markers_until))
			return false;
	}
	return true;
}

static bool
wait_for_goals(List *goals, TimestampTz deadline, bool latest)
{
	bool		result;

	if (all_reached(goals))
		return true;
	set_waiting(goals, true);
	result = wait_for_all(goals, deadline, latest);
	set_waiting(goals, false);
	return result;
}

static TimestampTz
deadline_after(FunctionCallInfo fcinfo, int arg)
{
	Interval	zero = {0};
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz end;

	if (PG_ARGISNULL(arg))
		return DT_NOEND;
	if (DatumGetBool(DirectFunctionCall2(interval_lt, PG_GETARG_DATUM(arg), IntervalPGetDatum(&zero))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must not be negative")));
	end = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												  TimestampTzGetDatum(now), PG_GETARG_DATUM(arg)));
	return end == DT_NOEND ? end : mr_steady_time() + (end - now);
}

static int
broker_timeout(TimestampTz deadline)
{
	long		rest = TimestampDifferenceMilliseconds(mr_steady_time(), deadline);

	return (int) Max(BROKER_TIMEOUT_MIN_MS, Min(rest, BROKER_TIMEOUT_MS));
}

static void
require_arguments(FunctionCallInfo fcinfo, int n)
{
	static const char *const names[] = {"relation", "partition", "offset"};

	for (int i = 0; i < n; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s must not be null", names[i])));
}

/*
 * Does this transaction hold that lock on a relation, or a stronger one?  The server's
 * CheckRelationOidLockedByMe() is not in all minor versions.
 */
static bool
is_locked(Oid relid, LOCKMODE mode)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	for (; mode <= MaxLockMode; mode++)
	{
		if (mr_compat_lock_is_held(&tag, mode))
			return true;
	}
	return false;
}

/* does this transaction read a view?  Then nobody replaces its contents. */
static bool
reads_view(Oid relid)
{
	const MrView *view = mr_catalog_view(relid);

	return view != NULL && is_locked(view->matrel, AccessShareLock);
}

/* the contents that a view has are kept for those who may read them */
static void
check_may_be_exchanged(Oid relid)
{
	if (reads_view(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot wait for the rebuild of continuous view \"%s\" in a transaction that has read it",
						get_rel_name(relid)),
				 errhint("Commit first.")));
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot wait for the rebuild of continuous view \"%s\" in a transaction with a snapshot of its own",
						get_rel_name(relid)),
				 errdetail("The present contents are kept until that is gone."),
				 errhint("Use READ COMMITTED.")));
}

/* workers see what is committed, and wait for locks: waiting for them here would be for ever */
static void
check_not_ours(List *views)
{
	ListCell   *lc;

	foreach(lc, views)
	{
		MrView	   *view = lfirst(lc);

		if (mr_catalog_view_changed_here(view->view) ||
			is_locked(view->matrel, AccessExclusiveLock))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("cannot wait for continuous view \"%s\" in the transaction that has changed it",
							get_rel_name(view->target)),
					 errhint("Commit first.")));
		if (view->target != view->view)
			check_may_be_exchanged(view->target);
	}
}

static List *
views_to_wait_for(FunctionCallInfo fcinfo, int nargs)
{
	bool		is_stream;
	List	   *views;

	require_arguments(fcinfo, nargs);
	mr_target_require_preload();
	PreventCommandDuringRecovery("waiting for a continuous view");
	views = mr_target_views(PG_GETARG_OID(0), &is_stream);
	mr_target_require_owner(PG_GETARG_OID(0));
	return views;
}

/* a view that nobody feeds is an error at once, before the broker is asked */
static void
check_views_run(List *views)
{
	ListCell   *lc;

	foreach(lc, views)
	{
		MrView	   *view = lfirst(lc);
		ListCell   *lf;

		if (view->target != view->view)
			continue;
		if ((view->failed || !view->active) && mr_catalog_tables_of_view(view->view) != NIL)
			refuse(view, view->failed ? "has failed" : "is not active", view->last_error);
		foreach(lf, mr_catalog_streams_of_view(view->view))
			check_view_runs(view->view, ((MrFeed *) lfirst(lf))->stream);
	}
}

/* a view over another one's changes waits for that */
static List *
add_followed(List *views)
{
	List	   *result = list_copy(views);
	bool		is_stream;
	ListCell   *lc;
	ListCell   *lt;

	foreach(lc, result)			/* which grows meanwhile */
		foreach(lt, mr_catalog_tables_of_view(((MrView *) lfirst(lc))->view))
	{
		Oid			source = mr_catalog_view_of_part(lfirst_oid(lt));

		if (OidIsValid(source))
			result = list_concat(result, mr_target_views(source, &is_stream));
	}
	return result;
}

Datum
mr_wait_for_latest(PG_FUNCTION_ARGS)
{
	List	   *views = add_followed(views_to_wait_for(fcinfo, 1));
	TimestampTz deadline = deadline_after(fcinfo, 1);

	if (PG_ARGISNULL(1))
		check_not_ours(views);
	check_views_run(views);
	PG_RETURN_BOOL(wait_for_goals(latest_goals(views, broker_timeout(deadline)), deadline, true));
}

Datum
mr_wait_for_offset(PG_FUNCTION_ARGS)
{
	List	   *views = views_to_wait_for(fcinfo, 3);
	TimestampTz deadline = deadline_after(fcinfo, 3);
	List	   *goals = offset_goals(views, PG_GETARG_INT32(1), PG_GETARG_INT64(2));

	if (PG_GETARG_INT32(1) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("partition must not be negative")));
	if (goals == NIL && views != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("rows of tables have no offsets"),
				 errhint("Views over tables hold what is committed.")));

	if (PG_ARGISNULL(3))
		check_not_ours(views);
	PG_RETURN_BOOL(wait_for_goals(goals, deadline, false));
}
