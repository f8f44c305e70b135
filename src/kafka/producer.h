/*
 * kafka/producer.h
 *		A transactional producer.
 *
 * One MrProducer is one librdkafka handle with a transactional.id of its own; it can
 * be used for many transactions, one after the other.  It hangs on the memory context
 * it was created in.  All waits check for interrupts at least every 100 ms.
 */
#ifndef MR_KAFKA_PRODUCER_H
#define MR_KAFKA_PRODUCER_H

#include "kafka/conf.h"
#include "kafka/consumer.h"

typedef struct MrProducer MrProducer;

typedef struct MrHeader
{
	const char *name;
	const char *value;			/* NULL: null */
	size_t		value_len;		/* of NULL: 0 */
} MrHeader;

typedef struct MrOutMessage
{
	int32		partition;		/* -1: the partitioner decides (murmur2_random
								 * unless the user set "partitioner") */
	int64		timestamp_ms;	/* 0: now */
	const char *key;			/* NULL: none */
	size_t		key_len;		/* of NULL: 0 */
	const char *value;			/* NULL: tombstone */
	size_t		value_len;		/* of NULL: 0 */
	const MrHeader *headers;
	int			nheaders;
} MrOutMessage;

/*
 * Does not wait.  transactional_id: unique per live producer; a second one with the same
 * id fences the first, which is how the open transaction of a killed backend ends.
 * batch_size: at most so many bytes of messages go to the broker as one batch, which it
 * takes or refuses as a whole; MR_BATCH_ALONE: each message alone; 0: as the user says.
 */
#define MR_BATCH_ALONE	1

extern MrProducer *mr_producer_create(List *props, const char *transactional_id, int batch_size);
extern void mr_producer_destroy(MrProducer *producer);

/*
 * Any trouble in these is an ERROR (ERRCODE_FDW_ERROR or
 * ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION) with librdkafka's reason, the topic named; a message
 * that is too large is one of its own (ERRCODE_PROGRAM_LIMIT_EXCEEDED).  After it the producer must
 * be destroyed or aborted.
 *
 * _init: end what another producer of this id has begun, for good; _begin does it, too, if it has
 * not been done.  _send copies the message, never loses one silently, and waits when the local
 * queue is full.  A transaction is ended by one of
 *
 * _commit: when it returns, the broker has acknowledged every message and the transaction, and
 * readers see them.
 * _commit_unseen: the same, without waiting for what readers see.
 * _end_in_vain: the broker has taken every message, for nobody to see.
 * _abort: never throws; false when the handle is of no more use.
 */
extern void mr_producer_init(MrProducer *producer);
extern void mr_producer_begin(MrProducer *producer);
extern void mr_producer_send(MrProducer *producer, const char *topic, const MrOutMessage *msg);
extern void mr_producer_commit(MrProducer *producer);
extern void mr_producer_commit_unseen(MrProducer *producer);
extern void mr_producer_end_in_vain(MrProducer *producer);
extern bool mr_producer_abort(MrProducer *producer);

/* has another one taken its transactional id, or the broker ended its transaction?  Also after an ERROR */
extern bool mr_producer_is_fenced(const MrProducer *producer);

/*
 * ERROR of the message's own (22023, 54000) when it could not be sent: to a partition that the
 * topic does not have, because it is too large for this client, or because it was refused
 * (too_large.h).  May ask the broker.
 */
extern void mr_producer_check(MrProducer *producer, const char *topic, const MrOutMessage *msg);

#endif							/* MR_KAFKA_PRODUCER_H */
