/*
 * exchange.c
 *		Rebuilt contents take the place of the old ones, as soon as nobody can notice.
 *
 * A shadow that has caught up follows the same live feeds as other views do, so any moment
 * between two batches is right: the feeds are locked, the two matrels exchange their
 * contents, the view gets the shadow's feeds, and all of it commits at once.
 *
 * Readers.  Files are exchanged, not rows, so a snapshot sees in the new file what was
 * committed when it was taken.  Snapshots older than the shadow's completion would see a hole:
 * those that exist when a shadow is first found ready must be gone before the exchange.  And
 * nobody may be reading the old file: its lock is waited for, but only for a moment, as
 * everybody who comes later waits behind us.  Where a transaction is in the way, we try again,
 * less and less often; both contents are maintained until then.
 *
 * Where the view keeps its changes, the two contents are compared before that, while the feeds
 * are locked but readers are not: neither changes meanwhile.
 *
 * Locks: feeds, those that are not live first, as elsewhere; the view, which is only tried; the
 * contents; then the old matrel.  What is waited for is waited for with a timeout that is
 * shorter than the deadlock detector's.  The shadow is only tried.
 */
#include "millrace.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog_feed_lock.h"
#include "catalog_rebuild.h"
#include "elapsed.h"
#include "failpoint.h"
#include "ingest/exchange.h"
#include "ingest/lock.h"
#include "ingest/recover.h"
#include "ingest/take.h"
#include "ingest/view_limit.h"
#include "miscadmin.h"
#include "shmem.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "transaction.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "view/contents.h"
#include "view/ddl.h"
#include "view/guise.h"
#include "view/relations.h"
#include "view/shadow.h"

#define FEED_LOCK_TIMEOUT	"500ms"
#define READ_LOCK_TIMEOUT	"200ms"
#define FIRST_PAUSE_MS		250
#define MAX_PAUSE_MS		10000
#define SNAPSHOT_PAUSE_MS	250 /* looking for old snapshots disturbs nobody */

/* a shadow that is ready, and what it waits for */
typedef struct Pending
{
	Oid			shadow;
	VirtualTransactionId *snapshots;	/* older than its being ready */
	int			nsnapshots;
	TransactionId limit;		/* their xmin is not beyond it */
	int			attempts;		/* that somebody was in the way of */
	TimestampTz not_before;
	bool		ready;			/* still */
} Pending;

static List *pending = NIL;		/* in TopMemoryContext */

/* ---------- snapshots ---------- */

/* transactions of this database with snapshots that may be that old, in the current context */
static VirtualTransactionId *
old_snapshots(TransactionId limit, int *n)
{
	return GetCurrentVirtualXIDs(limit, true, false, PROC_IS_AUTOVACUUM | PROC_IN_VACUUM, n);
}

static bool
contains(const VirtualTransactionId *ids, int n, VirtualTransactionId id)
{
	for (int i = 0; i < n; i++)
		if (VirtualTransactionIdEquals(ids[i], id))
			return true;
	return false;
}

/* are all snapshots gone that were there when the shadow became ready, but those who wait? */
static bool
old_snapshots_gone(Pending *shadow)
{
	int			n;
	int			nwaiters;
	VirtualTransactionId *now = old_snapshots(shadow->limit, &n);
	VirtualTransactionId *waiters;
	int			rest = 0;
	int			readers = 0;

	mr_start_transaction();
	waiters = mr_catalog_shadow_waiters(&nwaiters);
	for (int i = 0; i < shadow->nsnapshots; i++)
	{
		VirtualTransactionId id = shadow->snapshots[i];

		if (!contains(now, n, id))
			continue;
		shadow->snapshots[rest++] = id;
		if (!contains(waiters, nwaiters, id))
			readers++;
	}
	shadow->nsnapshots = rest;
	CommitTransactionCommand();
	return readers == 0;
}

/* ---------- what is pending ---------- */

static Pending *
find_pending(Oid shadow)
{
	ListCell   *lc;
	Pending    *result;
	MemoryContext old;

	foreach(lc, pending)
		if (((Pending *) lfirst(lc))->shadow == shadow)
		return lfirst(lc);
	old = MemoryContextSwitchTo(TopMemoryContext);
	result = palloc0(sizeof(Pending));
	result->shadow = shadow;
	result->limit = ReadNextTransactionId();
	result->snapshots = old_snapshots(result->limit, &result->nsnapshots);
	pending = lappend(pending, result);
	MemoryContextSwitchTo(old);
	return result;
}

/* forget those that are no longer ready */
static void
tidy_pending(void)
{
	ListCell   *lc;

	foreach(lc, pending)
	{
		Pending    *shadow = lfirst(lc);

		if (shadow->ready)
		{
			shadow->ready = false;
			continue;
		}
		pending = foreach_delete_current(pending, lc);
		pfree(shadow->snapshots);
		pfree(shadow);
	}
}

static void
pause_for(Pending *shadow, long pause, long *nap_ms)
{
	shadow->not_before = TimestampTzPlusMilliseconds(mr_steady_time(), pause);
	*nap_ms = Min(*nap_ms, pause);
}

/* somebody was in the way: less and less often */
static void
postpone(Pending *shadow, long *nap_ms)
{
	pause_for(shadow, Min((long) FIRST_PAUSE_MS << Min(shadow->attempts++, 16), MAX_PAUSE_MS), nap_ms);
}

/* ---------- the exchange ---------- */

static int
compare_feeds(const ListCell *a, const ListCell *b)
{
	const MrFeed *fa = lfirst(a);
	const MrFeed *fb = lfirst(b);

	if (fa->live != fb->live)
		return fa->live ? 1 : -1;
	return (fa->stream > fb->stream) - (fa->stream < fb->stream);
}

/* all feeds of the view and its shadow */
static void
lock_feeds(const MrView *shadow)
{
	List	   *feeds = list_concat(mr_catalog_streams_of_view(shadow->target),
									mr_catalog_streams_of_view(shadow->view));
	ListCell   *lc;

	list_sort(feeds, compare_feeds);
	foreach(lc, feeds)
		mr_catalog_lock_feed(((MrFeed *) lfirst(lc))->id, ExclusiveLock);
}

static bool
same_feeds(const List *before, const List *after)
{
	ListCell   *la;
	ListCell   *lb;

	if (list_length(before) != list_length(after))
		return false;
	forboth(la, before, lb, after)
		if (((MrFeed *) lfirst(la))->id != ((MrFeed *) lfirst(lb))->id)
		return false;
	return true;
}

/* with its locks: is it still as it was when they were asked for? */
static bool
is_still_ready(const MrView *shadow, const List *feeds, const List *view_feeds)
{
	ListCell   *lc;

	if (!same_feeds(feeds, mr_catalog_streams_of_view(shadow->view)) ||
		!same_feeds(view_feeds, mr_catalog_streams_of_view(shadow->target)) ||
		mr_catalog_view(shadow->target) == NULL)
		return false;
	foreach(lc, mr_catalog_ready_shadows())
		if (((MrView *) lfirst(lc))->view == shadow->view)
		return true;
	return false;
}

/*
 * What the exchange will change in the view, collected before anybody has to wait for it: with
 * the feeds and the contents locked, both contents stay as they are.  NULL: nobody wants to
 * know.
 */
static MrChanges *
compare(const MrView *view, const MrView *shadow)
{
	MrChanges  *changes = NULL;
	MrGuise		guise;

	mr_take_blame(shadow->view);
	mr_view_limit_begin(shadow->view, shadow, false);
	mr_guise_begin(&guise, mr_relation_owner(view->view), view->settings);
	if (mr_catalog_change_feed(view->view) != NULL)
	{
		MrViewAnalysis *analysis = mr_view_reanalyze(view);

		mr_catalog_lock_contents(view->view);
		mr_catalog_lock_contents(shadow->view);
		changes = mr_changes_create(view, analysis);
		mr_changes_begin(changes, work_mem);
		mr_contents_note_difference(changes, analysis, view->matrel, shadow->matrel);
	}
	mr_guise_end(&guise);
	mr_take_done();
	return changes;
}

/* where the view stands by now goes with the changes */
static void
tell_changes(const MrView *view, const MrView *shadow, MrChanges *changes)
{
	MrGuise		guise;

	mr_take_blame(shadow->view);
	mr_view_limit_begin(shadow->view, shadow, false);
	mr_guise_begin(&guise, mr_relation_owner(view->view), view->settings);
	mr_changes_write(changes, NULL);
	mr_guise_end(&guise);
	mr_take_done();
}

/* in a transaction; false, or ERROR 55P03, when somebody is in the way */
static bool
exchange(const MrView *shadow)
{
	List	   *feeds = mr_catalog_streams_of_view(shadow->view);
	List	   *view_feeds = mr_catalog_streams_of_view(shadow->target);
	MrView	   *view = mr_catalog_view(shadow->target);
	MrChanges  *changes;

	if (view == NULL)
		return false;
	mr_set_lock_timeout(FEED_LOCK_TIMEOUT);
	lock_feeds(shadow);
	MR_FAILPOINT("exchange-feeds-locked");
	if (!ConditionalLockRelationOid(shadow->target, ShareUpdateExclusiveLock) ||
		!is_still_ready(shadow, feeds, view_feeds))
		return false;
	changes = compare(view, shadow);
	mr_set_lock_timeout(READ_LOCK_TIMEOUT);
	LockRelationOid(view->matrel, AccessExclusiveLock);
	if (!ConditionalLockRelationOid(shadow->matrel, AccessExclusiveLock) ||
		!is_still_ready(shadow, feeds, view_feeds))
		return false;
	MR_FAILPOINT("exchange-locked");
	mr_shadow_exchange(shadow);
	MR_FAILPOINT("exchange-contents");
	if (changes)
		tell_changes(view, shadow, changes);
	return true;
}

/* true: it is done with, for better or worse */
static bool
try_exchange(const MrView *shadow, MemoryContext context)
{
	volatile bool done = false;

	PG_TRY();
	{
		mr_start_transaction();
		PushActiveSnapshot(GetTransactionSnapshot());
		done = exchange(shadow);
		PopActiveSnapshot();
		if (done)
		{
			CommitTransactionCommand();
			MR_FAILPOINT("exchange-committed");
		}
		else
			AbortCurrentTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;
		MrOverdue	overdue = mr_view_limit_exceeded();
		MrTakePhase phase;
		Oid			blamed = mr_ingest_after_error(&phase);

		MemoryContextSwitchTo(context);
		error = geterrcode() == ERRCODE_LOCK_NOT_AVAILABLE ? CopyErrorData() : mr_view_limit_report(overdue);
		AbortCurrentTransaction();
		FlushErrorState();
		/* or that of one that follows the view's changes */
		if (!OidIsValid(blamed))
			blamed = shadow->view;
		done = mr_recover_without_slot(blamed, error, overdue) && blamed == shadow->view;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return done;
}

/* who waits for a view looks again */
static void
tell(const List *streams)
{
	ListCell   *lc;

	foreach(lc, streams)
		ConditionVariableBroadcast(mr_shmem_progress(lfirst_oid(lc)));
}

/* the shadows that are ready, and the streams of each, in the current context */
static List *
read_ready(List **streams)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *result;
	ListCell   *lc;
	ListCell   *lf;

	mr_start_transaction();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(context);
	result = OidIsValid(mr_catalog_extension_oid()) ? mr_catalog_ready_shadows() : NIL;
	*streams = NIL;
	foreach(lc, result)
		foreach(lf, mr_catalog_streams_of_view(((MrView *) lfirst(lc))->view))
		* streams = lappend_oid(*streams, ((MrFeed *) lfirst(lf))->stream);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return result;
}

void
mr_exchange_shadows(long *nap_ms)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *streams;
	ListCell   *lc;
	bool		done = false;

	foreach(lc, read_ready(&streams))
	{
		const MrView *shadow = lfirst(lc);
		Pending    *wait = find_pending(shadow->view);
		TimestampTz now = mr_steady_time();

		wait->ready = true;
		if (wait->not_before > now)
			*nap_ms = Min(*nap_ms, (long) ((wait->not_before - now) / 1000) + 1);
		else if (!old_snapshots_gone(wait))
			pause_for(wait, SNAPSHOT_PAUSE_MS, nap_ms);
		else if (try_exchange(shadow, context))
			done = true;
		else
			postpone(wait, nap_ms);
		MemoryContextSwitchTo(context);
	}
	tidy_pending();
	if (done)
		tell(streams);
}
