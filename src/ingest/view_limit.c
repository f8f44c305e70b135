/*
 * ingest/view_limit.c
 *		How long may a view take while others wait for it?
 *
 * A batch is one transaction of all views of a feed, so one view whose query does not end would
 * stop them all, whatever catches up with the feed, and who wants a lock on what the batch has
 * locked, as DROP VIEW does; and those that catch up are so many at a time.  The view is canceled
 * when it has taken millrace.view_timeout and somebody waits; its worker then gives it a feed of
 * its own (recover.c).  By itself a view may take as long as it likes.  For the supervisor a whole
 * database waits, always.
 *
 * Whether somebody waits is asked when the time is up, and every second from then on, because
 * they may come later.  It is the timeout's handler that looks, since nothing else runs while a
 * query does not end.  So it takes no locks: it may see a wait that is over, or miss one until it
 * looks again.
 *
 * Who waits for a lock himself when the time is up is in the way of others as well, but may not be
 * to blame for it.
 *
 * A function that catches the cancel, or never looks for it, goes on.  After a while the process
 * ends instead, which nobody can catch, and leaves word for the supervisor (recover.c).  Where it comes
 * to an end before, what it returns depends on our cancel, and must not count.
 */
#include "millrace.h"

#include "ingest/open.h"
#include "ingest/view_limit.h"
#include "miscadmin.h"
#include "shmem.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include <signal.h>

#define ASK_AGAIN_MS		1000
#define MOST_CANCELS		10	/* that are not heeded */

static TimeoutId timeout;
static bool registered = false;
static const MrWorkerSlot *slot = NULL; /* NULL: the supervisor's process */
static const MrIngest *const volatile *watched = NULL;
static const MrView *volatile at_work = NULL;	/* that of a feed that is
												 * being opened, too */
static volatile Oid working = InvalidOid;	/* the view at work */
static volatile Oid stubborn = InvalidOid;	/* the view that this process ends
											 * for */
static volatile int cancels = 0;
static volatile sig_atomic_t swallowed = false;
static volatile sig_atomic_t following = false;
static volatile sig_atomic_t overdue = MR_OVERDUE_NOT;

static bool
is_of_view(const MrView *view, Oid relid)
{
	return relid == view->view || relid == view->definition || relid == view->matrel ||
		relid == view->target || relid == view->sink;
}

static bool
locks_relation(const MrIngest *ingest, Oid relid)
{
	ListCell   *lc;

	if (relid == slot->stream || (at_work != NULL && is_of_view(at_work, relid)))
		return true;
	if (ingest == NULL)
		return false;
	if (list_member_oid(ingest->followers, relid))
		return true;
	foreach(lc, ingest->views)
	{
		const MrIngestView *view = lfirst(lc);

		if (is_of_view(view->view, relid) ||
			(view->changes != NULL && relid == mr_changes_table(view->changes)))
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
	return ingest != NULL &&
		(objid == (Oid) ingest->feed->id || (!ingest->feed->live && objid == ingest->stream->relid));
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

/*
 * A view that has left others because it was slow may be about to take the very messages that
 * those take now, who are slow with them, too: they would make each other go by turns, for ever.
 */
static bool
is_shy(int pid)
{
	for (int i = 0; i < mr_shared->nslots; i++)
		if (mr_shared->workers[i].pid == pid)
			return mr_shared->workers[i].shy;
	return false;
}

static bool
is_awaited(const MrIngest *ingest)
{
	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		const volatile PGPROC *proc = &ProcGlobal->allProcs[i];
		const LOCK *lock = proc->waitLock;

		if (lock != NULL && proc != MyProc && is_ours(ingest, &lock->tag) && !is_shy(proc->pid))
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
	const MrIngest *ingest;

	if (slot == NULL || following || mr_ingest_nviews() > 1)
		return true;
	ingest = *watched;
	return (ingest != NULL && ingest->holds_live) || is_awaited(ingest) ||
		(slot->catch_up && mr_shmem_is_crowded());
}

static void
on_timeout(void)
{
	if (!others_wait())
		return;
	/* a former cancel has not made it to us */
	swallowed = swallowed || (overdue != MR_OVERDUE_NOT && !QueryCancelPending);
	overdue = MyProc->waitLock != NULL ? MR_OVERDUE_WAITING : MR_OVERDUE_WORKING;
	if (++cancels > MOST_CANCELS && !ProcDiePending)
	{
		stubborn = working;
		ProcDiePending = true;
	}
	QueryCancelPending = true;
	InterruptPending = true;
}

static void
leave_word(int code, Datum arg)
{
	if (OidIsValid(stubborn))
		mr_shmem_note_stubborn(stubborn, slot == NULL);
}

void
mr_view_limit_watch(const MrWorkerSlot *of, const MrIngest *const volatile *ingest)
{
	slot = of;
	watched = ingest;
	timeout = RegisterTimeout(USER_TIMEOUT, on_timeout);
	registered = true;
	before_shmem_exit(leave_word, (Datum) 0);
}

static void
start(void)
{
	cancels = 0;
	if (registered && mr_view_timeout > 0)
		enable_timeout_every(timeout, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), mr_view_timeout),
							 ASK_AGAIN_MS);
}

void
mr_view_limit_begin(Oid relid, const MrView *view, bool follows)
{
	working = relid;
	at_work = view;
	following = follows;
	start();
}

void
mr_view_limit_waited(void)
{
	if (registered && get_timeout_active(timeout) && overdue == MR_OVERDUE_NOT)
		start();
}

bool
mr_view_limit_is_over(void)
{
	return overdue != MR_OVERDUE_NOT;
}

MrOverdue
mr_view_limit_exceeded(void)
{
	MrOverdue	result;

	if (!registered)
		return MR_OVERDUE_NOT;
	disable_timeout(timeout, false);
	at_work = NULL;
	result = overdue;
	if (overdue != MR_OVERDUE_NOT)
		QueryCancelPending = false; /* the error may have been another one */
	overdue = MR_OVERDUE_NOT;
	swallowed = false;
	return result;
}

void
mr_view_limit_done(void)
{
	if (!registered)
		return;
	disable_timeout(timeout, false);
	if (swallowed || (overdue != MR_OVERDUE_NOT && !QueryCancelPending))
		ereport(ERROR,
				errcode(ERRCODE_QUERY_CANCELED),
				errmsg("canceled while it caught the cancel"));
	mr_view_limit_end();
}

void
mr_view_limit_end(void)
{
	(void) mr_view_limit_exceeded();
}

/* instead of a cancel "due to user request" */
static void
explain(ErrorData *error, MrOverdue how)
{
	error->elevel = WARNING;
	if (how == MR_OVERDUE_WAITING)
	{
		error->message = psprintf("waits longer than %d ms for a lock, and others wait for it", mr_view_timeout);
		error->hint = pstrdup("End the transaction that has the lock; pg_locks tells which.");
	}
	else
	{
		error->message = psprintf("takes longer than %d ms for a batch, and others wait for it", mr_view_timeout);
		error->hint = pstrdup("Mend the view's query, or raise millrace.view_timeout.");
	}
}

ErrorData *
mr_view_limit_report(MrOverdue how)
{
	ErrorData  *error = CopyErrorData();

	if (how == MR_OVERDUE_NOT)
		EmitErrorReport();
	else
	{
		explain(error, how);
		ThrowErrorData(error);
	}
	return error;
}
