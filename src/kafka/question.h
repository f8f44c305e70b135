/*
 * kafka/question.h
 *		Questions to a broker that librdkafka only offers as blocking calls.  Private to
 *		this folder; see question.c for the threads.
 */
#ifndef MR_KAFKA_QUESTION_H
#define MR_KAFKA_QUESTION_H

#include "kafka/handle.h"

typedef struct MrQuestion MrQuestion;

/* These return NULL when out of memory, and never throw. */

/* how many partitions has the topic, and how many of them have no leader? */
extern MrQuestion *mr_question_topic(const char *topic);

/*
 * For each partition the first offset at or after a time (milliseconds), or what a logical
 * offset stands for.
 */
extern MrQuestion *mr_question_offsets(const char *topic, const int32 *partitions,
									   int n, int64 time_or_logical);

/*
 * Which offsets has a group committed, of these partitions?  RD_KAFKA_OFFSET_INVALID: none.
 * Waits for transactions that are about to end.
 */
extern MrQuestion *mr_question_group_offsets(const char *group, const char *topic,
											 const int32 *partitions, int n);

/* no question: put a group's offsets into the transaction that the handle's producer is in */
extern MrQuestion *mr_question_send_offsets(const char *group,
											const rd_kafka_topic_partition_list_t *offsets);

/*
 * Start asking for up to timeout_ms; a byte is written to wake_fd when it is over, which
 * must stay open until then or until the question is dropped.  False when no thread could
 * be started (errno says why).
 */
extern bool mr_question_start(MrQuestion *question, MrHandle *handle, int timeout_ms, int wake_fd);
extern bool mr_question_done(MrQuestion *question);
extern void mr_question_drop(MrQuestion *question);

/* Once done: how it went, and the answers. */
extern rd_kafka_resp_err_t mr_question_error(const MrQuestion *question);
extern int	mr_question_partitions(const MrQuestion *question); /* 0: no such topic */
extern int	mr_question_leaderless(const MrQuestion *question);
extern int64 mr_question_offset(const MrQuestion *question, int i);

/* wait, at most timeout_ms, until no dropped question uses a handle any more; false if one does */
extern bool mr_question_quiesce(int timeout_ms);

#endif							/* MR_KAFKA_QUESTION_H */
