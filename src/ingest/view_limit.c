/*
 * ingest/view_limit.c
 *		How long may a view take for a batch while others wait for it?
 *
 * A batch is one transaction of all views of a feed, so one view whose query does not end would
 * stop them all, whatever catches up with the feed, and who wants a lock on what the batch has
 * locked, as DROP VIEW does; and those that catch up are so many at a time.  The view is canceled when it has taken millrace.view_timeout and
 * somebody waits; its worker then gives it a feed of its own (recover.c).  By itself a view may
 * take as long as it likes.
 *
 * Whether somebody waits is asked when the time is up, and every second from then on, because
 * they may come later.  It is the timeout's handler that looks, since nothing else runs while a query does
 * not end.  So it takes no locks: it may see a wait that is over, or miss one until it looks
 * again.
 */
#include "millrace.h"

#include "ingest/view_limit.h"
#include "miscadmin.h"
#include "shmem.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "view/changes.h"

#include <signal.h>

#define ASK_AGAIN_MS		1000

static TimeoutId timeout;
static const MrIngest *const volatile *watched = NULL;
static volatile sig_atomic_t exceeded = false;
static volatile sig_atomic_t following = false;

static bool
locks_relation(const MrIngest *ingest, Oid relid)
{
	ListCell   *lc;

	if (relid == ingest->stream->relid || list_member_oid(ingest->followers, relid))
		return true;
	foreach(lc, ingest->views)
	{
		const MrIngestView *ingest_view = lfirst(lc);
		const MrView *view = ingest_view->view;

		if (relid == view->view || relid == view->definition || relid == view->matrel || relid == view->target ||
			relid == view->sink ||
			(ingest_view->changes != NULL && relid == mr_changes_table(ingest_view->changes)))
			return true;
	}
	return false;
}

/*
 * Who joins a feed wants its lock; who drops a view, the lock of the letters, which a step that
 * catches up may have.  That of a view's contents does not count: before its merge, it may be
 * another worker of the same feed that has it, and those of one view wait for each other.
 */
static bool
locks_object(const MrIngest *ingest, Oid objid)
{
	return objid == (Oid) ingest->feed->id || (!ingest->feed->live && objid == ingest->stream->relid);
}

/* is it of what a step has locked? */
static bool
is_ours(const MrIngest *ingest, const LOCKTAG *tag)
{
	switch (tag->locktag_type)
	{
		case LOCKTAG_RELATION:
			return tag->locktag_field1 == MyDatabaseId && locks_relation(ingest, tag->locktag_field2);
		case LOCKTAG_OBJECT:
			return tag->locktag_field1 == MyDatabaseId && locks_object(ingest, tag->locktag_field3);
		case LOCKTAG_TRANSACTION:	/* a row's */
			return tag->locktag_field1 == MyProc->xid;
		default:
			return false;
	}
}

static bool
is_awaited(const MrIngest *ingest)
{
	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		const volatile PGPROC *proc = &ProcGlobal->allProcs[i];
		const LOCK *lock = proc->waitLock;

		if (lock != NULL && proc != MyProc && is_ours(ingest, &lock->tag))
			return true;
	}
	return false;
}

/*
 * Does somebody wait for the view at work, which the one that it follows always does, for the step at
 * hand, or, as it catches up, for the place of its worker?
 */
static bool
others_wait(void)
{
	const MrIngest *ingest = *watched;

	if (following || mr_ingest_nviews() > 1)
		return true;
	if (ingest == NULL)
		return false;
	return ingest->joining || is_awaited(ingest) ||
		(!ingest->feed->live && !ingest->feed->apart && mr_shmem_is_crowded());
}

static void
on_timeout(void)
{
	if (!others_wait())
		return;
	exceeded = true;
	QueryCancelPending = true;
	InterruptPending = true;
}

void
mr_view_limit_watch(const MrIngest *const volatile *ingest)
{
	watched = ingest;
	timeout = RegisterTimeout(USER_TIMEOUT, on_timeout);
}

void
mr_view_limit_begin(bool follows)
{
	following = follows;
	if (watched != NULL && mr_view_timeout > 0)
		enable_timeout_every(timeout, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), mr_view_timeout),
							 ASK_AGAIN_MS);
}

bool
mr_view_limit_exceeded(void)
{
	bool		result;

	if (watched == NULL)
		return false;
	disable_timeout(timeout, false);
	result = exceeded;
	if (exceeded)
		QueryCancelPending = false; /* the error may have been another one */
	exceeded = false;
	return result;
}

void
mr_view_limit_end(void)
{
	(void) mr_view_limit_exceeded();
}
