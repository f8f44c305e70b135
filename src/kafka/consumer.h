/*
 * kafka/consumer.h
 *		Reading partitions of one topic, assigned explicitly (assign.h), never subscribed.
 *
 * No function here waits without checking for interrupts, and none may be called
 * with a lock held.  A consumer hangs on the memory context it was created in: its
 * reset callback destroys the librdkafka handle, so an ERROR leaves no thread and no
 * descriptor behind.
 */
#ifndef MR_KAFKA_CONSUMER_H
#define MR_KAFKA_CONSUMER_H

#include "kafka/conf.h"
#include "record.h"

typedef struct MrConsumer MrConsumer;

/*
 * A message as librdkafka delivered it, used in place.  key and value are NULL when
 * Kafka's are null (a value of NULL is a tombstone); they are never NUL-terminated.
 */
typedef struct MrMessage
{
	int32		partition;
	int64		offset;
	int64		timestamp_ms;	/* milliseconds since the Unix epoch; -1: none */
	const char *key;
	size_t		key_len;
	const char *value;
	size_t		value_len;
	void	   *handle;			/* rd_kafka_message_t; NULL: kept elsewhere */
	const void *headers;		/* without a handle: jsonb, or NULL */
} MrMessage;

typedef struct MrPartitionOffset
{
	int32		partition;
	int64		offset;
} MrPartitionOffset;

/* What a partition told us besides messages, since the last time it was asked. */
typedef struct MrPartitionStatus
{
	int32		partition;
	int64		position;		/* offset after the last message handed out */
	int64		eof;			/* end offset at the last end-of-partition
								 * report, control records and aborted
								 * messages included; -1: more is known to
								 * follow.  At the end, max(position, eof) is
								 * where the reader stands */
	bool		out_of_range;	/* the broker does not have the next offset */
	bool		another;		/* the log is not the one that was read: no
								 * more messages of it come */
} MrPartitionStatus;

typedef enum MrErrorKind
{
	MR_KAFKA_OK,
	MR_KAFKA_TRANSIENT,			/* broker down, timed out, no leader: keep
								 * polling */
	MR_KAFKA_NO_TOPIC,			/* topic or partition does not exist (yet) */
	MR_KAFKA_AUTH,				/* authentication or authorization refused */
	MR_KAFKA_FATAL				/* the consumer is of no more use */
} MrErrorKind;

/*
 * props: List of MrProperty *, user's first.  Sets what millrace owns:
 * enable.auto.commit=false, auto.offset.reset=error, enable.partition.eof=true,
 * isolation.level=read_committed unless the user said otherwise, group.id, log.queue,
 * allow.auto.create.topics=false.  Does not wait for the broker.  group_id is only a
 * name for outside lag tools.  props must live as long as the consumer.
 */
extern MrConsumer *mr_consumer_create(List *props, const char *topic, const char *group_id);
extern void mr_consumer_destroy(MrConsumer *consumer);

/*
 * Has a consumer of this process not come to its end, because of a fault in librdkafka before
 * version 2.2?  Its threads and sockets are freed when the process exits.
 */
extern bool mr_consumer_any_stuck(void);

/*
 * Take up to max messages into msgs, waiting at most timeout_ms for the first one
 * (on the latch and librdkafka's queue descriptor together; returns early with 0 when
 * the process latch is set; never consumes the latch's event without returning).
 * Returns the number taken.  0 with timeout 0 means nothing was queued.  Does not throw for
 * broker trouble (see mr_consumer_error), except when a last message, which has to be looked
 * at again after a pause, cannot be in time.
 */
extern int	mr_consumer_poll(MrConsumer *consumer, MrMessage *msgs, int max, int timeout_ms);

/* give messages back to librdkafka; every message taken must come back */
extern void mr_consumer_release(MrConsumer *consumer, MrMessage *msgs, int n);

/* headers of a message as jsonb Datum (object name -> string; last wins), isnull when none */
extern Datum mr_message_headers(const MrMessage *msg, bool *isnull);

/* by which it is recognized later, with its offset */
extern uint32 mr_message_checksum(const MrMessage *msg);

/* rough bytes that librdkafka holds for a message while we keep it */
extern size_t mr_message_memory(const MrMessage *msg);

/* status of all assigned partitions; array lives in the consumer, valid until the next call */
extern const MrPartitionStatus *mr_consumer_status(MrConsumer *consumer, int *n);

/*
 * The trouble the consumer is in now, MR_KAFKA_OK when it is in none; message is
 * librdkafka's, without secrets, valid until the next call.  Trouble ends when any
 * broker answers again (a message, an end of partition).
 */
extern MrErrorKind mr_consumer_error(MrConsumer *consumer, const char **message);

/*
 * Will it never read on, as far as one can tell?  Trouble lasts for half a minute, or a partition
 * does not move for a minute or two although the broker has more of it.  Another consumer, made anew, may.
 * To be asked again and again.
 */
extern bool mr_consumer_is_lost(MrConsumer *consumer);

#endif							/* MR_KAFKA_CONSUMER_H */
