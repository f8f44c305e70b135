/*
 * kafka/continuity.c
 *		Is a partition's log still the one that was read before?
 *
 * A topic that was deleted and created again, a log whose new leader lacks the old one's last
 * messages, another cluster at the same address: all of them have offsets, too, and when
 * they reach beyond ours, the broker sees nothing wrong in reading on.  (Leader epochs and
 * topic ids would tell; librdkafka before 2.1 and 2.3 knows neither.)  So the message that
 * was taken last is remembered, and read once more where there is reason to doubt: when a
 * partition is opened, and when messages come after a pause.  This costs nothing while
 * messages keep coming, because all those events take time: whatever fetch meets them fails,
 * and librdkafka waits for fetch.error.backoff.ms before the next one.
 *
 * A pause is as long as the caller found nothing queued and no message of the partition
 * came.  While he is busy elsewhere and the queue fills there is none.
 *
 * Reading once more begins at the message's offset: when a partition is opened by the consumer
 * itself, as it costs nothing then, and later on by a second one.  (The first has a request
 * at the broker that waits for fetch.wait.max.ms, and nothing overtakes it.)  If the first
 * message that comes is this one, the log is the same.  If there is none at that offset any
 * more (retention, compaction), nothing is proven, and the offset alone has to do.
 */
#include "postgres.h"

#include "kafka/continuity.h"

/* Shorter than librdkafka's wait after a failed fetch, half a second. */
#define PAUSE_MS	400

static bool
is_last(const MrContinuity *continuity, const MrMessage *msg)
{
	return msg->offset == continuity->last.offset &&
		mr_message_checksum(msg) == continuity->last.checksum;
}

/* the first message of a recall */
static MrVerdict
judge_first(MrContinuity *continuity, const MrMessage *msg)
{
	if (msg->offset < continuity->last.offset)
		return MR_VERDICT_KNOWN;
	if (is_last(continuity, msg))
	{
		continuity->state = MR_RECALL_DONE;
		continuity->met = true;
		return MR_VERDICT_KNOWN;
	}
	/* here, or between it and what followed, was no such message */
	return msg->offset < continuity->end ? MR_VERDICT_ANOTHER : MR_VERDICT_NEW;
}

/* a message of a recall that is not the one looked for */
static MrVerdict
judge_rest(MrContinuity *continuity, const MrMessage *msg, int64 position)
{
	if (msg->offset < position)
	{
		continuity->state = MR_RECALL_DONE;
		return MR_VERDICT_KNOWN;
	}
	continuity->state = MR_RECALL_NONE;
	return MR_VERDICT_NEW;
}

bool
mr_continuity_may_doubt(const MrContinuity *continuity)
{
	return continuity->last.offset >= 0 &&
		(continuity->state == MR_RECALL_NONE || continuity->state == MR_RECALL_DONE);
}

bool
mr_continuity_in_doubt(const MrContinuity *continuity, TimestampTz now)
{
	return mr_continuity_may_doubt(continuity) &&
		TimestampDifferenceExceeds(continuity->heard_at, now, PAUSE_MS);
}

void
mr_continuity_doubt(MrContinuity *continuity)
{
	continuity->before = continuity->state;
	continuity->state = MR_RECALL_WANTED;
}

void
mr_continuity_confirm(MrContinuity *continuity, TimestampTz now)
{
	continuity->state = continuity->before;
	continuity->heard_at = now;
}

MrVerdict
mr_continuity_judge(MrContinuity *continuity, const MrMessage *msg, int64 position)
{
	MrVerdict	verdict = MR_VERDICT_NEW;

	if (continuity->state == MR_RECALL_BEGUN)
		verdict = judge_first(continuity, msg);
	if (verdict == MR_VERDICT_NEW && continuity->state != MR_RECALL_NONE)
		verdict = judge_rest(continuity, msg, position);
	return verdict;
}

void
mr_continuity_end(MrContinuity *continuity)
{
	continuity->state = MR_RECALL_NONE;
}
