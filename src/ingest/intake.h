/*
 * ingest/intake.h
 *		From messages to rows: the part of a step that fills the batches of all profiles.
 */
#ifndef MR_INGEST_INTAKE_H
#define MR_INGEST_INTAKE_H

#include "ingest/step.h"

/* empty batches for all profiles, below the current context */
extern void mr_intake_begin(MrIngest *ingest);

/*
 * Decode messages into further rows, the same ones in the batches of all profiles; rejects
 * are told there.
 */
extern void mr_intake_decode(MrIngest *ingest, MrMessage *messages, int n);

/*
 * Lock the letters, which comes before any of them is written.  False: somebody has them, and must
 * not be waited for with the live feed in hand.
 */
extern bool mr_intake_lock_letters(const MrIngest *ingest);

typedef enum MrIntakeEnd
{
	MR_INTAKE_ALL,
	MR_INTAKE_STOPPED,			/* by a message that stops the stream
								 * (on_error = stop, or one too many that
								 * cannot be decoded): it and those behind it
								 * were left out */
	MR_INTAKE_BUSY				/* nothing is right: as
								 * mr_intake_lock_letters() */
} MrIntakeEnd;

/*
 * Decode messages into further rows, record those that cannot be, and count them all in the
 * offsets.
 */
extern MrIntakeEnd mr_intake_append(MrIngest *ingest, MrMessage *messages, int n);

/*
 * A message that a view did not take, or none (view NULL): what on_error says, dead letter
 * or log line.
 */
extern void mr_intake_record(MrIngest *ingest, const MrIngestView *view,
							 const MrMessage *message, const MrReject *reject);

/* the feed stops in this transaction, for this reason; blamed: the view whose error it is, or InvalidOid */
extern void mr_intake_stop(MrIngest *ingest, const char *error, Oid blamed);

extern bool mr_intake_has_rows(const MrIngest *ingest);

/* should the step take no more? */
extern bool mr_intake_full(const MrIngest *ingest);

#endif							/* MR_INGEST_INTAKE_H */
