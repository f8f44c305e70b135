/*
 * ingest/step.h
 *		One batch of messages into all views of a feed, in one transaction.
 */
#ifndef MR_INGEST_STEP_H
#define MR_INGEST_STEP_H

#include "catalog_view.h"
#include "ingest/merge.h"
#include "ingest/offsets.h"
#include "stream/batch.h"
#include "view/plan.h"

/*
 * As whom, and under which settings, messages are decoded.  Both are a view's: settings of
 * one role (search_path!) must never meet the rights of another.
 */
typedef struct MrProfile
{
	Oid			owner;
	List	   *settings;		/* of char *: name=value */
	MrBatchDecoder *decoder;
	MrBatch    *batch;			/* of the batch at hand */
} MrProfile;

typedef struct MrIngestView
{
	MrView	   *view;
	char	   *name;			/* for messages */
	Oid			owner;
	MrViewAnalysis *analysis;
	MemoryContext plan_context;
	PlannedStmt *plan;			/* NULL: to be planned */
	PlannedStmt *probe_plan;	/* for few rows; NULL: to be planned */
	struct MrGrouping *grouping;	/* NULL: only the executor can run the
									 * plan */
	List	   *relations;		/* of Oid: what the last plan reads */
	MrMerge    *merge;			/* NULL: a transform */
	MrChanges  *changes;		/* or NULL */
	MrProfile  *profile;
	int64	   *start;			/* by partition: messages before are not the
								 * view's */
	int			nstart;
	uint64		rows_out;		/* partial rows of the batch */
	int64		excess;			/* messages refused in excess of those taken */
	int64		new_excess;		/* the same after the batch at hand */
	int64	   *late;			/* by bound: messages that came too late; or
								 * NULL */
} MrIngestView;

/* A feed, opened for ingest: all of it lives in context. */
typedef struct MrIngest
{
	MemoryContext context;
	MrStream   *stream;
	MrFeed	   *feed;
	MrFeedCluster *cluster;
	MrOffsets  *offsets;
	List	   *views;			/* of MrIngestView *, by oid: all workers
								 * merge in this order */
	List	   *followers;		/* of Oid: views over what those tell, locked
								 * by the step at hand */
	List	   *profiles;		/* of MrProfile * */
	int64		excess;			/* messages that could not be decoded, in
								 * excess of the others */
	int64		new_excess;		/* the same after the batch at hand */
	int64		live_feed;		/* catching up: what is joined in the end */
	const bool *valid;			/* of no feed: still as it was opened? */
	char	   *stop_error;		/* the step ends before a message that stops
								 * the stream for this reason; NULL: none */
	Oid			stop_view;		/* the view that refused it */
	MrFeedOffset *live;			/* catching up: the live feed's offsets, as of
								 * the step's beginning; NULL: there is none */
	int			nlive;
	struct MrStreamSink *sink;	/* of a feed apart; NULL: of all others */
	MrFeedOffset *delivered;	/* up to where that has been produced */
	int			ndelivered;
	bool		other_log;		/* catching up: the live feed's offset was one
								 * of another log */
	bool		stepping_over;	/* the step takes what has been delivered */
	/* how to take the next step */
	bool		aloof;			/* catching up: take no messages with the live
								 * feed in hand */
	bool		careful;		/* isolate messages that a view cannot take */
	bool		internal_too;	/* internal errors may be a message's fault */
	/* of the step at hand, or the last one */
	bool		holds_live;		/* has locked the live feed, to join it */
	int			nrefused;		/* messages that a view did not take */
	int64		ntaken;			/* messages of the step, without those that
								 * were cut off */
	bool		moved;			/* the step has moved offsets, or the feed */
	int			nmessages;		/* careful: messages of those given that were
								 * taken */
	double		decode_ms;
	double		aggregate_ms;
	double		merge_ms;
	double		commit_ms;
} MrIngest;

/*
 * Where a step finds out about what lies beyond the messages that it was given.  next: the
 * messages after those, as long as the broker is known to hold a lot more; gives the former
 * ones back, never waits; 0 when there are none at hand.  ends: where the reader stands by
 * partition, past control records, with all messages handed out so far.  at_end: is that
 * the end of all partitions, as far as anybody knows?  end: of one partition on the broker, as far
 * as was heard; -1 when nothing was.
 */
typedef struct MrStepSource
{
	int			(*next) (void *arg, MrMessage **messages);
	const MrPartitionOffset *(*ends) (void *arg, int *n);
	bool		(*at_end) (void *arg);
	int64		(*end) (void *arg, int32 partition);
	void	   *arg;
} MrStepSource;

/* what was being done for a view when an error came */
typedef enum MrTakePhase
{
	MR_TAKE_OTHER,				/* opening, planning, judging */
	MR_TAKE_PLAN,				/* rows were run through the plan */
	MR_TAKE_MERGE,				/* partial rows were merged */
	MR_TAKE_WRITE,				/* a transform's rows were written, each as it
								 * came */
	MR_TAKE_WRITTEN				/* and what waits for the last of them:
								 * triggers, constraints */
} MrTakePhase;

typedef enum MrStepResult
{
	MR_STEP_COMMITTED,
	MR_STEP_STALE,				/* the catalog changed: open the feed anew */
	MR_STEP_STOPPED,			/* on_error = stop: a message before the end
								 * was bad */
	MR_STEP_JOINED				/* the feed has become one with the live feed */
} MrStepResult;

/*
 * Is it the live feed's, which takes each message of the stream once?  Others take messages that
 * have been taken before.
 */
extern bool mr_ingest_counts_for_stream(const MrIngest *ingest);

/*
 * After an error: the view whose analysis, plan or merge was running, or InvalidOid, and in
 * which phase.  Ends the batch's claim on scans, too.
 */
extern Oid	mr_ingest_after_error(MrTakePhase *phase);

/*
 * Take messages (in order of each partition), and those that follow them until the batch is
 * full, into all views, and move the offsets; memory of the batch is below the current
 * context.  catch_up: stop at the live feed's offsets, and join it when it is reached.  A
 * careful step takes no messages but those given, or the first of them; it leaves out what
 * a view cannot take, as on_error says.  Errors are thrown with the transaction open.
 */
extern MrStepResult mr_ingest_step(MrIngest *ingest, MrMessage *messages, int n,
								   const MrStepSource *source, bool catch_up);

#endif							/* MR_INGEST_STEP_H */
