/*
 * kafka/producer_internal.h
 *		What the parts of a producer share.  Private to this folder: producer.c lives, sends
 *		and commits; on top of it, too_large.c finds messages that the broker does not take,
 *		and group_offsets.c commits a position along; producer_error.c says what went wrong.
 */
#ifndef MR_KAFKA_PRODUCER_INTERNAL_H
#define MR_KAFKA_PRODUCER_INTERNAL_H

#include "kafka/client.h"
#include "kafka/fingerprint.h"
#include "kafka/producer.h"

/* More messages of a transaction that were too large than these are forgotten. */
#define TOO_LARGE_MAX		64

typedef struct ProducerTopic
{
	struct ProducerTopic *next;
	char	   *name;
	rd_kafka_topic_t *rkt;
	int			partitions;
	int64	   *delivered;		/* by partition: last offset that this
								 * transaction has written, -1: none */
} ProducerTopic;

struct MrProducer
{
	MemoryContext cxt;
	MrClient   *client;
	MrTrouble  *trouble;		/* the client's */
	ProducerTopic *topics;
	bool		initialized;	/* init_transactions is through */
	bool		in_transaction;
	bool		dead;			/* of no more use */
	int64		sent;
	size_t		max_size;		/* of key and value; 0: not looked up yet */

	/* first failed delivery of this transaction */
	rd_kafka_resp_err_t failure;
	char		failed_topic[256];
	char		failed_reason[256];
	size_t		failed_size;

	/* of messages in batches that were too large for the broker, fingerprints */
	uint64		too_large[TOO_LARGE_MAX];
	int			ntoo_large;

	MrFingerprints refused;		/* not to be sent */
};

/* number of partitions as the broker tells now; ERROR when it does not, or has no such topic */
extern int	mr_producer_ask_partitions(MrProducer *producer, const char *topic);

/*
 * Let librdkafka have a message.  Returns why it does not, or why another message has failed;
 * ERROR for what is no affair of the transaction: an interrupt, a topic or partition that is
 * not there.
 */
extern rd_kafka_resp_err_t mr_producer_hand_over(MrProducer *producer, const char *topic,
												 const MrOutMessage *msg);

/*
 * Wait until the broker has taken all messages of the transaction, without its end.  False: it
 * has refused one as too large, and the transaction can only be aborted; ERROR for other
 * reasons.
 */
extern bool mr_producer_settle(MrProducer *producer);

/* once the transaction has failed, for whatever reason: was it that? */
extern bool mr_producer_failed_for_size(MrProducer *producer);

/* as mr_producer_abort, but ERROR when the handle is of no more use */
extern void mr_producer_abort_or_throw(MrProducer *producer);

#endif							/* MR_KAFKA_PRODUCER_INTERNAL_H */
