/*
 * catalog_feed_lock.c
 *		Locks of feeds.
 *
 * A feed's views, and so the feeds of a view, may change while we wait for its lock: what counts
 * is what they are once we have it.
 */
#include "millrace.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "catalog_feed.h"
#include "catalog_feed_lock.h"
#include "failpoint.h"
#include "subtransaction.h"
#include "utils/array.h"
#include "utils/memutils.h"

/* ---------- heavyweight ---------- */

void
mr_catalog_lock_feed(int64 feed, LOCKMODE mode)
{
	mr_catalog_lock_object("feed", (Oid) feed, mode);
}

bool
mr_catalog_try_lock_feed(int64 feed)
{
	return mr_catalog_try_lock_object("feed", (Oid) feed, ExclusiveLock);
}

static void
lock_feed_of(Oid view, Oid stream)
{
	for (;;)
	{
		int64		feed = mr_catalog_feed_of(view, stream);

		mr_catalog_lock_feed(feed, ExclusiveLock);
		if (mr_catalog_feed_of(view, stream) == feed)
			return;
	}
}

void
mr_catalog_lock_feeds_of_views(const List *views)
{
	ListCell   *lc;
	ListCell   *lf;

	foreach(lc, views)
		foreach(lf, mr_catalog_streams_of_view(lfirst_oid(lc)))
		if (!((MrFeed *) lfirst(lf))->live)
		mr_catalog_lock_feed(((MrFeed *) lfirst(lf))->id, ExclusiveLock);
	foreach(lc, views)
		foreach(lf, mr_catalog_streams_of_view(lfirst_oid(lc)))
		lock_feed_of(lfirst_oid(lc), ((MrFeed *) lfirst(lf))->stream);
}

List *
mr_catalog_lock_feeds_of_view(Oid view)
{
	mr_catalog_lock_feeds_of_views(list_make1_oid(view));
	return mr_catalog_streams_of_view(view);
}

/* ---------- rows ---------- */

static void
lock_feed_row(int64 feed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};

	mr_catalog_lock_to_write("feed");
	mr_catalog_run_alone("SELECT FROM millrace.feed WHERE id = $1 FOR UPDATE", 1, types, values, NULL);
}

int
mr_catalog_compare_ids(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return (x > y) - (x < y);
}

void
mr_catalog_lock_feed_rows_by_id(int64 *feeds, int n)
{
	qsort(feeds, n, sizeof(int64), mr_catalog_compare_ids);
	for (int i = 0; i < n; i++)
		if (i == 0 || feeds[i] != feeds[i - 1])
			lock_feed_row(feeds[i]);
}

static bool
try_lock_feed_row(int64 feed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};

	mr_catalog_lock_to_write("feed");
	return mr_catalog_run_alone("SELECT FROM millrace.feed WHERE id = $1 FOR UPDATE SKIP LOCKED", 1, types, values, NULL) > 0;
}

int
mr_catalog_try_lock_feed_rows_by_id(int64 *feeds, int n)
{
	int			result = 0;

	qsort(feeds, n, sizeof(int64), mr_catalog_compare_ids);
	for (int i = 0; i < n; i++)
	{
		int64		feed = feeds[i];

		if ((result == 0 || feeds[result - 1] != feed) && try_lock_feed_row(feed))
			feeds[result++] = feed;
	}
	return result;
}

static int64 *
feeds_of_views(Datum views, int *n)
{
	Oid			types[] = {OIDARRAYOID};
	MrCatalogScope scope;
	int64	   *result;

	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT DISTINCT feed FROM millrace.view_stream WHERE view = ANY ($1) ORDER BY feed",
				   true, 1, types, &views, NULL);
	result = mr_catalog_int8_rows(&scope, 1, n);
	mr_catalog_end(&scope);
	return result;
}

/* false: by the time we had the rows, the views followed other feeds */
static bool
lock_rows_of_views(Datum views)
{
	int			n;
	int			nnow;
	int64	   *feeds = feeds_of_views(views, &n);
	int64	   *now;

	mr_catalog_lock_feed_rows_by_id(feeds, n);
	MR_FAILPOINT("drop-feed-rows-locked");
	now = feeds_of_views(views, &nnow);
	return nnow == n && memcmp(now, feeds, sizeof(int64) * n) == 0;
}

/*
 * In a subtransaction, whose end gives back rows of the wrong feeds: to keep them and wait for
 * others would be out of order.
 */
static bool
try_lock_rows_of_views(Datum views)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool locked = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		locked = lock_rows_of_views(views);
		if (locked)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ReThrowError(mr_subtransaction_failed(context, owner));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return locked;
}

void
mr_catalog_lock_feed_rows(const List *views)
{
	Datum	   *elems = palloc(sizeof(Datum) * (list_length(views) + 1));
	Datum		array;
	int			n = 0;
	ListCell   *lc;

	foreach(lc, views)
		elems[n++] = ObjectIdGetDatum(lfirst_oid(lc));
	array = PointerGetDatum(construct_array(elems, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
	while (!try_lock_rows_of_views(array))
		;
}
