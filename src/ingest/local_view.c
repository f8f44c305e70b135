/*
 * local_view.c
 *		Views over streams inside of this database, opened to take rows.
 *
 * To analyze and plan a view takes longer than to take a row, so a session keeps its views
 * open from one transaction to the next, until an invalidation says that one may have
 * changed: the view, a part of it, a table that it follows.  A plan alone is made anew when
 * something that it reads, a function or a role has changed.
 *
 * Locks come first: with them, whatever others have done to the view has been heard of.
 */
#include "millrace.h"

#include "catalog_table.h"
#include "ingest/local_view.h"
#include "ingest/take.h"
#include "ingest/view_limit.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "view/ddl.h"
#include "view/guise.h"
#include "view/relations.h"

/* which views follow a table */
typedef struct Followers
{
	Oid			table;			/* hash key */
	bool		built;
	bool		valid;
	int			n;
	Oid		   *views;			/* in CacheMemoryContext */
} Followers;

static HTAB *followers = NULL;
static List *open_views = NIL;	/* of MrLocalView *, in CacheMemoryContext */

/* ---------- invalidation ---------- */

static void
invalidate_view(MrLocalView *local, Oid relid)
{
	MrIngestView *view = local->view;

	if (!OidIsValid(relid) || local->relid == relid || view->view->definition == relid ||
		view->view->matrel == relid || list_member_oid(local->tables, relid))
		local->valid = false;
	if (view->plan != NULL &&
		(!OidIsValid(relid) || list_member_oid(view->plan->relationOids, relid)))
		view->plan = NULL;
}

static void
on_relcache(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	Followers  *entry;
	ListCell   *lc;

	foreach(lc, open_views)
		invalidate_view(lfirst(lc), relid);
	hash_seq_init(&status, followers);
	while ((entry = hash_seq_search(&status)) != NULL)
		if (!OidIsValid(relid) || entry->table == relid)
			entry->valid = false;
}

static void
on_plan_input(Datum arg, int cache, uint32 hash)
{
	ListCell   *lc;

	foreach(lc, open_views)
	{
		MrLocalView *local = lfirst(lc);

		local->view->plan = NULL;
		/* how its rows are shown is compiled once */
		if (local->view->changes != NULL)
			local->valid = false;
	}
}

static void
on_type(Datum arg, int cache, uint32 hash)
{
	ListCell   *lc;

	foreach(lc, open_views)
		mr_take_type_changed(((MrLocalView *) lfirst(lc))->view, cache, hash);
}

static void
watch_invalidations(void)
{
	HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(Followers)};

	if (followers != NULL)
		return;
	followers = hash_create("millrace followers of tables", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	CacheRegisterRelcacheCallback(on_relcache, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, on_plan_input, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, on_type, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, on_plan_input, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, on_plan_input, (Datum) 0);
}

/* ---------- tables ---------- */

static void
read_followers(Followers *entry)
{
	List	   *views;
	ListCell   *lc;

	entry->built = false;
	entry->valid = true;
	/* as it is with the table locked, and not when the transaction began */
	PushActiveSnapshot(GetLatestSnapshot());
	/* the extension may have been dropped in this transaction */
	views = OidIsValid(mr_catalog_extension_oid()) ? mr_catalog_views_of_stream(entry->table) : NIL;
	PopActiveSnapshot();
	if (entry->views != NULL)
		pfree(entry->views);
	entry->views = MemoryContextAlloc(CacheMemoryContext, sizeof(Oid) * (list_length(views) + 1));
	entry->n = 0;
	foreach(lc, views)
	{
		const MrView *view = lfirst(lc);

		if (view->active && !view->failed)
			entry->views[entry->n++] = view->view;
	}
	entry->built = true;
}

List *
mr_local_views_of(Oid table)
{
	Followers  *entry;
	List	   *result = NIL;
	bool		found;

	watch_invalidations();
	entry = hash_search(followers, &table, HASH_ENTER, &found);
	if (!found)
		memset((char *) entry + sizeof(Oid), 0, sizeof(Followers) - sizeof(Oid));
	while (!entry->built || !entry->valid)
		read_followers(entry);
	for (int i = 0; i < entry->n; i++)
		result = lappend_oid(result, entry->views[i]);
	return result;
}

/* ---------- views ---------- */

static char *
qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid));
}

/* what stands for the stream in messages */
static MrStream *
describe_tables(const List *tables)
{
	MrStream   *stream = palloc0(sizeof(MrStream));
	ListCell   *lc;

	foreach(lc, tables)
		stream->name = stream->name == NULL ? qualified_name(lfirst_oid(lc)) :
		psprintf("%s, %s", stream->name, qualified_name(lfirst_oid(lc)));
	return stream;
}

/* into the current context, which is local->context, too */
static void
fill_view(MrLocalView *local, MrView *view)
{
	MrIngestView *result = palloc0(sizeof(MrIngestView));
	MrGuise		guise;

	mr_view_sync(view);			/* a dump does not keep all of it together */
	local->tables = mr_catalog_tables_of_view(view->target);
	local->ingest.context = local->context;
	local->ingest.valid = &local->valid;
	local->ingest.stream = describe_tables(local->tables);
	local->alone = list_make1(result);
	local->ingest.views = local->alone;
	result->view = view;
	result->owner = mr_relation_owner(view->view);
	result->name = qualified_name(view->view);
	mr_guise_begin(&guise, result->owner, view->settings);
	result->analysis = mr_view_reanalyze(view);
	result->changes = mr_changes_create(view, result->analysis);
	result->merge = mr_merge_create(result->analysis, view->view, view->matrel, result->changes);
	mr_guise_end(&guise);
	result->plan_context = AllocSetContextCreate(local->context, "millrace plan", ALLOCSET_DEFAULT_SIZES);
	local->view = result;
}

MrLocalView *
mr_local_view_open_once(const MrView *view)
{
	MrLocalView *local = palloc0(sizeof(MrLocalView));

	local->relid = view->view;
	local->context = CurrentMemoryContext;
	local->valid = true;
	fill_view(local, unconstify(MrView *, view));
	return local;
}

/* with the view locked: as the catalog has it now; NULL when it is gone, or takes no rows */
static MrView *
read_view(Oid relid)
{
	MrView	   *view;

	PushActiveSnapshot(GetLatestSnapshot());
	view = mr_catalog_view(relid);
	PopActiveSnapshot();
	return view == NULL || !view->active || view->failed || get_rel_name(relid) == NULL ? NULL : view;
}

/* below CacheMemoryContext once it is complete */
static MrLocalView *
open_view(Oid relid)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "millrace local view",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	MrView	   *view = read_view(relid);
	MrLocalView *local;

	if (view == NULL)
	{
		MemoryContextSwitchTo(old);
		MemoryContextDelete(context);
		return NULL;
	}
	local = mr_local_view_open_once(view);
	MemoryContextSetParent(context, CacheMemoryContext);
	MemoryContextSwitchTo(CacheMemoryContext);
	open_views = lappend(open_views, local);
	MemoryContextSwitchTo(old);
	return local;
}

static void
close_view(MrLocalView *local)
{
	open_views = list_delete_ptr(open_views, local);
	MemoryContextDelete(local->context);
}

/* NULL: it is not open, or must not be used again, and is closed, unless it is pinned */
static MrLocalView *
find_view(Oid relid)
{
	ListCell   *lc;

	foreach(lc, open_views)
	{
		MrLocalView *local = lfirst(lc);

		if (local->relid != relid || (local->pinned && !local->valid))
			continue;
		if (local->valid)
			return local;
		close_view(local);
		return NULL;
	}
	return NULL;
}

static void
lock_view(const MrIngestView *view)
{
	LockRelationOid(view->view->view, AccessShareLock);
	LockRelationOid(view->view->definition, AccessShareLock);
	LockRelationOid(view->view->matrel, RowExclusiveLock);
	if (view->changes)
		LockRelationOid(mr_changes_table(view->changes), RowExclusiveLock);
}

MrLocalView *
mr_local_view_open(Oid relid)
{
	MrLocalView *local;

	watch_invalidations();
	for (;;)
	{
		local = find_view(relid);
		if (local == NULL)
		{
			LockRelationOid(relid, AccessShareLock);
			local = open_view(relid);
			if (local == NULL)
				return NULL;
		}
		lock_view(local->view);
		if (local->valid)
			return local;
	}
}

/* which relations a plan reads is known once there was one */
static bool
is_planned(const MrIngestView *view)
{
	return view->plan != NULL || view->relations != NIL;
}

static void
plan_first(MrIngestView *view)
{
	MrGuise		guise;

	mr_guise_begin(&guise, view->owner, view->view->settings);
	mr_take_plan(view);
	mr_guise_end(&guise);
}

/* what is read while a view is opened is locked before; *local NULL: as mr_local_view_open */
static bool
try_open(Oid relid, MrLocalView **local, MrBusy *busy)
{
	MrView	   *view;

	if (!mr_try_lock(relid, AccessShareLock, busy))
		return false;
	if (*local == NULL)
	{
		view = read_view(relid);
		if (view == NULL)
			return true;
		if (!mr_try_lock_to_open(view, busy))
			return false;
		*local = open_view(relid);
	}
	if (*local != NULL && (*local)->valid && !is_planned((*local)->view))
		plan_first((*local)->view);
	return true;
}

/* an error is the view's, and so is the time that it takes */
static bool
try_open_blamed(Oid relid, MrLocalView **local, MrBusy *busy)
{
	bool		result;

	mr_take_blame(relid);
	mr_view_limit_begin(relid, NULL, true);
	PushActiveSnapshot(GetLatestSnapshot());
	result = try_open(relid, local, busy);
	PopActiveSnapshot();
	mr_take_done();
	return result;
}

bool
mr_local_view_try_open(Oid relid, MrLocalView **result, MrBusy *busy)
{
	MrLocalView *local;

	watch_invalidations();
	*result = NULL;
	for (;;)
	{
		local = find_view(relid);
		if (local == NULL || !is_planned(local->view))
		{
			if (!try_open_blamed(relid, &local, busy))
				return false;
			if (local == NULL)
				return true;
		}
		if (!mr_try_lock_to_take(local->view, busy))
			return false;
		if (local->valid)
			break;
	}
	*result = local;
	return true;
}

void
mr_local_view_tidy(void)
{
	ListCell   *lc;

	foreach(lc, open_views)
	{
		MrLocalView *local = lfirst(lc);

		if (local->valid || local->pinned)
			continue;
		open_views = foreach_delete_current(open_views, lc);
		MemoryContextDelete(local->context);
	}
}

void
mr_local_view_forget_all(void)
{
	ListCell   *lc;

	foreach(lc, open_views)
		((MrLocalView *) lfirst(lc))->valid = false;
}
