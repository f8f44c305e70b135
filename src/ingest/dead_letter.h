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

/*
 * [from_offset, to_offset) is gone; passed: ingest goes on after it in this transaction.
 * Recorded once of each kind.
 */
extern void mr_gap_insert(Oid stream, int32 partition, int64 from_offset, int64 to_offset,
						  const char *reason, bool passed);

#endif							/* MR_INGEST_DEAD_LETTER_H */
