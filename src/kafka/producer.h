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
	size_t		value_len;
} MrHeader;

typedef struct MrOutMessage
{
	int32		partition;		/* -1: the partitioner decides (murmur2_random
								 * unless the user set "partitioner") */
	int64		timestamp_ms;	/* 0: now */
	const char *key;			/* NULL: none */
	size_t		key_len;
	const char *value;			/* NULL: tombstone */
	size_t		value_len;
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
 * begin (with init_transactions the first time), send, commit.  Any trouble is an ERROR
 * (ERRCODE_FDW_ERROR or ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION) with librdkafka's
 * reason, the topic named; after it the producer must be destroyed or aborted.  send
 * copies the message, never loses one silently, and waits when the local queue is full.
 * commit returns when the broker has acknowledged every message and the transaction.
 * abort never throws; it returns false when the handle is of no more use.
 */
extern void mr_producer_begin(MrProducer *producer);
extern void mr_producer_send(MrProducer *producer, const char *topic, const MrOutMessage *msg);
extern void mr_producer_commit(MrProducer *producer);
extern bool mr_producer_abort(MrProducer *producer);

/*
 * ERROR of the message's own (22023, 54000) when it could not be sent: to a partition that the
 * topic does not have, because it is too large for this client, or because it was refused.  May
 * ask the broker.
 */
extern void mr_producer_check(MrProducer *producer, const char *topic, const MrOutMessage *msg);

/*
 * Messages that are too large for the broker, which refuses batches.  They are known by their
 * fingerprints.  _refuse: these are refused; _is_refused: is this one?
 *
 * _offer, _settle: as send, and as commit without its end; but false when a batch in this
 * transaction, which can only be aborted then, is too large.  _too_large: which messages were in
 * such batches, some of them at least; also after an ERROR.
 */
extern void mr_producer_refuse(MrProducer *producer, const uint64 *fingerprints, int n);
extern bool mr_producer_is_refused(const MrProducer *producer, const MrOutMessage *msg);
extern const uint64 *mr_producer_refused(const MrProducer *producer, int *n);
extern bool mr_producer_offer(MrProducer *producer, const char *topic, const MrOutMessage *msg);
extern bool mr_producer_settle(MrProducer *producer);
extern const uint64 *mr_producer_too_large(const MrProducer *producer, int *n);

/*
 * For a consumer's position that commits with what is produced.
 *
 * _init: end what another producer of this id has begun, for good; _begin does it, too, if
 * it has not been done.  _group_offsets: what a group has committed of all partitions of a
 * topic, offset -1: nothing; palloc'd.  _send_offsets: within a transaction, what the group
 * is to have committed with it.  _commit_unseen: as commit, without waiting until readers
 * can see it.  Errors as above.
 */
extern void mr_producer_init(MrProducer *producer);
extern MrPartitionOffset *mr_producer_group_offsets(MrProducer *producer, const char *group,
													const char *topic, int *n);
extern void mr_producer_send_offsets(MrProducer *producer, const char *group, const char *topic,
									 const MrPartitionOffset *offsets, int n);
extern void mr_producer_commit_unseen(MrProducer *producer);

#endif							/* MR_KAFKA_PRODUCER_H */
