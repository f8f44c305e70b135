/*
 * kafka/ask.h
 *		Questions to the broker about a consumer's topic.
 */
#ifndef MR_KAFKA_ASK_H
#define MR_KAFKA_ASK_H

#include "kafka/consumer.h"

/*
 * They wait up to timeout_ms, checking for interrupts at least every 100 ms, and throw
 * ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION (with librdkafka's reason) unless error_ok is
 * said.
 *
 * mr_consumer_partitions: number of partitions, 0 when the topic does not exist, -1 on
 * other errors if error_ok (mr_consumer_error tells).
 * mr_consumer_watermarks: low and high (the last stable offset under read_committed)
 * for each partition given; false on failure if error_ok.
 * mr_consumer_offsets_for_time: first offset whose timestamp is >= the given one, the
 * end when there is none.
 */
extern int	mr_consumer_partitions(MrConsumer *consumer, int timeout_ms, bool error_ok);
extern bool mr_consumer_watermarks(MrConsumer *consumer, const int32 *partitions, int n,
								   int64 *low, int64 *high, int timeout_ms, bool error_ok);
extern void mr_consumer_offsets_for_time(MrConsumer *consumer, int64 timestamp_ms,
										 MrPartitionOffset *parts, int n, int timeout_ms);

/* watermarks as the last fetch answers told, without asking; -1 when not known */
extern void mr_consumer_cached_watermarks(MrConsumer *consumer, int32 partition,
										  int64 *low, int64 *high);

/* tell the group coordinator, for lag tools only; asynchronous, errors ignored */
extern void mr_consumer_commit_courtesy(MrConsumer *consumer, const MrPartitionOffset *parts, int n);

/* id of the cluster that answered last, palloc'd; NULL when none has.  Does not ask. */
extern char *mr_consumer_cluster_id(MrConsumer *consumer);

#endif							/* MR_KAFKA_ASK_H */
