/*
 * stream/produce.h
 *		Messages that the current transaction sends when it commits.
 */
#ifndef MR_STREAM_PRODUCE_H
#define MR_STREAM_PRODUCE_H

#include "kafka/producer.h"
#include "stream/option.h"

typedef struct MrProduceTarget MrProduceTarget;

/*
 * A stream's topic, reached as userid; ERROR when options do not allow to connect.  Valid
 * until the end of the top transaction.
 */
extern MrProduceTarget *mr_produce_target(const MrStream *stream, Oid userid);

/*
 * Remember a copy of the message.  It is sent when the top transaction commits, and
 * forgotten when the current subtransaction aborts.
 */
extern void mr_produce_append(MrProduceTarget *target, const MrOutMessage *msg);

/* follow transactions; once in each process, when the library is loaded */
extern void mr_produce_init(void);

/*
 * For processes of ours, in which nothing is to be sent at the commit: ERROR for targets
 * other than this stream, InvalidOid: for all, and for messages that the producer could not
 * send.  Until the end of the process, or another call.
 */
extern void mr_produce_restrict(Oid relid, MrProducer *producer);

/*
 * Send now what is there, in a transaction of the given producer, and call with_them(arg)
 * before that is committed; nothing is left for the current transaction's commit.  No
 * transaction at all when there is nothing.  After an ERROR the producer is of no more use.
 */
extern void mr_produce_now(MrProducer *producer, void (*with_them) (void *arg), void *arg);

/* have the broker take what is there, for nobody to see: ERROR when it does not, as above */
extern void mr_produce_in_vain(MrProducer *producer);

/*
 * Have the producer, which sends each message alone, refuse those that are too large for the
 * broker.  Nothing is sent for anybody to see, and nothing is forgotten.
 */
extern void mr_produce_survey(MrProducer *producer);

#endif							/* MR_STREAM_PRODUCE_H */
