/*
 * ingest/recover.c
 *		What becomes of an attempt that ended with an error.
 *
 * Either the error is a view's own, which gets the state failed and leaves the others alone, or
 * the next attempt is made after a wait that doubles up to millrace.retry_max_interval.  The
 * broker still has everything that was rolled back.
 *
 * An error that a message may have caused in a view is followed by careful steps: smaller
 * ones, of messages that are all in hand, in which the culprits are isolated
 * (ingest/isolate) and become dead letters of that view.  They go on until there were none
 * for a while.  So nothing is paid for it as long as all messages can be taken.
 */
#include "millrace.h"

#include "access/xact.h"
#include "catalog_feed.h"
#include "catalog_table.h"
#include "elapsed.h"
#include "ingest/part.h"
#include "ingest/recover.h"
#include "ingest/slot.h"
#include "ingest/take.h"
#include "sink/stream_sink.h"
#include "storage/ipc.h"
#include "transaction.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define REST_MS				10000	/* of a view's feed that has left others */
#define PEACE				3	/* a rival is gone when it was not heard of
								 * for so many times the longest wait */
#define RENEW_MS			60000	/* a process for changed types, at most
									 * that often */
#define ERRORS_MAX			3	/* of one view, without a success, that are no
								 * verdict by themselves */

/* the view has failed, or only leaves the others in peace */
static void
part_with_view(MrWorkerSlot *slot, Oid view, MrParting how, const char *error)
{
	mr_ingest_part_with_view(view, how, error);
	ConditionVariableBroadcast(mr_shmem_progress(slot->stream));
}

/* one that follows tables has none: whoever changes the table waits for it */
static bool
has_feed(Oid view)
{
	bool		result;

	mr_start_transaction();
	PushActiveSnapshot(GetTransactionSnapshot());
	result = OidIsValid(mr_catalog_extension_oid()) && mr_catalog_streams_of_view(view) != NIL;
	PopActiveSnapshot();
	CommitTransactionCommand();
	return result;
}

/*
 * A view has been in the others' way for long enough: it leaves them, or where it takes what others
 * tell, those of the feed that do.  text: why, which is not for the eyes of all who may read those.
 * False: there are none.
 */
static bool
leave_others(MrWorkerSlot *slot, Oid view, const char *text)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *leave;
	char	   *name;
	ListCell   *lc;

	mr_start_transaction();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(context);
	leave = mr_catalog_views_that_feed(view, slot->feed);
	name = get_rel_name(view);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	foreach(lc, leave)
		part_with_view(slot, lfirst_oid(lc), MR_PART_IN_TROUBLE, lfirst_oid(lc) == view || name == NULL ? text :
					   psprintf("continuous view \"%s\", which follows it, cannot take a batch", name));
	return leave != NIL;
}

/* errors of this view and kind since the last success, this one included */
static int
count_blame(MrRecovery *recovery, Oid view, bool passing)
{
	MemoryContext old;
	MrBlame    *blame;
	ListCell   *lc;

	foreach(lc, recovery->blamed)
	{
		blame = lfirst(lc);
		if (blame->view == view && blame->passing == passing)
			return ++blame->errors;
	}
	old = MemoryContextSwitchTo(TopMemoryContext);
	blame = palloc(sizeof(MrBlame));
	blame->view = view;
	blame->passing = passing;
	blame->errors = 1;
	recovery->blamed = lappend(recovery->blamed, blame);
	MemoryContextSwitchTo(old);
	return 1;
}

void
mr_recover_success(MrRecovery *recovery)
{
	recovery->failures = 0;
	list_free_deep(recovery->blamed);
	recovery->blamed = NIL;
}

static void
wait_and_retry(MrRecovery *recovery, MrWorkerSlot *slot, Oid view, const char *error)
{
	long		wait = FIRST_RETRY_MS << Min(recovery->failures++, 16);

	mr_slot_set_trouble(slot, view, error);
	mr_slot_nap(slot, Min(wait, mr_retry_max_interval));
}

/* others that come and go are no reason to begin earlier */
static void
rest(MrWorkerSlot *slot, Oid view, const char *error)
{
	instr_time	began;
	long		ms = Min(REST_MS, mr_retry_max_interval);

	INSTR_TIME_SET_CURRENT(began);
	mr_slot_set_trouble(slot, view, error);
	while (mr_ms_since(began) < ms)
		mr_slot_nap(slot, ms - (long) mr_ms_since(began));
}

static void
forget_trouble(int64 feed)
{
	mr_start_transaction();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (OidIsValid(mr_catalog_extension_oid()))
		mr_catalog_forget_trouble(feed);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * A feed whose view has left others in trouble stands where they stand, and would be back with
 * them at once, only to leave again: where all views of a stream are in trouble, for ever.  It is
 * in trouble while it rests, so that others become the live feed.
 */
bool
mr_recover_rest(MrWorkerSlot *slot)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *views = NIL;
	Oid			view;
	char	   *trouble;
	bool		slow = false;

	mr_start_transaction();
	PushActiveSnapshot(GetTransactionSnapshot());
	trouble = OidIsValid(mr_catalog_extension_oid()) ? mr_catalog_trouble(slot->feed, &slow) : NULL;
	if (trouble != NULL)
	{
		trouble = MemoryContextStrdup(context, trouble);
		views = mr_catalog_views_of_feed(slot->feed);
	}
	view = views == NIL ? InvalidOid : ((MrView *) linitial(views))->view;
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	if (trouble == NULL)
		return false;
	if (slot->catch_up)
		rest(slot, view, trouble);
	else
		mr_slot_set_trouble(slot, view, trouble);
	pfree(trouble);
	forget_trouble(slot->feed);
	return slow;
}

/* what an owner reads in millrace.views */
static char *
error_text(const ErrorData *error)
{
	if (error->hint == NULL)
		return pstrdup(error->message);
	return psprintf("%s\nHINT:  %s", error->message, error->hint);
}

/*
 * After an error that came from running rows or merging: shall the messages that caused it be
 * looked for?  Not when that has just been tried.  An internal error has to come again and
 * again first.
 */
static bool
be_careful(MrRecovery *recovery, MrFault fault, bool again)
{
	bool		internal = fault == MR_FAULT_INTERNAL && again && !recovery->internal_too;

	if (!internal && (fault != MR_FAULT_MESSAGE || recovery->careful == CAREFUL_STEPS))
		return false;
	recovery->careful = CAREFUL_STEPS;
	recovery->internal_too = recovery->internal_too || internal;
	return true;
}

/* a table that is not there may be on its way back; but nobody is to wait for it with a view's changes */
static bool
may_come_back(Oid view, const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_UNDEFINED_TABLE && has_feed(view);
}

/*
 * PL/pgSQL keeps the types of what a function has read for as long as the process lives, and says so in this
 * way when they have changed.  One that has taken nothing yet has kept nothing, and one that comes after such a
 * one should not be in need of it soon.
 */
static bool
may_know_old_types(const MrWorkerSlot *slot, const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_DATATYPE_MISMATCH && slot->messages > 0 &&
		(slot->renewed_at == 0 || TimestampDifferenceExceeds(slot->renewed_at, mr_steady_time(), RENEW_MS));
}

/*
 * After an error that happened in a view's plan or merge.  One that a message may have caused
 * is followed by careful steps.  An error of the view's own is a verdict at once.  An
 * internal error is one when it comes again and again.  One that may pass (a joined foreign
 * server is down, a table has been dropped) never is, but the other views need not wait for it:
 * the view gets a feed of its own, and a worker that goes on trying.
 */
static void
judge_view(MrRecovery *recovery, MrWorkerSlot *slot, int nviews, Oid view,
		   const ErrorData *error, MrTakePhase phase)
{
	MrFault		fault = mr_take_fault(phase, error);
	bool		back = may_come_back(view, error);
	bool		again = count_blame(recovery, view, back || fault == MR_FAULT_PASSING) >= ERRORS_MAX;
	char	   *text = error_text(error);

	if (may_know_old_types(slot, error))
	{
		slot->renewed_at = mr_steady_time();
		proc_exit(0);			/* and be started again */
	}
	if (phase != MR_TAKE_OTHER && be_careful(recovery, fault, again))
		return;
	if (back)
		fault = MR_FAULT_PASSING;
	if (fault != MR_FAULT_PASSING && (again || fault != MR_FAULT_INTERNAL))
		part_with_view(slot, view, MR_PART_FAILED, text);
	else if (fault != MR_FAULT_PASSING || !again || nviews == 1 || !leave_others(slot, view, text))
		wait_and_retry(recovery, slot, view, text);
}

/*
 * After a view was canceled because others waited for it.  Those are views of its feed, or such as
 * cannot join it, or it is alone, and was joining, or has the place of a worker that others need.
 */
static void
part_with_slow_view(MrRecovery *recovery, MrWorkerSlot *slot, int nviews, Oid view,
					const ErrorData *error, MrOverdue how)
{
	char	   *text = error_text(error);

	if (!has_feed(view) && how == MR_OVERDUE_WAITING)
	{
		if (nviews == 1 || !leave_others(slot, view, text))
			wait_and_retry(recovery, slot, view, text);
	}
	else if (!has_feed(view))
		part_with_view(slot, view, MR_PART_FAILED, text);
	else if (nviews > 1 || !slot->catch_up)
		part_with_view(slot, view, how == MR_OVERDUE_WORKING ? MR_PART_SLOW : MR_PART_IN_TROUBLE, text);
	else
	{
		/* steps of fewer messages, one of which comes to an end some time */
		recovery->careful = CAREFUL_STEPS;
		rest(slot, view, text);
	}
}

void
mr_recover(MrRecovery *recovery, MrWorkerSlot *slot, int nviews, Oid view,
		   const ErrorData *error, MrTakePhase phase, MrOverdue overdue)
{
	if (mr_stream_sink_learned())
		recovery->careful = CAREFUL_STEPS;
	else if (overdue != MR_OVERDUE_NOT && OidIsValid(view))
		part_with_slow_view(recovery, slot, nviews, view, error, overdue);
	else if (OidIsValid(view))
		judge_view(recovery, slot, nviews, view, error, phase);
	else
		wait_and_retry(recovery, slot, InvalidOid, error->message);
}

/*
 * As soon as we go on the rival is fenced, and does the same: its wait is when we make progress, so progress does
 * not make ours shorter.  What it produces meanwhile we step over.
 */
void
mr_recover_from_rival(MrRecovery *recovery, MrWorkerSlot *slot, const ErrorData *error)
{
	if (recovery->fenced > 0 && mr_ms_since(recovery->fenced_at) > (double) PEACE * mr_retry_max_interval)
		recovery->fenced = 0;
	recovery->failures = recovery->fenced++;
	wait_and_retry(recovery, slot, InvalidOid, error_text(error));
	INSTR_TIME_SET_CURRENT(recovery->fenced_at);
}

bool
mr_recover_without_slot(Oid view, const ErrorData *error, MrOverdue overdue)
{
	bool		passing = overdue == MR_OVERDUE_NOT ? mr_fault(error->sqlerrcode) == MR_FAULT_PASSING :
	overdue == MR_OVERDUE_WAITING;

	return !passing && mr_ingest_try_part_with_view(view, MR_PART_FAILED, error_text(error));
}

static bool
part_with_stubborn(const MrStubbornView *stubborn)
{
	char	   *text = psprintf("takes longer than %d ms for a batch, others wait for it, and it does not end when it is canceled\n"
								"HINT:  Mend the view's query: a function of it catches query_canceled, perhaps.",
								mr_view_timeout);

	bool		stays = !stubborn->fails && has_feed(stubborn->view);

	return mr_ingest_try_part_with_view(stubborn->view, stays ? MR_PART_SLOW : MR_PART_FAILED, text);
}

List *
mr_recover_from_stubborn(void)
{
	MemoryContext context = CurrentMemoryContext;
	MrStubbornView later[MR_MAX_STUBBORN];
	int			nlater = 0;
	List	   *result = NIL;

	while (nlater < MR_MAX_STUBBORN && mr_shmem_take_stubborn(&later[nlater]))
	{
		if (!part_with_stubborn(&later[nlater]))
			nlater++;
		MemoryContextSwitchTo(context);
	}
	for (int i = 0; i < nlater; i++)
	{
		mr_shmem_note_stubborn(later[i].view, later[i].fails);
		result = lappend_oid(result, later[i].view);
	}
	return result;
}
