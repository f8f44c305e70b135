/*
 * kafka/too_large.h
 *		Messages that are too large for the broker: finding out which, and refusing them.
 */
#ifndef MR_KAFKA_TOO_LARGE_H
#define MR_KAFKA_TOO_LARGE_H

#include "kafka/producer.h"

/*
 * Messages with these fingerprints are refused from now on, in mr_producer_check.  _refused: all
 * of them, valid until the next call.
 */
extern void mr_producer_refuse(MrProducer *producer, const uint64 *fingerprints, int n);
extern const uint64 *mr_producer_refused(const MrProducer *producer, int *n);

/*
 * Refuse those of some messages that are too large, each for its topic.  The producer, which must
 * send each message alone, is in no transaction before and after; it uses some of its own, that
 * nobody sees.  ERROR when the broker fails for another reason.
 */
extern void mr_producer_survey(MrProducer *producer, const char *const *topics,
							   const MrOutMessage *messages, int n);

/* Was a batch of the last transaction too large?  Also after an ERROR. */
extern bool mr_producer_met_too_large(const MrProducer *producer);

#endif							/* MR_KAFKA_TOO_LARGE_H */
