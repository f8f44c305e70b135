/*
 * ingest/isolate.h
 *		Which messages of a batch make a view's plan or merge fail?
 */
#ifndef MR_INGEST_ISOLATE_H
#define MR_INGEST_ISOLATE_H

#include "ingest/take.h"

/* a row that the view could not take, and why */
typedef struct MrRefusal
{
	int			row;
	MrReject	reject;
} MrRefusal;

typedef struct MrIsolation
{
	/* given */
	MrIngest   *ingest;
	MrIngestView *view;
	bool		first_only;		/* give up at the first refusal */
	bool		internal_too;	/* internal errors are a message's fault, too */
	int			excess_limit;	/* ERROR when refusals outnumber rows taken by
								 * that many; -1: never */
	TimestampTz deadline;		/* give up then; 0: never */
	bool	   *excluded;		/* by row: not the view's; afterwards refused
								 * ones, too */
	/* found */
	bool		late;			/* gave up at the deadline */
	int64		excess;			/* refusals in excess of rows taken, so far
								 * and before */
	int			nrefused;
	MrRefusal  *refused;

	/* private */
	MrScanSource source;
	MemoryContext context;
	MemoryContext scratch;		/* reset after each attempt */
	MrReject	error;			/* of the last attempt that failed */
	MrTakePhase phase;			/* that it failed in */
	bool		internal;		/* it was an internal error */
	int			seen;			/* rows before it are counted in excess */
	int			refused_size;
} MrIsolation;

/*
 * Let a view take the rows of its batch that are not excluded: plan and merge, in this
 * transaction.  Rows that make either fail are left out and told in refused.  An error that
 * is no message's fault is thrown.  When it gave up, the transaction is of no more use.
 */
extern void mr_isolate(MrIsolation *isolation);

/* did it give up? */
extern bool mr_isolate_gave_up(const MrIsolation *isolation);

#endif							/* MR_INGEST_ISOLATE_H */
