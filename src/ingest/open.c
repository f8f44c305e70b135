/*
 * ingest/open.c
 *		A feed and its views, opened to take batches, and what makes that out of date.
 *
 * Views of different owners, or that were created under different settings, decode messages
 * differently: each such profile has a decoder of its own (step.c).
 *
 * What was opened is not patched: when the catalog's generation of the feed has changed, or
 * an invalidation touches the stream or a view, the caller opens the feed anew.  Only plans
 * are made anew in place.
 */
#include "millrace.h"

#include "access/xact.h"
#include "failpoint.h"
#include "ingest/lock.h"
#include "ingest/open.h"
#include "ingest/step_over.h"
#include "ingest/take.h"
#include "ingest/view_limit.h"
#include "miscadmin.h"
#include "transaction.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "view/ddl.h"
#include "view/guise.h"
#include "view/relations.h"

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
mr_ingest_is_open(void)
{
	return opened != NULL;
}

int
mr_ingest_nviews(void)
{
	return opened_views;
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
	mr_view_limit_begin(view->view, view, false);
	mr_take_plan(result);		/* now, to know which relations to lock */
	MR_FAILPOINT("open-view-planned");
	mr_guise_end(&guise);
	mr_take_done();
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

	mr_start_transaction();
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

	mr_start_transaction();
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
