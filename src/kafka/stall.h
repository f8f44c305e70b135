/*
 * kafka/stall.h
 *		Has a consumer stopped reading for good?  Private to this folder; the outside asks
 *		mr_consumer_is_lost().
 */
#ifndef MR_KAFKA_STALL_H
#define MR_KAFKA_STALL_H

#include "kafka/consumer_internal.h"

/* ms were spent waiting for messages, with none in the queue */
extern void mr_stall_waited(MrConsumer *consumer, double ms);

/* is it time to ask for the ends of all partitions? */
extern bool mr_stall_is_due(const MrConsumer *consumer);

/* the question for them, in the order of status; NULL: out of memory */
extern MrQuestion *mr_stall_question(MrConsumer *consumer);

/* the answer has come; err: it is none */
extern void mr_stall_judge(MrConsumer *consumer, rd_kafka_resp_err_t err);

#endif							/* MR_KAFKA_STALL_H */
