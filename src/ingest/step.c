/*
 * step.c
 *		The ingest transaction: one batch of messages into all views of a feed.
 *
 * This is the only place that begins and ends it.  In order: the offset rows are locked and
 * compared (the fence); the batch is decoded, once for all views; each view's partial plan
 * runs over it; each view's partial rows are merged; rejects become dead letters; offsets
 * move; commit.  Either all of it happened or nothing.  All plans run before the first
 * merge, because merging takes locks that other workers of the same views wait for.
 *
 * Whatever belongs to a view (planning, running, comparing and combining) runs as its owner
 * in a security-restricted context, under the settings that were in force when the view was
 * created.  So does decoding, as in a SELECT from the stream: input functions and domain
 * constraints may be anybody's.  Views of different owners, or that were created under
 * different settings (time zone, date style …), belong to different profiles, and the batch
 * is decoded once for each; a message that cannot be decoded under one of them reaches no view at all.
 *
 * What was opened is not patched: when the catalog's generation of the feed has changed, or
 * an invalidation touches the stream or a view, the caller opens the feed anew.  Only plans
 * are made anew in place.
 *
 * Memory: a batch's memory is below the context that is current at the call.
 */
#include "millrace.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog_feed_lock.h"
#include "failpoint.h"
#include "ingest/careful.h"
#include "ingest/catchup.h"
#include "ingest/intake.h"
#include "ingest/lock.h"
#include "ingest/step.h"
#include "ingest/step_over.h"
#include "ingest/take.h"
#include "ingest/view_limit.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "shmem.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "view/ddl.h"
#include "view/guise.h"
#include "view/relations.h"

/* for a row of the catalog, by who must not wait; shorter than the deadlock detector's */
#define TRY_LOCK_TIMEOUT	"500ms"

/* what invalidation messages have told since the feed was opened */
static MrIngest *opened = NULL;
static int	opened_views = 0;	/* also while it is being opened */
static bool stale = false;
static bool inputs_changed = false; /* while it was being opened: of plans
									 * that are made already, perhaps */

/* stream of the feed that is being opened */
static Oid	opening = InvalidOid;

/* ---------- invalidation ---------- */

static void
invalidate_plans(Oid relid)
{
	ListCell   *lc;

	foreach(lc, opened->views)
	{
		MrIngestView *view = lfirst(lc);

		if (view->view->target == relid || view->view->definition == relid)
			stale = true;
		if (view->plan && (!OidIsValid(relid) || list_member_oid(view->plan->relationOids, relid)))
			view->plan = NULL;
	}
}

static void
on_relcache(Datum arg, Oid relid)
{
	if (OidIsValid(opening) && relid == opening)
		stale = true;
	if (opened == NULL)
		return;
	if (relid == opened->stream->relid)
		stale = true;
	invalidate_plans(relid);
}

static void
on_definition(Datum arg, int cache, uint32 hash)
{
	stale = true;
}

static void
on_plan_input(Datum arg, int cache, uint32 hash)
{
	ListCell   *lc;

	inputs_changed = true;
	if (opened == NULL)
		return;
	invalidate_plans(InvalidOid);
	/* how its rows are shown is compiled once */
	foreach(lc, opened->views)
		if (((MrIngestView *) lfirst(lc))->changes != NULL)
		stale = true;
}

static void
on_type(Datum arg, int cache, uint32 hash)
{
	ListCell   *lc;

	if (opened == NULL)
	{
		inputs_changed = true;
		return;
	}
	foreach(lc, opened->views)
		mr_take_type_changed(lfirst(lc), cache, hash);
}

static void
watch_invalidations(void)
{
	static bool registered = false;

	if (registered)
		return;
	registered = true;
	CacheRegisterRelcacheCallback(on_relcache, (Datum) 0);
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, on_definition, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, on_definition, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, on_plan_input, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, on_type, (Datum) 0);

	/*
	 * which row security policies a plan has depends on its owner's roles and
	 * attributes
	 */
	CacheRegisterSyscacheCallback(AUTHOID, on_plan_input, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, on_plan_input, (Datum) 0);
}

bool
mr_ingest_is_stale(const MrIngest *ingest)
{
	return ingest->valid != NULL ? !*ingest->valid : stale;
}

static void
set_opened(MrIngest *ingest)
{
	opened = ingest;
	if (ingest != NULL && inputs_changed)
		on_plan_input((Datum) 0, PROCOID, 0);
}

void
mr_ingest_close(void)
{
	opened = NULL;
}

bool
mr_ingest_counts_for_stream(const MrIngest *ingest)
{
	return ingest->feed != NULL && ingest->feed->live;
}

bool
mr_ingest_is_open(void)
{
	return opened != NULL;
}

int
mr_ingest_nviews(void)
{
	return opened_views;
}

Oid
mr_ingest_after_error(MrTakePhase *phase)
{
	*phase = mr_take_phase();
	mr_scan_source_set(NULL);
	return mr_take_blamed();
}

/* ---------- opening a feed ---------- */

static bool
same_settings(const List *a, const List *b)
{
	ListCell   *la;
	ListCell   *lb;

	if (list_length(a) != list_length(b))
		return false;
	forboth(la, a, lb, b)
		if (strcmp(lfirst(la), lfirst(lb)) != 0)
		return false;
	return true;
}

static MrProfile *
find_profile(MrIngest *ingest, Oid owner, List *settings, const Bitmapset *attrs)
{
	MrProfile  *profile;
	ListCell   *lc;

	foreach(lc, ingest->profiles)
	{
		profile = lfirst(lc);
		if (profile->owner == owner && same_settings(profile->settings, settings))
			return profile;
	}
	profile = palloc0(sizeof(MrProfile));
	profile->owner = owner;
	profile->settings = settings;
	profile->decoder = mr_batch_decoder_create(ingest->stream, attrs);
	ingest->profiles = lappend(ingest->profiles, profile);
	return profile;
}

static void
load_start(MrIngestView *view, Oid stream)
{
	int			n;
	MrFeedOffset *rows = mr_catalog_view_start(view->view->view, stream, &n);

	view->nstart = n > 0 ? rows[n - 1].partition + 1 : 0;
	view->start = palloc0(sizeof(int64) * (view->nstart + 1));
	for (int i = 0; i < n; i++)
		view->start[rows[i].partition] = rows[i].next_offset;
}

static MrIngestView *
open_view(MrIngest *ingest, MrView *view, const Bitmapset *attrs)
{
	MrIngestView *result = palloc0(sizeof(MrIngestView));
	MrGuise		guise;

	mr_take_blame(view->view);
	mr_view_sync(view);
	result->view = view;
	result->owner = mr_relation_owner(view->target);
	result->name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(view->target)),
											  get_rel_name(view->target));
	if (view->target != view->view)
		result->name = psprintf("%s (rebuild)", result->name);
	result->profile = find_profile(ingest, result->owner, view->settings, attrs);
	load_start(result, ingest->stream->relid);

	mr_guise_begin(&guise, result->owner, view->settings);
	result->analysis = mr_view_reanalyze(view);
	if (OidIsValid(view->matrel))
	{
		result->changes = mr_changes_create(view, result->analysis);
		result->merge = mr_merge_create(result->analysis, view->view, view->matrel, result->changes);
	}
	result->plan_context = AllocSetContextCreate(ingest->context, "millrace plan", ALLOCSET_DEFAULT_SIZES);
	mr_view_limit_begin(view, false);
	mr_take_plan(result);		/* now, to know which relations to lock */
	MR_FAILPOINT("open-view-planned");
	mr_guise_end(&guise);
	mr_take_blame(InvalidOid);
	return result;
}

static bool
load_views(MrIngest *ingest, MrBusy *busy)
{
	Bitmapset  *attrs = mr_catalog_stream_attrs(ingest->stream->relid);
	List	   *views = mr_catalog_views_of_feed(ingest->feed->id);
	ListCell   *lc;

	opened_views = list_length(views);
	foreach(lc, views)
	{
		MrView	   *view = lfirst(lc);

		if (!view->active || view->failed)
			continue;
		if (!mr_try_lock_to_open(view, busy))
			return false;
		/* one that has just been dropped has changed the generation, too */
		if (get_rel_name(view->view) != NULL && get_rel_name(view->target) != NULL)
			ingest->views = lappend(ingest->views, open_view(ingest, view, attrs));
	}
	return ingest->views != NIL;
}

/* false: there is nothing to do, or *busy is in the way */
static bool
load_feed(MrIngest *ingest, int64 feed, int shard, int nshards, MrBusy *busy)
{
	if (!OidIsValid(mr_catalog_extension_oid()))
		return false;
	ingest->feed = mr_catalog_feed(feed);
	if (ingest->feed == NULL || !mr_try_lock(ingest->feed->stream, AccessShareLock, busy) ||
		!mr_is_stream(ingest->feed->stream) || ingest->feed->stopped ||
		ingest->feed->away)
		return false;
	opening = ingest->feed->stream;
	ingest->stream = mr_stream_get(ingest->feed->stream);
	ingest->cluster = mr_catalog_feed_cluster(ingest->feed->id);
	ingest->offsets = mr_offsets_load(ingest->feed, shard, nshards);
	MR_FAILPOINT("open-offsets-loaded");
	if (!load_views(ingest, busy))
		return false;
	mr_step_over_open(ingest);
	return true;
}

/* one attempt; NULL as mr_ingest_open, or because *busy is in the way */
static MrIngest *
try_open(int64 feed, int shard, int nshards, MrBusy *busy)
{
	MemoryContext old = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(old, "millrace ingest", ALLOCSET_DEFAULT_SIZES);
	MrIngest   *ingest;
	bool		usable;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(context);
	ingest = palloc0(sizeof(MrIngest));
	ingest->context = context;
	usable = load_feed(ingest, feed, shard, nshards, busy);
	PopActiveSnapshot();
	if (OidIsValid(busy->relid))
		AbortCurrentTransaction();
	else
		CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	if (usable)
		return ingest;
	MemoryContextDelete(context);
	return NULL;
}

MrIngest *
mr_ingest_open(int64 feed, int shard, int nshards)
{
	MrBusy		busy = {InvalidOid, NoLock, InvalidOid};

	watch_invalidations();
	opened = NULL;
	opened_views = 0;
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		opening = InvalidOid;
		stale = false;
		inputs_changed = false;
		set_opened(try_open(feed, shard, nshards, &busy));
		if (!OidIsValid(busy.relid))
			break;
		mr_wait_for_lock(&busy, opened_views == 1);
		busy.relid = InvalidOid;
	}
	opening = InvalidOid;
	return opened;
}

MrIngest *
mr_ingest_open_views(Oid stream, List *views)
{
	MrIngest   *ingest = palloc0(sizeof(MrIngest));
	Bitmapset  *attrs = mr_catalog_stream_attrs(stream);
	ListCell   *lc;

	watch_invalidations();
	opened = NULL;
	stale = false;
	inputs_changed = false;
	ingest->context = CurrentMemoryContext;
	ingest->stream = mr_stream_get(stream);
	foreach(lc, views)
		ingest->views = lappend(ingest->views, open_view(ingest, lfirst(lc), attrs));
	set_opened(ingest);
	return ingest;
}

bool
mr_ingest_is_current(const MrIngest *ingest)
{
	MemoryContext old = CurrentMemoryContext;
	MrFeed	   *feed = NULL;
	bool		result;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (OidIsValid(mr_catalog_extension_oid()))
		feed = mr_catalog_feed(ingest->feed->id);
	result = feed != NULL && feed->generation == ingest->feed->generation &&
		feed->live == ingest->feed->live && !feed->stopped;
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	return result && !stale;
}

/* ---------- views ---------- */

static void
aggregate_all(MrIngest *ingest)
{
	ListCell   *lc;

	foreach(lc, ingest->views)
	{
		MrIngestView *view = lfirst(lc);
		MrScanSource source = {
			.batch = view->profile->batch,
			.first = 0,
			.last = view->profile->batch->nrows,
			.start = view->start,
			.nstart = view->nstart,
			.row = -1
		};

		mr_take_aggregate(ingest, view, &source);
	}
}

static void
merge_all(MrIngest *ingest)
{
	ListCell   *lc;

	foreach(lc, ingest->views)
		mr_take_merge(ingest, lfirst(lc));
}

/* ---------- the transaction ---------- */

static double
lap(instr_time *since)
{
	instr_time	now;
	instr_time	span;

	INSTR_TIME_SET_CURRENT(now);
	span = now;
	INSTR_TIME_SUBTRACT(span, *since);
	*since = now;
	return INSTR_TIME_GET_MILLISEC(span);
}

/* ends of partitions move offsets past what is no message: markers, aborted messages */
static void
count_ends(MrIngest *ingest, const MrPartitionOffset *ends, int nends)
{
	for (int i = 0; i < nends; i++)
	{
		MrPosition *position = mr_offsets_find(ingest->offsets, ends[i].partition);

		if (position != NULL && ends[i].offset > position->new_offset)
			position->new_offset = ends[i].offset;
	}
}

/* a timeout's handler may look at them at any moment (view_limit.c) */
static void
set_followers(MrIngest *ingest, const List *followers)
{
	List	   *former = ingest->followers;
	MemoryContext old;

	if (equal(former, followers))
		return;
	old = MemoryContextSwitchTo(ingest->context);
	ingest->followers = list_copy(followers);
	MemoryContextSwitchTo(old);
	list_free(former);
}

static bool
try_lock_all(MrIngest *ingest, MrBusy *busy)
{
	List	   *followers = NIL;
	ListCell   *lc;

	if (!mr_try_lock(ingest->stream->relid, AccessShareLock, busy))
		return false;
	foreach(lc, ingest->views)
		if (!mr_try_lock_to_take(lfirst(lc), busy) || !mr_try_lock_followers(lfirst(lc), &followers, busy))
		return false;
	set_followers(ingest, followers);
	return true;
}

/* one statement's worth of catalog access */
static bool
with_snapshot(bool (*lock) (MrOffsets *offsets), MrOffsets *offsets)
{
	bool		result;

	PushActiveSnapshot(GetTransactionSnapshot());
	result = lock(offsets);
	PopActiveSnapshot();
	return result;
}

/*
 * Start the transaction with everything locked.  Locks are waited for with empty hands: the
 * feed's row is the first, relations come next and are only tried, and the offset rows
 * behind the feed's row are contested by nobody but a worker that is about to end.
 */
static bool
begin(MrIngest *ingest)
{
	MrBusy		busy;

	mr_offsets_reset(ingest->offsets);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		MR_FAILPOINT("step-begun");
		if (stale || !with_snapshot(mr_offsets_lock_feed, ingest->offsets))
			break;
		MR_FAILPOINT("step-feed-locked");
		if (try_lock_all(ingest, &busy))
		{
			MR_FAILPOINT("step-relations-locked");
			if (!with_snapshot(mr_offsets_lock, ingest->offsets) || stale)
				break;
			MR_FAILPOINT("step-offsets-locked");
			/* what others committed while we waited for the locks counts */
			PushActiveSnapshot(GetTransactionSnapshot());
			return true;
		}
		AbortCurrentTransaction();
		mr_wait_for_lock(&busy, opened_views == 1);
	}
	AbortCurrentTransaction();
	return false;
}

/* returns n, or how many of the messages it has to be tried with instead */
static int
feed_views(MrIngest *ingest, int n, instr_time *clock)
{
	bool		rows = mr_intake_has_rows(ingest);

	ingest->decode_ms = lap(clock);
	if (rows && ingest->careful)
		n = mr_careful_feed(ingest, n);
	else if (rows)
		aggregate_all(ingest);
	ingest->aggregate_ms = lap(clock);
	if (rows && !ingest->careful)
		merge_all(ingest);
	ingest->merge_ms = lap(clock);
	return n;
}

static void
count_rows_of_view(MrIngestView *view, bool careful)
{
	int			nrows = view->profile->batch->nrows;
	int64		excess = careful ? view->new_excess - view->excess : -nrows;

	if (nrows > 0)
	{
		mr_shmem_count_rows(view->view->view, nrows, view->rows_out, excess);
		view->excess = Max(view->excess + excess, 0);
	}
	view->rows_out = 0;
}

/* after the commit: what the views have read and given */
static void
count_rows(MrIngest *ingest)
{
	ListCell   *lc;

	if (ingest->new_excess != ingest->excess && mr_ingest_counts_for_stream(ingest))
		mr_shmem_count_rows(ingest->stream->relid, 0, 0, ingest->new_excess - ingest->excess);
	ingest->excess = ingest->new_excess;
	foreach(lc, ingest->views)
		count_rows_of_view(lfirst(lc), ingest->careful);
}

/*
 * One portion.  What careful steps find comes after contents, where it would be too late to lock
 * the letters.
 */
static MrIntakeEnd
take_portion(MrIngest *ingest, MrMessage *messages, int n)
{
	MrIntakeEnd end = mr_intake_append(ingest, messages, n);

	if (end == MR_INTAKE_ALL && ingest->careful && !mr_intake_lock_letters(ingest))
		return MR_INTAKE_BUSY;
	return end;
}

/*
 * All messages of the step into rows, while *end says so.  True when the feed can join the live
 * one after them (catch_up).  shortened: there are more messages at hand.
 */
static bool
take_messages(MrIngest *ingest, MrMessage *messages, int n, const MrStepSource *source,
			  bool catch_up, bool shortened, MrIntakeEnd *end)
{
	bool		joins = false;
	bool		cut = false;
	int			nends;
	const MrPartitionOffset *ends;

	if (ingest->sink != NULL)
		cut = mr_step_over_cut(ingest, messages, &n);
	else if (catch_up && !shortened)
	{
		ends = source->ends(source->arg, &nends);
		joins = mr_catchup_limit(ingest, messages, &n, ends, nends,
								 source->at_end(source->arg), &cut);
	}
	*end = take_portion(ingest, messages, n);
	if (ingest->stop_error != NULL && *end == MR_INTAKE_ALL)
	{
		mr_intake_stop(ingest, ingest->stop_error, ingest->stop_view);
		*end = MR_INTAKE_STOPPED;
	}
	while (!ingest->holds_live && !cut && *end == MR_INTAKE_ALL && !ingest->careful && ingest->sink == NULL &&
		   !mr_intake_full(ingest) && (n = source->next(source->arg, &messages)) > 0)
	{
		if (catch_up)
			cut = mr_catchup_cut(ingest, messages, &n);
		*end = take_portion(ingest, messages, n);
	}
	if (*end != MR_INTAKE_ALL || shortened)
		return false;
	ends = source->ends(source->arg, &nends);
	if (catch_up || ingest->stepping_over)
		mr_catchup_move(ingest, ends, nends, source->at_end(source->arg));
	else
		count_ends(ingest, ends, nends);
	return joins;
}

/* the step at hand is to be taken anew */
static void
give_up(MemoryContext context)
{
	AbortCurrentTransaction();
	MemoryContextSwitchTo(context);
}

/*
 * One try, in a transaction.  False: it has to be taken anew with *n messages, and the
 * transaction is gone.
 */
static bool
try_step(MrIngest *ingest, MrMessage *messages, int given, int *n, const MrStepSource *source,
		 bool catch_up, MrStepResult *result)
{
	MemoryContext context = CurrentMemoryContext;
	instr_time	clock;
	bool		joins;
	MrIntakeEnd end;
	int			possible;

	INSTR_TIME_SET_CURRENT(clock);
	ingest->nrefused = 0;
	ingest->holds_live = false;
	*result = MR_STEP_STALE;
	if (!begin(ingest))
	{
		MemoryContextSwitchTo(context);
		return true;
	}
	MemoryContextSwitchTo(context);
	mr_intake_begin(ingest);
	joins = take_messages(ingest, messages, *n, source, catch_up, *n < given, &end);
	if (end == MR_INTAKE_BUSY)
	{
		give_up(context);
		ingest->aloof = true;	/* others go on while we wait */
		return false;
	}
	MR_FAILPOINT("step-taken");
	possible = feed_views(ingest, *n, &clock);
	if (possible < *n)
	{
		give_up(context);
		*n = possible;
		return false;
	}
	MR_FAILPOINT("step-fed");
	mr_offsets_store(ingest->offsets);
	if (joins)
		mr_catchup_join(ingest);
	MR_FAILPOINT("step-stored");
	mr_step_over_deliver(ingest);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	MR_FAILPOINT("step-committed");
	mr_offsets_committed(ingest->offsets);
	count_rows(ingest);
	ingest->commit_ms = lap(&clock);
	*result = joins ? MR_STEP_JOINED : end == MR_INTAKE_STOPPED ? MR_STEP_STOPPED : MR_STEP_COMMITTED;
	return true;
}

MrStepResult
mr_ingest_step(MrIngest *ingest, MrMessage *messages, int n,
			   const MrStepSource *source, bool catch_up)
{
	MrStepResult result;

	ingest->stop_error = NULL;
	ingest->nmessages = n;
	while (!try_step(ingest, messages, n, &ingest->nmessages, source, catch_up, &result))
		;
	return result;
}

/* false: while we waited, somebody has dropped or deactivated it, or another shard has failed it */
static bool
lock_active_view(Oid view, List **feeds)
{
	const MrView *now;

	*feeds = mr_catalog_lock_feeds_of_view(view);
	mr_catalog_lock_feed_rows(list_make1_oid(view));
	now = mr_catalog_view(view);
	return now != NULL && now->active && !now->failed;
}

/* error: NULL when nobody is to go on at once.  False: it is not to be helped any more */
static bool
leave(Oid view, const char *error)
{
	List	   *feeds;
	ListCell   *lc;

	if (!lock_active_view(view, &feeds))
		return false;
	foreach(lc, feeds)
	{
		MrFeed	   *feed = lfirst(lc);
		int64		own = mr_catalog_split_view(view, feed->stream, feed->id);

		if (error != NULL)
			mr_catalog_set_trouble(own, error);
	}
	mr_catalog_changed();
	return true;
}

static void
part_with_view(Oid view, const char *error, bool failed, const char *lock_timeout)
{
	StartTransactionCommand();
	if (lock_timeout != NULL)
		mr_set_lock_timeout(lock_timeout);
	PushActiveSnapshot(GetTransactionSnapshot());
	if (leave(view, failed ? NULL : error) && failed)
		mr_catalog_set_view_state(view, true, true, error);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

void
mr_ingest_leave_view(Oid view, const char *error)
{
	part_with_view(view, error, false, NULL);
}

void
mr_ingest_fail_view(Oid view, const char *error)
{
	part_with_view(view, error, true, NULL);
}

bool
mr_ingest_try_fail_view(Oid view, const char *error)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool result = true;

	PG_TRY();
	{
		part_with_view(view, error, true, TRY_LOCK_TIMEOUT);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE)
			PG_RE_THROW();
		AbortCurrentTransaction();
		FlushErrorState();
		result = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return result;
}
