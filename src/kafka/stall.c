/*
 * kafka/stall.c
 *		Has a consumer stopped reading for good?
 *
 * librdkafka mends by itself what comes and goes, as a rule.  Where it does not, nothing but a
 * new handle helps.  Since 2.5 a partition whose leader was away for a moment, as when a KRaft
 * controller fences a broker that was slow, may never be read again (its issue 5430): without
 * any error, or with one that does not end although the broker is there.  Two things tell:
 *
 * - Trouble that lasts.  In an outage that costs a handle now and then, and nothing else.
 * - A partition that does not move although the broker has more of it.  The ends of all are
 *   asked for now and then; one that was behind the last time, and stands where it stood, is
 *   stalled.  The time between is longer than a request may take (socket.timeout.ms), after
 *   which librdkafka would have given up a fetch that is merely slow.  Ends that cannot be
 *   asked for twice, while the topic is there, are the same.
 *
 * That time is what was spent waiting with nothing in the queue: while the caller works librdkafka
 * may have its reasons not to fetch.
 */
#include "postgres.h"

#include "elapsed.h"
#include "kafka/stall.h"

/* How long trouble may last. */
#define TROUBLE_MS		30000

/* Between two questions for the ends. */
#define CHECK_MS		60000

/* Answers that fail, one after the other. */
#define MAX_FAILURES	2

void
mr_stall_waited(MrConsumer *consumer, double ms)
{
	consumer->stall.waited_ms += ms;
}

bool
mr_stall_is_due(const MrConsumer *consumer)
{
	return consumer->nstatus > 0 && consumer->stall.waited_ms >= CHECK_MS &&
		mr_trouble_kind(consumer->trouble) == MR_KAFKA_OK;
}

MrQuestion *
mr_stall_question(MrConsumer *consumer)
{
	int32	   *partitions = palloc(consumer->nstatus * sizeof(int32));
	MrQuestion *question;

	for (int i = 0; i < consumer->nstatus; i++)
		partitions[i] = consumer->status[i].partition;
	question = mr_question_offsets(consumer->topic, partitions, consumer->nstatus, RD_KAFKA_OFFSET_END);
	pfree(partitions);
	consumer->stall.waited_ms = 0;
	consumer->stall.asked = consumer->nstatus;
	return question;
}

static void
lose(MrConsumer *consumer, const char *reason)
{
	consumer->stall.lost = true;
	mr_trouble_note(consumer->trouble, RD_KAFKA_RESP_ERR__TIMED_OUT, reason);
}

/* does it stand where it stood, with more to read then as now? */
static bool
is_stalled(MrConsumer *consumer, int place, int64 end)
{
	const MrPartitionStatus *status = &consumer->status[place];
	int64		reached = Max(status->position, status->eof);
	bool		behind = end > reached && !status->out_of_range && !status->another;
	bool		stalled = behind && consumer->stood_at[place] == reached;

	consumer->stood_at[place] = behind ? reached : -1;
	return stalled;
}

void
mr_stall_judge(MrConsumer *consumer, rd_kafka_resp_err_t err)
{
	char		reason[128];

	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (++consumer->stall.failures >= MAX_FAILURES)
			lose(consumer, rd_kafka_err2str(err));
		return;
	}
	consumer->stall.failures = 0;
	mr_consumer_refresh_positions(consumer);
	for (int i = 0; i < Min(consumer->stall.asked, consumer->nstatus); i++)
	{
		if (!is_stalled(consumer, i, mr_client_offset(consumer->client, i)))
			continue;
		snprintf(reason, sizeof(reason), "no messages come of partition %d, which has some",
				 consumer->status[i].partition);
		lose(consumer, reason);
	}
}

/* has there been trouble for too long, at all times when this was asked? */
static bool
is_troubled_for_long(MrConsumer *consumer)
{
	MrStall    *stall = &consumer->stall;
	bool		troubled = mr_trouble_kind(consumer->trouble) != MR_KAFKA_OK;

	if (!stall->troubled)
		INSTR_TIME_SET_CURRENT(stall->trouble_began);
	stall->troubled = troubled;
	return troubled && mr_ms_since(stall->trouble_began) >= TROUBLE_MS;
}

bool
mr_consumer_is_lost(MrConsumer *consumer)
{
	return is_troubled_for_long(consumer) || consumer->stall.lost;
}
