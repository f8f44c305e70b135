/*
 * catalog_rebuild.c
 *		The rows of shadows in millrace's own tables; see there, and catalog.c.
 *
 * When is a shadow ready?  Where it follows the live feed of each of its streams, and has
 * either stood at the stream's end or at the live position before, or holds at least what
 * its view holds there.
 */
#include "millrace.h"

#include "catalog_feed_lock.h"
#include "catalog_rebuild.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* the shadows that a statement names by OID */
static List *
shadows_from(const char *sql, int nargs, const Oid *types, const Datum *values)
{
	MrCatalogScope scope;
	MemoryContext old;
	List	   *oids = NIL;
	List	   *result = NIL;
	ListCell   *lc;

	mr_catalog_begin(&scope);
	mr_catalog_run(sql, true, nargs, types, values, NULL);
	old = MemoryContextSwitchTo(scope.caller);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		oids = lappend_oid(oids, DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
																SPI_tuptable->tupdesc, 1, &isnull)));
	}
	MemoryContextSwitchTo(old);
	mr_catalog_end(&scope);
	foreach(lc, oids)
	{
		MrView	   *view = mr_catalog_view(lfirst_oid(lc));

		if (view != NULL)
			result = lappend(result, view);
	}
	return result;
}

MrView *
mr_catalog_shadow_of(Oid view)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view)};
	List	   *shadows = shadows_from("SELECT view::oid FROM millrace.continuous_view WHERE rebuilds = $1",
									   1, types, values);

	return shadows == NIL ? NULL : linitial(shadows);
}

void
mr_catalog_insert_shadow(Oid view, Oid shadow, const char *start_at)
{
	Oid			types[] = {OIDOID, OIDOID, TEXTOID};
	Datum		values[] = {ObjectIdGetDatum(view), ObjectIdGetDatum(shadow),
	start_at ? CStringGetTextDatum(start_at) : (Datum) 0};

	/* whatever columns there are */
	mr_catalog_run_alone("INSERT INTO millrace.continuous_view SELECT r.* FROM millrace.continuous_view v,"
						 " jsonb_populate_record(v, jsonb_build_object('view', $2::text, 'matrel', $2::text,"
						 " 'rebuilds', $1::text, 'start_at', coalesce($3, v.start_at), 'active', true,"
						 " 'failed', false, 'last_error', NULL, 'last_error_at', NULL)) r"
						 " WHERE v.view = $1", 3, types, values, start_at ? "   " : "  n");
}

void
mr_catalog_insert_shadow_stream(Oid view, Oid shadow, Oid stream, int64 feed)
{
	Oid			types[] = {OIDOID, OIDOID, OIDOID, INT8OID};
	Datum		values[] = {ObjectIdGetDatum(view), ObjectIdGetDatum(shadow),
	ObjectIdGetDatum(stream), Int64GetDatum(feed)};

	mr_catalog_run_alone("INSERT INTO millrace.view_stream"
						 " (view, stream, feed, columns, column_names, home_cluster, home_database, home_extension)"
						 " SELECT $2, stream, $4, columns, column_names, home_cluster, home_database, home_extension FROM millrace.view_stream WHERE view = $1 AND stream = $3",
						 4, types, values, NULL);
}

/* o: the shadow's place in one stream; v: the view's */
#define HOLDS_AS_MUCH \
	" NOT EXISTS (SELECT FROM millrace.feed_offset p WHERE p.feed = v.feed AND NOT EXISTS" \
	" (SELECT FROM millrace.feed_offset q WHERE q.feed = o.feed AND q.partition = p.partition" \
	" AND q.next_offset >= p.next_offset))"

bool
mr_catalog_shadows_reached(int64 feed, bool at_end)
{
	Oid			types[] = {INT8OID, BOOLOID};
	Datum		values[] = {Int64GetDatum(feed), BoolGetDatum(at_end)};

	return mr_catalog_run_alone("UPDATE millrace.view_stream o SET reached = true FROM millrace.continuous_view c, millrace.view_stream v"
								" WHERE o.feed = $1 AND NOT o.reached AND c.view = o.view AND v.view = c.rebuilds AND v.stream = o.stream"
								" AND ($2 OR" HOLDS_AS_MUCH ")", 2, types, values, NULL) > 0;
}

List *
mr_catalog_ready_shadows(void)
{
	return shadows_from("SELECT c.view::oid FROM millrace.continuous_view c"
						" WHERE c.rebuilds IS NOT NULL AND c.active AND NOT c.failed"
						" AND NOT EXISTS (SELECT FROM millrace.view_stream o"
						" JOIN millrace.feed f ON f.id = o.feed"
						" LEFT JOIN millrace.view_stream v ON v.view = c.rebuilds AND v.stream = o.stream"
						" WHERE o.view = c.view AND NOT (f.live AND (o.reached OR v.feed = o.feed OR"
						HOLDS_AS_MUCH ")))"
						" ORDER BY c.view::oid", 0, NULL, NULL);
}

/* what a view's feed has counted is not to go with it */
static void
carry_counters(const MrView *shadow)
{
	ListCell   *lc;

	foreach(lc, mr_catalog_streams_of_view(shadow->target))
	{
		const MrFeed *feed = lfirst(lc);
		int64		into = mr_catalog_feed_of(shadow->view, feed->stream);

		if (into != 0 && into != feed->id)
			mr_catalog_carry_counters(feed->id, into);
	}
}

void
mr_catalog_adopt_shadow(const MrView *shadow)
{
	Oid			types[] = {OIDOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(shadow->target), ObjectIdGetDatum(shadow->view)};

	mr_catalog_lock_feed_rows(list_make2_oid(shadow->target, shadow->view));
	carry_counters(shadow);
	mr_catalog_run_alone("UPDATE millrace.feed SET generation = generation + 1 WHERE id IN"
						 " (SELECT feed FROM millrace.view_stream WHERE view IN ($1, $2))", 2, types, values, NULL);
	mr_catalog_run_alone("DELETE FROM millrace.view_stream WHERE view = $1 AND view <> $2", 2, types, values, NULL);
	mr_catalog_run_alone("UPDATE millrace.view_stream SET view = $1 WHERE view = $2", 2, types, values, NULL);
	mr_catalog_run_alone("DELETE FROM millrace.view_start WHERE view = $1 AND view <> $2", 2, types, values, NULL);
	mr_catalog_run_alone("UPDATE millrace.view_start SET view = $1 WHERE view = $2", 2, types, values, NULL);
	mr_catalog_run_alone("DELETE FROM millrace.dead_letter WHERE view = $1 AND view <> $2", 2, types, values, NULL);
	mr_catalog_run_alone("UPDATE millrace.dead_letter SET view = $1 WHERE view = $2", 2, types, values, NULL);
	mr_catalog_run_alone("UPDATE millrace.dead_letter"
						 " SET missed = array_replace(CASE WHEN $1 = $2 THEN missed"
						 " ELSE array_remove(missed, $1::regclass) END, $2::regclass, $1::regclass)"
						 " WHERE view IS NULL AND missed && ARRAY[$1, $2]::regclass[]", 2, types, values, NULL);
	mr_catalog_run_alone("UPDATE millrace.continuous_view v SET active = true, failed = false, last_error = NULL,"
						 " last_error_at = NULL, start_at = s.start_at"
						 " FROM millrace.continuous_view s WHERE v.view = $1 AND s.view = $2", 2, types, values, NULL);
	mr_catalog_run_alone("DELETE FROM millrace.continuous_view WHERE view = $2 AND view <> $1", 2, types, values, NULL);
}

/* ---------- who waits ---------- */

/*
 * One for all shadows: were there one for each, two who wait for different ones would be readers to each
 * other's, and wait for ever.  objsubid 1, as 0 is what merging locks.
 */
static void
set_wait_tag(LOCKTAG *tag)
{
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId,
					   get_relname_relid("continuous_view", mr_catalog_schema_oid()), InvalidOid, 1);
}

void
mr_catalog_shadow_wait_begin(void)
{
	LOCKTAG		tag;

	set_wait_tag(&tag);
	(void) LockAcquire(&tag, ShareLock, false, false);
}

void
mr_catalog_shadow_wait_end(void)
{
	LOCKTAG		tag;

	set_wait_tag(&tag);
	(void) LockRelease(&tag, ShareLock, false);
}

VirtualTransactionId *
mr_catalog_shadow_waiters(int *n)
{
	LOCKTAG		tag;

	set_wait_tag(&tag);
	return GetLockConflicts(&tag, ExclusiveLock, n);
}
