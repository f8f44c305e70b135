/*
 * kafka/fingerprint.h
 *		Fingerprints of messages that are produced: by which one is recognized when it comes
 *		back, or comes again.  Private to this folder.
 */
#ifndef MR_KAFKA_FINGERPRINT_H
#define MR_KAFKA_FINGERPRINT_H

#include "kafka/producer.h"

#include <librdkafka/rdkafka.h>

/* of a message, before it is handed over, and in its delivery report: the same; do not throw */
extern uint64 mr_fingerprint(const MrOutMessage *msg);
extern uint64 mr_fingerprint_delivered(const rd_kafka_message_t *rkmessage);

/* a set that grows, in a memory context; empty when all other fields are zero */
typedef struct MrFingerprints
{
	MemoryContext cxt;
	uint64	   *items;
	int			n;
	int			size;
} MrFingerprints;

extern void mr_fingerprints_add(MrFingerprints *set, const uint64 *fingerprints, int n);
extern bool mr_fingerprints_has(const MrFingerprints *set, const MrOutMessage *msg);

#endif							/* MR_KAFKA_FINGERPRINT_H */
