/*
 * view/shadow.c
 *		rebuild(): a view's contents are computed again, beside the present ones.
 *
 * The new contents grow in a shadow: a matrel of its own, which a feed of its own in each of
 * the view's streams fills, from wherever the rebuild starts.  To ingest, a shadow is a view
 * like any other (one that catches up, joins the live feed, can fail or be deactivated),
 * and meanwhile the view itself is maintained as before.  When the shadow holds as much as
 * the view, the supervisor exchanges the two matrels' contents; see ingest/exchange.c.
 *
 * So a rebuild that fails, or is killed, leaves the view as it is, and goes on where it
 * stood.  The shadow lies in the extension's schema and goes with the view; which role runs
 * the query, and what it is called, is looked up at the view whenever a worker opens it.
 *
 * Locking: ShareUpdateExclusiveLock on the view lets one session at a time change its shadow,
 * and keeps the view from being dropped or altered meanwhile; readers do not mind.
 */
#include "millrace.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog_rebuild.h"
#include "catalog_table.h"
#include "failpoint.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "shmem.h"
#include "storage/lmgr.h"
#include "stream/option.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "view/guise.h"
#include "view/local.h"
#include "view/relations.h"
#include "view/shadow.h"
#include "view/swap.h"
#include "view/target.h"

PG_FUNCTION_INFO_V1(mr_rebuild);
PG_FUNCTION_INFO_V1(mr_cancel_rebuild);

/* ---------- checks ---------- */

/* the view, locked and checked: it may have been dropped while we waited for the lock */
static MrView *
lock_target(FunctionCallInfo fcinfo, const char *function)
{
	Oid			relid = mr_target_relation(fcinfo);

	mr_target_require_command(function);
	PreventCommandDuringRecovery(function);
	mr_target_refuse_transform(mr_target_view(relid),
							   "To write all rows again, empty its target, drop the transform and create it again.");
	mr_target_require_owner(relid);
	LockRelationOid(relid, ShareUpdateExclusiveLock);
	return mr_target_view(relid);
}

/* the contents must still be what the declared query gives */
static MrViewAnalysis *
analyze(const MrView *view)
{
	MrViewAnalysis *analysis;
	Relation	rel;
	MrGuise		guise;

	mr_guise_begin(&guise, mr_relation_owner(view->view), view->settings);
	analysis = mr_view_reanalyze(view);
	mr_guise_end(&guise);
	rel = table_open(view->matrel, AccessShareLock);
	mr_relations_check_matrel(rel, analysis->columns);
	table_close(rel, NoLock);
	return analysis;
}

/* ---------- making ---------- */

static void
start_in_stream(const MrView *view, Oid shadow, Oid stream, const char *start_at)
{
	int64		feed = mr_catalog_insert_feed(stream);

	(void) mr_stream_get(stream);	/* what a worker could not read is an
									 * error now */
	mr_catalog_insert_shadow_stream(view->view, shadow, stream, feed);
	if (start_at == NULL)
		mr_start_at_repeat(view->view, shadow, stream, feed);
	else
		mr_start_at_store(start_at, shadow, stream, feed);
}

/* the row that is there from the start */
static void
insert_initial_row(const MrView *view, Oid shadow, const MrViewAnalysis *analysis)
{
	MrGuise		guise;

	mr_guise_begin(&guise, mr_relation_owner(view->view), view->settings);
	mr_view_insert_initial_row(analysis, shadow);
	mr_guise_end(&guise);
}

static void
create_shadow(const MrView *view, const char *start_at)
{
	MrViewAnalysis *analysis = analyze(view);
	Oid			shadow = mr_relations_create_shadow(get_rel_name(view->view), view->matrel);
	ListCell   *lc;

	MR_FAILPOINT("rebuild-relations");
	mr_catalog_insert_shadow(view->view, shadow, start_at);
	insert_initial_row(view, shadow, analysis);
	foreach(lc, mr_catalog_streams_of_view(view->view))
		start_in_stream(view, shadow, ((MrFeed *) lfirst(lc))->stream, start_at);
	MR_FAILPOINT("rebuild-feeds");
	mr_relations_depend_shadow(mr_catalog_shadow_of(view->view));
	mr_catalog_changed();
}

bool
mr_shadow_drop(Oid view)
{
	MrView	   *shadow = mr_catalog_shadow_of(view);

	if (shadow == NULL)
		return false;
	mr_relations_drop_shadow(shadow);
	mr_catalog_delete_view(shadow->view);
	mr_shmem_forget_counters(shadow->view);
	mr_catalog_changed();
	return true;
}

/* rebuild(view, start_at); see INTERFACE.  A rebuild that is under way starts again. */
Datum
mr_rebuild(PG_FUNCTION_ARGS)
{
	char	   *start_at = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	MrView	   *view;

	mr_target_require_preload();
	if (start_at != NULL)
		mr_start_at_check(start_at);
	view = lock_target(fcinfo, "rebuild()");
	if (mr_catalog_tables_of_view(view->view) != NIL)
	{
		mr_local_recompute(view, start_at);
		PG_RETURN_VOID();
	}
	(void) mr_shadow_drop(view->view);
	create_shadow(view, start_at);
	MR_FAILPOINT("rebuild-done");
	PG_RETURN_VOID();
}

Datum
mr_cancel_rebuild(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(mr_shadow_drop(lock_target(fcinfo, "cancel_rebuild()")->view));
}

/* ---------- taking into use ---------- */

void
mr_shadow_exchange(const MrView *shadow)
{
	Oid			matrel = mr_catalog_view(shadow->target)->matrel;

	mr_swap_contents(matrel, shadow->matrel);
	MR_FAILPOINT("exchange-swapped");
	mr_relations_drop_shadow(shadow);
	MR_FAILPOINT("exchange-shadow-dropped");
	mr_swap_rename_toast(matrel);
	mr_catalog_adopt_shadow(shadow);
	MR_FAILPOINT("exchange-adopted");
	mr_shmem_forget_counters(shadow->view);
	mr_shmem_forget_excess(shadow->target);
	mr_catalog_changed();
}
