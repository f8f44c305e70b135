/*
 * ingest/part.c
 *		A view leaves the others of its feeds: it has failed, or is only to be left in peace.
 *
 * It gets a feed of its own in each of its streams, where it stands, so nothing is lost.  The
 * locks are those of deactivate(): the feeds, their rows, then the view's.
 */
#include "millrace.h"

#include "access/xact.h"
#include "catalog_feed_lock.h"
#include "ingest/lock.h"
#include "ingest/part.h"
#include "transaction.h"
#include "utils/snapmgr.h"

/* for a row of the catalog, by who must not wait; shorter than the deadlock detector's */
#define TRY_LOCK_TIMEOUT	"500ms"

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

/* false: it is not to be helped any more */
static bool
leave(Oid view, MrParting how, const char *error)
{
	List	   *feeds;
	ListCell   *lc;

	if (!lock_active_view(view, &feeds))
		return false;
	foreach(lc, feeds)
	{
		MrFeed	   *feed = lfirst(lc);
		int64		own;

		/*
		 * nobody is held up there, and its own would go on without being told
		 * to
		 */
		if (feed->stopped && how != MR_PART_FAILED)
			continue;
		own = mr_catalog_split_view(view, feed->stream, feed->id);
		/* nobody has accepted one: it would be met again */
		mr_catalog_set_other_cluster(own, NULL);
		if (how != MR_PART_FAILED)
			mr_catalog_set_trouble(own, error, how == MR_PART_SLOW);
	}
	mr_catalog_changed();
	return true;
}

static void
part_with_view(Oid view, MrParting how, const char *error, const char *lock_timeout)
{
	mr_start_transaction();
	if (lock_timeout != NULL)
		mr_set_lock_timeout(lock_timeout);
	PushActiveSnapshot(GetTransactionSnapshot());
	if (OidIsValid(mr_catalog_extension_oid()) && leave(view, how, error) && how == MR_PART_FAILED)
		mr_catalog_set_view_state(view, true, true, error);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

void
mr_ingest_part_with_view(Oid view, MrParting how, const char *error)
{
	part_with_view(view, how, error, NULL);
}

bool
mr_ingest_try_part_with_view(Oid view, MrParting how, const char *error)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool result = true;

	PG_TRY();
	{
		part_with_view(view, how, error, TRY_LOCK_TIMEOUT);
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
