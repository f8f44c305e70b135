/*
 * ingest/dead_letter.h
 *		Recording messages that could not be used, and offsets that were lost.
 */
#ifndef MR_INGEST_DEAD_LETTER_H
#define MR_INGEST_DEAD_LETTER_H

#include "format/format.h"
#include "kafka/consumer.h"
#include "nodes/pg_list.h"

/*
 * view: InvalidOid for a message that reached no view; missed tells which ones (list of
 * Oid).  A message is recorded once per view; missed ones add up.
 */
extern void mr_dead_letter_insert(Oid stream, Oid view, const List *missed,
								  const MrMessage *message, const MrReject *reject);

/* A dead letter, read to be replayed. */
typedef struct MrLetter
{
	int64		id;
	Oid			view;			/* InvalidOid: no view took it */
	List	   *missed;			/* of Oid: the views that miss it, then */
	MrMessage	message;		/* all of it palloc'd */
} MrLetter;

/* the views that miss any of these letters (ids: int8 array); list of Oid, ascending */
extern List *mr_dead_letter_views(Oid stream, Datum ids);

/* Lock these letters (ids: int8 array), in order, as far as they are still there. */
extern void mr_dead_letter_lock_all(Oid stream, Datum ids);

/* Lock and read these letters, in order, as far as they are still there.  Returns how many. */
extern int	mr_dead_letter_lock(Oid stream, const int64 *ids, int n, MrLetter *letters);

/* a letter failed again; the same, only one view could not take a letter that none had */
extern void mr_dead_letter_update(int64 id, const MrReject *reject);
extern void mr_dead_letter_narrow(int64 id, Oid view, const MrReject *reject);
extern void mr_dead_letter_delete(int64 id);

/*
 * A letter of no view in particular is not missing to these (of Oid) any more, nor to views that are
 * gone; to nobody: it goes.
 */
extern void mr_dead_letter_fed(int64 id, const List *views);

/* a view begins anew: nothing that it has missed is missing any more */
extern void mr_dead_letter_forget(Oid view);

/*
 * [from_offset, to_offset) is gone; passed: ingest goes on after it in this transaction.
 * Recorded once of each kind.
 */
extern void mr_gap_insert(Oid stream, int32 partition, int64 from_offset, int64 to_offset,
						  const char *reason, bool passed);

#endif							/* MR_INGEST_DEAD_LETTER_H */
