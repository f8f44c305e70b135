/*
 * isolate.c
 *		Which messages of a batch make a view's plan or merge fail?
 *
 * Each attempt to take a range of rows is an internal subtransaction.  The first one takes
 * the whole batch, so a view that has no trouble pays for one subtransaction.  When it fails
 * in the plan, the culprits are looked for by running the plan without merging, and the rest
 * is then taken in one go.  The row that the scan returned last is where the error came from
 * in most plans: it is tried alone, and when it fails alone it is excluded, and the search
 * goes on behind it.  So a bad row costs two short runs of the plan, and each good row is
 * evaluated twice.  In plans that read everything before they evaluate it (a sort) the hint
 * is wrong; the row is found innocent, and the range is halved instead.
 *
 * When it fails in the merge, or only several rows together fail, the range is halved
 * with each half merged or rolled back, down to single rows.
 *
 * A row is refused only after an attempt with no other row has failed.
 *
 * Merging view by view, while later views' plans have not run yet, holds up other workers of
 * the same views a little longer than an ordinary step.  To aggregate in one subtransaction
 * and merge in another is not possible: sorts and open relations belong to the former.
 */
#include "millrace.h"

#include "access/xact.h"
#include "elapsed.h"
#include "ingest/isolate.h"
#include "ingest/view_limit.h"
#include "miscadmin.h"
#include "subtransaction.h"
#include "utils/memutils.h"

static void
note_error(MrIsolation *isolation, const ErrorData *error)
{
	isolation->error.sqlstate = error->sqlerrcode;
	isolation->error.text = pstrdup(error->message ? error->message : "missing error text");
	isolation->internal = mr_take_fault(isolation->phase, error) == MR_FAULT_INTERNAL;
}

static bool
is_messages_fault(const MrIsolation *isolation, const ErrorData *error)
{
	MrFault		fault = mr_take_fault(isolation->phase, error);

	/* or of who has canceled it */
	return isolation->phase != MR_TAKE_OTHER && !mr_view_limit_is_over() &&
		(fault == MR_FAULT_MESSAGE || (fault == MR_FAULT_INTERNAL && isolation->internal_too));
}

static void
run_attempt(MrIsolation *isolation, bool merge)
{
	if (merge)
	{
		mr_take_aggregate(isolation->ingest, isolation->view, &isolation->source);
		mr_take_merge(isolation->ingest, isolation->view);
	}
	else
		mr_take_probe(isolation->ingest, isolation->view, &isolation->source);
}

/* after an error in a subtransaction: end that, and judge the error */
static void
end_failed_attempt(MrIsolation *isolation, ResourceOwner owner)
{
	ErrorData  *error;

	isolation->phase = mr_take_phase();
	error = mr_subtransaction_failed(isolation->context, owner);
	mr_scan_source_set(NULL);
	if (!is_messages_fault(isolation, error))
		ReThrowError(error);
	note_error(isolation, error);
	FreeErrorData(error);
}

/* rows [first, last) in a subtransaction, merged or only run; false: not possible */
static bool
attempt(MrIsolation *isolation, int first, int last, bool merge)
{
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool taken = true;

	CHECK_FOR_INTERRUPTS();
	isolation->source.first = first;
	isolation->source.last = last;
	isolation->source.row = -1;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(isolation->scratch);
	PG_TRY();
	{
		run_attempt(isolation, merge);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		end_failed_attempt(isolation, owner);
		taken = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(isolation->context);
	CurrentResourceOwner = owner;
	MemoryContextReset(isolation->scratch);
	return taken;
}

/* how many rows of a range are the view's, up to two of them */
static int
count_to_two(const MrIsolation *isolation, int first, int last)
{
	int			n = 0;

	for (int row = first; row < last && n < 2; row++)
		n += mr_scan_source_has(&isolation->source, row);
	return n;
}

/* ---------- refusing ---------- */

static void
throw_storm(const MrIsolation *isolation)
{
	mr_take_blame(isolation->view->view->view);
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("messages that continuous %s %s cannot take outnumber the others by more than %d; the last error: %s",
					isolation->view->view->kind, isolation->view->name, isolation->excess_limit, isolation->error.text),
			 errhint("Mend what the view reads, or drop the view and create it again, then use millrace.activate(). The limit is millrace.dead_letter_limit.")));
}

/* excess falls with every row taken and rises with every row refused, never below zero */
static void
count_excess(MrIsolation *isolation, int row)
{
	isolation->excess = Max(isolation->excess - (row - isolation->seen), 0) + 1;
	isolation->seen = row + 1;
	if (isolation->excess_limit >= 0 && isolation->excess > isolation->excess_limit)
		throw_storm(isolation);
}

/* an attempt with this row alone has just failed */
static void
refuse(MrIsolation *isolation, int row)
{
	MrRefusal  *refusal;

	if (isolation->nrefused == isolation->refused_size)
	{
		isolation->refused_size = Max(isolation->refused_size * 2, 64);
		isolation->refused = isolation->refused == NULL
			? palloc(sizeof(MrRefusal) * isolation->refused_size)
			: repalloc_huge(isolation->refused, sizeof(MrRefusal) * isolation->refused_size);
	}
	refusal = &isolation->refused[isolation->nrefused++];
	refusal->row = row;
	refusal->reject = isolation->error;
	isolation->excluded[row] = true;
	if (row >= isolation->seen)
		count_excess(isolation, row);
	if (isolation->deadline != 0 && mr_steady_time() > isolation->deadline)
		isolation->late = true;
}

bool
mr_isolate_gave_up(const MrIsolation *isolation)
{
	return isolation->late || (isolation->first_only && isolation->nrefused > 0);
}

/* ---------- searching ---------- */

static void
refuse_only_row(MrIsolation *isolation, int first, int last)
{
	while (first < last && !mr_scan_source_has(&isolation->source, first))
		first++;
	refuse(isolation, first);
}

/* running the plan over this range has just failed: find out why by halving it */
static void
probe_halves(MrIsolation *isolation, int first, int last)
{
	int			middle = first + (last - first) / 2;
	int			n = count_to_two(isolation, first, last);

	/* some plans fail over nothing, too */
	if (n == 0)
		return;
	if (n == 1)
	{
		refuse_only_row(isolation, first, last);
		return;
	}
	if (!attempt(isolation, first, middle, false))
		probe_halves(isolation, first, middle);
	if (!mr_isolate_gave_up(isolation) && !attempt(isolation, middle, last, false))
		probe_halves(isolation, middle, last);
}

/* exclude the rows of a range over which the plan does not run */
static void
probe(MrIsolation *isolation, int first, int last)
{
	while (!mr_isolate_gave_up(isolation) && !attempt(isolation, first, last, false))
	{
		int			row = isolation->source.row;

		if (row >= first && row < last && !attempt(isolation, row, row + 1, false))
		{
			refuse(isolation, row);
			first = row + 1;
			continue;
		}
		if (count_to_two(isolation, first, last) > 1)
			probe_halves(isolation, first, last);
		return;
	}
}

/* take what can be taken of a range */
static void
take(MrIsolation *isolation, int first, int last)
{
	int			middle = first + (last - first) / 2;
	int			nrefused = isolation->nrefused;

	if (mr_isolate_gave_up(isolation) || count_to_two(isolation, first, last) == 0 ||
		attempt(isolation, first, last, true))
		return;
	if (isolation->phase == MR_TAKE_PLAN)
	{
		probe(isolation, first, last);
		if (mr_isolate_gave_up(isolation) || count_to_two(isolation, first, last) == 0 ||
			(isolation->nrefused > nrefused && attempt(isolation, first, last, true)))
			return;
	}
	if (count_to_two(isolation, first, last) == 1)
	{
		refuse_only_row(isolation, first, last);
		return;
	}
	take(isolation, first, middle);
	take(isolation, middle, last);
}

/*
 * The same for a transform.  What is written in an attempt that fails is gone with it, so
 * there is nothing to be gained by probing: the rows before the one that failed are taken,
 * it is tried alone, and so on behind it.  Rows that exclude each other stay in their order:
 * the first one is in.  A constraint that is checked after the last row does not tell whose
 * it was, and a plan that reads everything first (a sort) tells wrong; then the range is
 * halved.
 */
static void
take_in_order(MrIsolation *isolation, int first, int last)
{
	while (!mr_isolate_gave_up(isolation) && count_to_two(isolation, first, last) > 0 &&
		   !attempt(isolation, first, last, true))
	{
		int			row = isolation->source.row;
		bool		known = isolation->phase == MR_TAKE_WRITE && row >= first && row < last;

		if (count_to_two(isolation, first, last) == 1)
		{
			refuse_only_row(isolation, first, last);
			return;
		}
		if (known && (count_to_two(isolation, first, row) == 0 || attempt(isolation, first, row, true)))
		{
			if (!attempt(isolation, row, row + 1, true))
				refuse(isolation, row);
			first = row + 1;
			continue;
		}
		row = first + (last - first) / 2;
		take_in_order(isolation, first, row);
		first = row;
	}
}

/* a view for which nothing but internal errors comes out is broken, not its messages */
static void
check_internal(const MrIsolation *isolation)
{
	if (isolation->nrefused == 0 || !isolation->internal || mr_isolate_gave_up(isolation))
		return;
	for (int row = 0; row < isolation->source.batch->nrows; row++)
		if (mr_scan_source_has(&isolation->source, row))
			return;
	mr_take_blame(isolation->view->view->view);
	ereport(ERROR,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg_internal("%s", isolation->error.text)));
}

void
mr_isolate(MrIsolation *isolation)
{
	MrIngestView *view = isolation->view;
	const MrBatch *batch = view->profile->batch;

	isolation->context = CurrentMemoryContext;
	isolation->scratch = AllocSetContextCreate(CurrentMemoryContext, "millrace attempt",
											   ALLOCSET_DEFAULT_SIZES);
	if (isolation->excluded == NULL)
		isolation->excluded = palloc0(sizeof(bool) * (batch->nrows + 1));
	isolation->source = (MrScanSource)
	{
		.batch = batch,
			.start = view->start,
			.nstart = view->nstart,
			.excluded = isolation->excluded,
			.row = -1
	};
	mr_take_prepare(isolation->ingest, view);
	if (OidIsValid(view->view->sink))
		take_in_order(isolation, 0, batch->nrows);
	else
		take(isolation, 0, batch->nrows);
	check_internal(isolation);
	isolation->excess = Max(isolation->excess - (batch->nrows - isolation->seen), 0);
	mr_take_done();
	MemoryContextDelete(isolation->scratch);
}
