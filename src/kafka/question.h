/*
 * kafka/question.h
 *		Questions to a broker that librdkafka only offers as blocking calls.  Private to
 *		this folder; see question.c for the threads.
 */
#ifndef MR_KAFKA_QUESTION_H
#define MR_KAFKA_QUESTION_H

#include "millrace.h"

#include <librdkafka/rdkafka.h>

/* a librdkafka handle, destroyed when its last user lets it go */
typedef struct MrHandle MrHandle;

typedef struct MrQuestion MrQuestion;

/* All of these return NULL when out of memory, and never throw. */
extern MrHandle *mr_handle_create(rd_kafka_t *rk);
extern void mr_handle_release(MrHandle *handle);

/* may this process have as many threads more as a new handle needs?  False: errno says why */
extern bool mr_handle_threads_left(void);

/* is a handle still being destroyed, which may never end? */
extern bool mr_handle_any_abandoned(void);

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
