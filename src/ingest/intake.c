/*
 * intake.c
 *		From messages to rows: the part of a step that fills the batches of all profiles.
 *
 * Messages come in portions, and are given back to the consumer when they have been decoded:
 * rows take a fraction of their memory, and the more messages go into one merge the better.
 * A message that cannot be decoded under one profile is taken out of the others, and goes
 * to the dead letters with its portion, while its bytes are still there.  However many
 * profiles reject it, it is one message.
 */
#include "millrace.h"

#include "catalog_feed.h"
#include "failpoint.h"
#include "ingest/dead_letter.h"
#include "ingest/intake.h"
#include "shmem.h"
#include "utils/memutils.h"
#include "view/guise.h"

/* bytes of a row besides its columns: partition, offset, message */
#define ROW_OVERHEAD	(sizeof(int32) + sizeof(int64) + sizeof(int))

void
mr_intake_begin(MrIngest *ingest)
{
	ListCell   *lc;

	if (mr_ingest_counts_for_stream(ingest))
		ingest->excess = mr_shmem_excess(ingest->stream->relid, ingest->excess);
	ingest->new_excess = ingest->excess;
	foreach(lc, ingest->profiles)
	{
		MrProfile  *profile = lfirst(lc);

		profile->batch = mr_batch_create(profile->decoder);
	}
}

bool
mr_intake_has_rows(const MrIngest *ingest)
{
	ListCell   *lc;

	foreach(lc, ingest->profiles)
		if (((MrProfile *) lfirst(lc))->batch->nrows > 0)
		return true;
	return false;
}

/* one half of batch_memory is for rows; sorting and hashing share the other */
bool
mr_intake_full(const MrIngest *ingest)
{
	Size		memory = 0;
	ListCell   *lc;

	foreach(lc, ingest->profiles)
	{
		const MrBatch *batch = ((MrProfile *) lfirst(lc))->batch;

		if (batch->nrows >= mr_batch_messages)
			return true;
		memory += MemoryContextMemAllocated(batch->data, false) +
			(Size) batch->capacity * (batch->ncols * (sizeof(Datum) + sizeof(bool)) + ROW_OVERHEAD);
	}
	return memory >= (Size) mr_batch_memory * 1024 / 2;
}

static void
decode_profile(MrProfile *profile, MrMessage *messages, int n)
{
	MrGuise		guise;

	mr_guise_begin(&guise, profile->owner, profile->settings);
	mr_batch_append(profile->batch, messages, n);
	mr_guise_end(&guise);
}

/* leave out rows of messages that another profile rejected */
static void
drop_rejected_rows(MrBatch *batch, const bool *rejected)
{
	Size		ncols = batch->ncols;
	Size		kept = batch->first_row;

	for (Size row = batch->first_row; row < batch->nrows; row++)
	{
		if (rejected[batch->message[row]])
			continue;
		memmove(&batch->values[kept * ncols], &batch->values[row * ncols], sizeof(Datum) * ncols);
		memmove(&batch->isnull[kept * ncols], &batch->isnull[row * ncols], sizeof(bool) * ncols);
		batch->partition[kept] = batch->partition[row];
		batch->offset[kept] = batch->offset[row];
		batch->time[kept] = batch->time[row];
		batch->message[kept++] = batch->message[row];
	}
	batch->nrows = kept;
}

static void
reconcile_profiles(MrIngest *ingest, int n)
{
	bool	   *rejected = palloc0(sizeof(bool) * (n + 1));
	ListCell   *lc;

	foreach(lc, ingest->profiles)
	{
		MrBatch    *batch = ((MrProfile *) lfirst(lc))->batch;

		for (int i = 0; i < batch->nrejected; i++)
			rejected[batch->rejected[i].message] = true;
	}
	foreach(lc, ingest->profiles)
		drop_rejected_rows(((MrProfile *) lfirst(lc))->batch, rejected);
	pfree(rejected);
}

void
mr_intake_decode(MrIngest *ingest, MrMessage *messages, int n)
{
	bool		any_rejected = false;
	ListCell   *lc;

	foreach(lc, ingest->profiles)
	{
		MrProfile  *profile = lfirst(lc);

		decode_profile(profile, messages, n);
		any_rejected = any_rejected || profile->batch->nrejected > 0;
	}
	if (any_rejected && list_length(ingest->profiles) > 1)
		reconcile_profiles(ingest, n);
}

/* ---------- rejects ---------- */

/* by message, of n: why it cannot be decoded, or NULL; NULL altogether when all can be */
static const MrReject **
list_rejects(const MrIngest *ingest, int n)
{
	const MrReject **rejects = NULL;
	ListCell   *lc;

	foreach(lc, ingest->profiles)
	{
		const MrBatch *batch = ((MrProfile *) lfirst(lc))->batch;

		if (batch->nrejected > 0 && rejects == NULL)
			rejects = palloc0(sizeof(MrReject *) * n);
		for (int i = 0; i < batch->nrejected; i++)
			if (rejects[batch->rejected[i].message] == NULL)
				rejects[batch->rejected[i].message] = &batch->rejected[i].reject;
	}
	return rejects;
}

/* on_error = stop: the first message that cannot be decoded; n: none */
static int
find_first(const MrReject **rejects, int n)
{
	for (int i = 0; i < n; i++)
		if (rejects[i] != NULL)
			return i;
	return n;
}

/*
 * The message with which those that cannot be decoded become too many, counting in the order
 * of arrival; n: none.  Excess rises with every one of them and falls with every other one,
 * never below zero; it is counted up to that message.
 */
static int
find_storm(MrIngest *ingest, const MrReject **rejects, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (rejects[i] == NULL)
			ingest->new_excess = Max(ingest->new_excess - 1, 0);
		else if (mr_dead_letter_limit >= 0 && ingest->new_excess >= mr_dead_letter_limit)
			return i;
		else
			ingest->new_excess++;
	}
	return n;
}

/* the portion ends before a message, and the feed stops, for what and that message's reason */
static void
stop_before(MrIngest *ingest, const MrMessage *message, int at, const char *what, const MrReject *reject)
{
	ListCell   *lc;

	mr_intake_stop(ingest, psprintf("%spartition %d, offset %lld: %s", what, message->partition,
									(long long) message->offset, reject->text), InvalidOid);
	foreach(lc, ingest->profiles)
	{
		MrBatch    *batch = ((MrProfile *) lfirst(lc))->batch;

		while (batch->nrows > batch->first_row && batch->message[batch->nrows - 1] >= at)
			batch->nrows--;
	}
}

/*
 * Does one of n messages stop the stream, because of on_error or of a storm?  If so *n is the
 * number of those before it.
 */
static bool
stop_at_reject(MrIngest *ingest, const MrMessage *messages, int *n, const MrReject **rejects)
{
	const char *what = "";
	int			at;

	if (ingest->stream->on_error == MR_ON_ERROR_STOP)
		at = find_first(rejects, *n);
	else
	{
		at = find_storm(ingest, rejects, *n);
		what = psprintf("messages that cannot be decoded outnumber the others by more than %d: ",
						mr_dead_letter_limit);
	}
	if (at == *n)
		return false;
	stop_before(ingest, &messages[at], at, what, rejects[at]);
	*n = at;
	return true;
}

/* does the message lie before where the view starts? */
static bool
is_before_start(const MrIngestView *view, const MrMessage *message)
{
	return message->partition < view->nstart && message->offset < view->start[message->partition];
}

/* the views that miss a message that nobody can decode: all whose it is */
static List *
views_that_miss(const MrIngest *ingest, const MrMessage *message)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, ingest->views)
	{
		const MrIngestView *view = lfirst(lc);

		if (!is_before_start(view, message))
			result = lappend_oid(result, view->view->view);
	}
	return result;
}

static void
log_skipped(const MrIngest *ingest, const MrIngestView *view, const MrMessage *message,
			const MrReject *reject)
{
	if (view != NULL)
		ereport(LOG,
				(errcode(reject->sqlstate),
				 errmsg("continuous view %s skipped a message of stream %s, partition %d, offset %lld: %s",
						view->name, ingest->stream->name, message->partition,
						(long long) message->offset, reject->text)));
	else
		ereport(LOG,
				(errcode(reject->sqlstate),
				 errmsg("skipped a message of stream %s, partition %d, offset %lld: %s",
						ingest->stream->name, message->partition,
						(long long) message->offset, reject->text)));
}

void
mr_intake_record(MrIngest *ingest, const MrIngestView *view, const MrMessage *message,
				 const MrReject *reject)
{
	if (ingest->stream->on_error == MR_ON_ERROR_SKIP)
	{
		log_skipped(ingest, view, message, reject);
		mr_offsets_find(ingest->offsets, message->partition)->skipped++;
	}
	else if (view != NULL)
		mr_dead_letter_insert(ingest->stream->relid, view->view->view, NIL, message, reject);
	else
	{
		List	   *missed = views_that_miss(ingest, message);

		mr_dead_letter_insert(ingest->stream->relid, InvalidOid, missed, message, reject);
		list_free(missed);
	}
}

void
mr_intake_stop(MrIngest *ingest, const char *error, Oid blamed)
{
	mr_catalog_stop_feed(ingest->feed, error, blamed);
	mr_catalog_changed();
}

bool
mr_intake_lock_letters(const MrIngest *ingest)
{
	if (mr_ingest_counts_for_stream(ingest))
		return true;			/* it writes new ones only */
	if (ingest->holds_live)
		return mr_catalog_try_lock_letters(ingest->stream->relid, ShareLock);
	mr_catalog_lock_letters(ingest->stream->relid, ShareLock);
	return true;
}

MrIntakeEnd
mr_intake_append(MrIngest *ingest, MrMessage *messages, int n)
{
	const MrReject **rejects;
	bool		stopped = false;

	mr_intake_decode(ingest, messages, n);
	MR_FAILPOINT("step-decoded");
	rejects = list_rejects(ingest, n);
	if (rejects == NULL)
		ingest->new_excess = Max(ingest->new_excess - n, 0);
	else
	{
		if (!mr_intake_lock_letters(ingest))
			return MR_INTAKE_BUSY;
		stopped = stop_at_reject(ingest, messages, &n, rejects);
		for (int i = 0; i < n; i++)
			if (rejects[i] != NULL)
				mr_intake_record(ingest, NULL, &messages[i], rejects[i]);
		pfree(rejects);
	}
	if (mr_dead_letter_limit < 0)
		ingest->new_excess = 0;
	MR_FAILPOINT("reject-recorded");
	mr_offsets_count(ingest->offsets, messages, n);
	return stopped ? MR_INTAKE_STOPPED : MR_INTAKE_ALL;
}
