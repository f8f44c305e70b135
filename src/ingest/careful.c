/*
 * careful.c
 *		A careful step: all views take the batch, each without the messages that it cannot take.
 *
 * The messages are all in hand, so what a view refuses becomes a dead letter with its bytes.
 * A step must not take forever, as views' workers may wait for its merges: when looking for
 * refusals takes long (each costs two short runs of a plan), it is taken anew with fewer
 * messages.  With on_error = stop it is taken anew, too, up to the first refusal.
 */
#include "millrace.h"

#include "elapsed.h"
#include "failpoint.h"
#include "ingest/careful.h"
#include "ingest/intake.h"
#include "ingest/isolate.h"
#include "shmem.h"
#include "utils/timestamp.h"

#define CAREFUL_STEP_MS		5000	/* to look for refusals */
#define CAREFUL_MIN_MESSAGES	100 /* with no more than these: as long as it
									 * takes */

/* what becomes of the messages that a view did not take */
static void
record_refused(MrIngest *ingest, const MrIsolation *isolation)
{
	const MrBatch *batch = isolation->view->profile->batch;

	ingest->nrefused += isolation->nrefused;
	for (int i = 0; i < isolation->nrefused; i++)
	{
		const MrRefusal *refused = &isolation->refused[i];

		mr_intake_record(ingest, isolation->view, &batch->messages[batch->message[refused->row]],
						 &refused->reject);
	}
}

/* on_error = stop: the step is to end before the first message that was refused */
static int
stop_before(MrIngest *ingest, const MrIsolation *isolation)
{
	const MrBatch *batch = isolation->view->profile->batch;
	const MrRefusal *refused = &isolation->refused[0];
	int			message = batch->message[refused->row];

	ingest->stop_error = psprintf("continuous %s %s, partition %d, offset %lld: %s",
								  isolation->view->view->kind, isolation->view->name, batch->messages[message].partition,
								  (long long) batch->messages[message].offset,
								  refused->reject.text);
	ingest->stop_view = isolation->view->view->target;
	return message;
}

/* no more than half of what was reached in the time given, so that the next try will do */
static int
shorten(const MrIsolation *isolation, int n)
{
	const MrBatch *batch = isolation->view->profile->batch;
	int			reached = batch->message[isolation->refused[isolation->nrefused - 1].row];

	return Min(n - 1, Max(reached / 2, CAREFUL_MIN_MESSAGES));
}

int
mr_careful_feed(MrIngest *ingest, int n)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(mr_steady_time(), CAREFUL_STEP_MS);
	ListCell   *lc;

	foreach(lc, ingest->views)
	{
		MrIngestView *view = lfirst(lc);
		MrIsolation isolation = {
			.ingest = ingest,
			.view = view,
			.first_only = ingest->stream->on_error == MR_ON_ERROR_STOP,
			.internal_too = ingest->internal_too,
			.excess_limit = mr_dead_letter_limit,
			.deadline = n > CAREFUL_MIN_MESSAGES ? deadline : 0
		};

		view->excess = mr_shmem_excess(view->view->view, view->excess);
		isolation.excess = view->excess;
		mr_isolate(&isolation);
		if (isolation.first_only && isolation.nrefused > 0)
			return stop_before(ingest, &isolation);
		if (isolation.late)
			return shorten(&isolation, n);
		MR_FAILPOINT("careful-isolated");
		record_refused(ingest, &isolation);
		MR_FAILPOINT("careful-recorded");
		view->new_excess = mr_dead_letter_limit < 0 ? 0 : isolation.excess;
	}
	return n;
}
