/*
 * control.c
 *		activate, deactivate, truncate_continuous_view: what an owner does to a view or to
 *		all views of a stream.
 *
 * A view that is deactivated leaves its feed for one of its own, which keeps the position.
 * The feed's offset rows are locked meanwhile, so the position is exact: what the view holds
 * is what lies before it.  Activating only says that somebody should care; the supervisor
 * starts a worker, which catches up and joins the live feed.
 *
 * A view over tables has no position.  Deactivated, it misses rows, and is computed anew from
 * what the tables hold when it is activated.
 *
 * In a database that was restored or copied, all feeds are away, and activating makes them
 * this database's.
 *
 * What is said of a view holds for its shadow, too, if it is being rebuilt.
 */
#include "millrace.h"

#include "access/table.h"
#include "catalog_feed_lock.h"
#include "catalog_table.h"
#include "catalog_view.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/tablecmds.h"
#include "executor/spi.h"
#include "failpoint.h"
#include "fmgr.h"
#include "ingest/dead_letter.h"
#include "miscadmin.h"
#include "planted.h"
#include "shmem.h"
#include "storage/lmgr.h"
#include "stream/local_rows.h"
#include "stream/option.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "view/contents.h"
#include "view/ddl.h"
#include "view/guise.h"
#include "view/local.h"
#include "view/relations.h"
#include "view/shadow.h"
#include "view/target.h"

PG_FUNCTION_INFO_V1(mr_activate);
PG_FUNCTION_INFO_V1(mr_deactivate);
PG_FUNCTION_INFO_V1(mr_truncate_continuous_view);

/* ---------- deactivate ---------- */

static void
deactivate_view(Oid relid)
{
	List	   *feeds = mr_catalog_lock_feeds_of_view(relid);
	const MrView *view = mr_catalog_view(relid);
	ListCell   *lc;

	MR_FAILPOINT("deactivate-feeds-locked");
	/* somebody may have dropped or deactivated it while we waited */
	if (view == NULL || !view->active)
		return;
	foreach(lc, feeds)
	{
		MrFeed	   *feed = lfirst(lc);

		(void) mr_catalog_split_view(relid, feed->stream, feed->id);
	}
	mr_catalog_set_view_state(relid, false, view->failed, view->last_error);
}

static List *
oids_of(const List *views)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, views)
		result = lappend_oid(result, ((MrView *) lfirst(lc))->view);
	return result;
}

/* all feeds before the rows */
static void
lock_feeds(const List *views)
{
	List	   *oids = oids_of(views);

	mr_catalog_lock_feeds_of_views(oids);
	mr_catalog_lock_feed_rows(oids);
}

Datum
mr_deactivate(PG_FUNCTION_ARGS)
{
	Oid			relid = mr_target_relation(fcinfo);
	bool		is_stream;
	List	   *views = mr_target_views(relid, &is_stream);
	ListCell   *lc;

	mr_target_require_command("deactivate()");
	mr_target_require_owner(relid);
	lock_feeds(views);
	foreach(lc, views)
		deactivate_view(((MrView *) lfirst(lc))->view);
	MR_FAILPOINT("deactivate-done");
	mr_catalog_changed();
	PG_RETURN_VOID();
}

/* ---------- activate ---------- */

/*
 * A feed that stopped goes on: past the gap if it was one.  A view that was deactivated after
 * that stands before the gap as well, in a feed that has not stopped.
 */
static void
restart_feed(const MrFeed *feed)
{
	mr_catalog_pass_gaps(feed->id);
	if (feed->stopped)
	{
		mr_catalog_restart_feed(feed->id);
		mr_shmem_forget_excess(feed->stream);
	}
}

static void
activate_view(const MrView *view)
{
	ListCell   *lc;

	mr_catalog_adopt_view(view->view);
	MR_FAILPOINT("activate-adopted");
	foreach(lc, mr_catalog_streams_of_view(view->view))
	{
		MrFeed	   *feed = lfirst(lc);

		restart_feed(feed);
		if (!view->active || view->failed)
			mr_catalog_bump_feed(feed->id);
	}
	if (view->active && !view->failed)
		return;
	if (mr_catalog_tables_of_view(view->view) != NIL)
		mr_local_recompute(view, NULL); /* it has missed rows */
	mr_shmem_forget_excess(view->view);
	mr_catalog_set_view_state(view->view, true, false, NULL);
}

Datum
mr_activate(PG_FUNCTION_ARGS)
{
	Oid			relid = mr_target_relation(fcinfo);
	bool		is_stream;
	List	   *views = mr_target_views(relid, &is_stream);
	ListCell   *lc;

	mr_target_require_command("activate()");
	mr_target_require_preload();
	mr_target_require_owner(relid);
	mr_catalog_lock_feed_rows(oids_of(views));
	if (is_stream)
		mr_catalog_adopt_stream(relid);
	foreach(lc, views)
		activate_view(lfirst(lc));
	MR_FAILPOINT("activate-done");
	mr_catalog_changed();
	PG_RETURN_VOID();
}

/* ---------- truncate ---------- */

/*
 * Not by name: while we wait for the lock, the schema's owner could make the name mean a
 * table with triggers of his own, which would run with the extension owner's rights.
 */
static void
truncate_matrel(Oid matrel)
{
	Relation	rel = table_open(matrel, AccessExclusiveLock);
	List	   *logged = RelationIsLogicallyLogged(rel) ? list_make1_oid(matrel) : NIL;
	MrOwnerScope scope;

	CheckTableNotInUse(rel, "TRUNCATE");
	mr_planted_check(rel);
	mr_owner_enter(&scope);
	mr_compat_truncate(list_make1(rel), list_make1_oid(matrel), logged);
	mr_owner_leave(&scope);
	table_close(rel, NoLock);
}

Datum
mr_truncate_continuous_view(PG_FUNCTION_ARGS)
{
	Oid			relid = mr_target_relation(fcinfo);
	MrView	   *view = mr_target_view(relid);
	MrViewAnalysis *analysis;
	MrGuise		guise;
	ListCell   *lc;

	mr_target_require_command("truncate_continuous_view()");
	mr_target_refuse_transform(view, "Truncate its target; the transform goes on from where it stands.");
	mr_target_require_owner(relid);
	/* the view before its parts, as others do */
	LockRelationOid(relid, ShareUpdateExclusiveLock);
	view = mr_target_view(relid);
	LockRelationOid(view->matrel, AccessExclusiveLock);
	foreach(lc, mr_catalog_tables_of_view(relid))
		mr_local_rows_skip(lfirst_oid(lc), relid);
	/* rows of feeds come before dead letters */
	(void) mr_shadow_drop(view->view);	/* or all would come back */
	mr_catalog_lock_letters_of_views(list_make1_oid(relid));
	mr_dead_letter_forget(relid);
	mr_guise_begin(&guise, mr_relation_owner(relid), view->settings);
	analysis = mr_view_reanalyze(view);
	MR_FAILPOINT("truncate-locked");
	mr_contents_empty(mr_changes_create(view, analysis), analysis, view->matrel, truncate_matrel);
	mr_guise_end(&guise);
	MR_FAILPOINT("truncate-done");
	PG_RETURN_VOID();
}
