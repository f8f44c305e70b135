/*
 * kafka/consumer_internal.h
 *		What the parts of a consumer share.  Private to this folder: consumer.c lives and
 *		polls, assign.c assigns, ask.c asks, recall.c reads once more, stall.c watches.
 */
#ifndef MR_KAFKA_CONSUMER_INTERNAL_H
#define MR_KAFKA_CONSUMER_INTERNAL_H

#include "kafka/client.h"
#include "kafka/continuity.h"
#include "portability/instr_time.h"

/* Messages taken from librdkafka's queue in one call. */
#define TAKE_MESSAGES	1024

/* What stall.c knows. */
typedef struct MrStall
{
	double		waited_ms;		/* since the ends were asked for last */
	bool		troubled;		/* since: */
	instr_time	trouble_began;
	int			asked;			/* partitions, the first ones of status */
	int			failures;		/* answers in vain since the last good one */
	bool		lost;
} MrStall;

/* What the client was asked last by a poll. */
typedef enum MrAsked
{
	MR_ASKED_TOPIC,
	MR_ASKED_ENDS
} MrAsked;

struct MrConsumer
{
	MemoryContext cxt;
	MrClient   *client;
	MrTrouble  *trouble;		/* the client's */
	rd_kafka_topic_t *rkt;
	rd_kafka_queue_t *queue;
	char	   *topic;

	MrPartitionStatus *status;	/* of the partitions assigned */
	bool	   *settled;		/* by place in status: may librdkafka's
								 * position be believed, or is it that of an
								 * earlier assignment? */
	MrContinuity *continuity;	/* by place in status */
	int64	   *stood_at;		/* by place in status: where it was behind
								 * when the ends were known last; -1: it was
								 * not */
	int			nstatus;
	int			status_size;
	uint64		pauses;			/* times that nothing was queued */
	List	   *props;			/* NIL: does not doubt */
	MrConsumer *recaller;		/* reads messages once more; NULL: there was
								 * no need yet */
	rd_kafka_topic_partition_list_t *positions; /* same order as status; or
												 * NULL */
	int		   *index;			/* by partition: place in status, or -1 */
	int			nindex;

	struct SlotChunk *chunks;
	struct Slot *free_slots;
	int			nfree;
	rd_kafka_message_t *batch[TAKE_MESSAGES];
	int			nbatch;			/* taken, and not yet sorted */

	bool		nudging;		/* does this librdkafka need it? */
	int			unnudged;		/* messages taken since the last nudge */
	size_t		unnudged_bytes;
	TimestampTz last_nudge;

	uint64		events;			/* counts what was no message */
	bool		heard;			/* something came since the assignment */
	TimestampTz last_probe;
	MrAsked		asked;
	MrStall		stall;
	char	   *error;			/* what mr_consumer_error returned last */
	char	   *group_id;
	rd_kafka_queue_t *replies;	/* to courtesies; or NULL */
};

/*
 * From 2.2 until it was mended in 2.13, librdkafka counts the report of a partition's end as
 * a message (its issue 4844), so the position that it tells is one too high.  What is left
 * then are messages and the reports themselves, which shall come soon.
 */
static inline bool
mr_consumer_position_counts_ends(void)
{
	return rd_kafka_version() >= 0x02020000 && rd_kafka_version() < 0x020d0000;
}

/* NULL: it is not assigned */
static inline MrPartitionStatus *
mr_consumer_find_status(MrConsumer *consumer, int32 partition)
{
	if (partition < 0 || partition >= consumer->nindex || consumer->index[partition] < 0)
		return NULL;
	return &consumer->status[consumer->index[partition]];
}

static inline MrContinuity *
mr_consumer_continuity(MrConsumer *consumer, const MrPartitionStatus *status)
{
	return &consumer->continuity[status - consumer->status];
}

/* A consumer like another one, that reads single messages now and then, and then at once. */
extern MrConsumer *mr_consumer_create_recaller(const MrConsumer *consumer);

/* the partitions with their offsets, for librdkafka; to be destroyed */
extern rd_kafka_topic_partition_list_t *mr_consumer_partition_list(MrConsumer *consumer,
																   const MrPartitionOffset *parts,
																   int n);

/* take over positions that control records have moved */
extern void mr_consumer_refresh_positions(MrConsumer *consumer);

/* the broker has not answered a question about the topic: throws */
extern void mr_consumer_throw_no_answer(MrConsumer *consumer, rd_kafka_resp_err_t err);

/*
 * Look again at the last messages of the partitions whose state says so.  Throws when the
 * broker does not answer in time.
 */
extern void mr_consumer_resolve_doubts(MrConsumer *consumer);

#endif							/* MR_KAFKA_CONSUMER_INTERNAL_H */
