/*
 * kafka/continuity.h
 *		Is a partition's log still the one that was read before?  Private to this folder.
 */
#ifndef MR_KAFKA_CONTINUITY_H
#define MR_KAFKA_CONTINUITY_H

#include "kafka/consumer.h"
#include "utils/timestamp.h"

typedef enum MrRecallState
{
	MR_RECALL_NONE,				/* what comes is new */
	MR_RECALL_WANTED,			/* in doubt: to be read once more elsewhere */
	MR_RECALL_BEGUN,			/* reading began at "last", which is to come
								 * first */
	MR_RECALL_DONE				/* it has come, or will not; messages that are
								 * known may follow it */
} MrRecallState;

/* What a consumer knows of one partition. */
typedef struct MrContinuity
{
	MrRecord	last;			/* the message that the caller took last */
	int64		end;			/* what he has not passed when he took it */
	MrRecallState state;
	MrRecallState before;		/* it was wanted */
	bool		met;			/* the last recall found it */
	uint64		pauses;			/* the consumer's, when a message came last */
	TimestampTz heard_at;		/* when that was */
} MrContinuity;

typedef enum MrVerdict
{
	MR_VERDICT_NEW,				/* for the caller */
	MR_VERDICT_KNOWN,			/* leave it out */
	MR_VERDICT_ANOTHER			/* leave it out: the log is another one */
} MrVerdict;

/* does nothing have to be asked about a message? */
static inline bool
mr_continuity_is_plain(const MrContinuity *continuity, uint64 pauses)
{
	return continuity->state == MR_RECALL_NONE && continuity->pauses == pauses;
}

/* Is there something to recall, and no recall in hand? */
extern bool mr_continuity_may_doubt(const MrContinuity *continuity);

/* Does a message that comes after a pause give reason to doubt? */
extern bool mr_continuity_in_doubt(const MrContinuity *continuity, TimestampTz now);

/* a recall elsewhere is wanted; it has found nothing against the log */
extern void mr_continuity_doubt(MrContinuity *continuity);
extern void mr_continuity_confirm(MrContinuity *continuity, TimestampTz now);

/*
 * What is to become of a message that is not plain?  position: the next offset that the caller
 * does not know.
 */
extern MrVerdict mr_continuity_judge(MrContinuity *continuity, const MrMessage *msg,
									 int64 position);

/* the end of the partition was reported */
extern void mr_continuity_end(MrContinuity *continuity);

#endif							/* MR_KAFKA_CONTINUITY_H */
