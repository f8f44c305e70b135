/*
 * ingest/retention.h
 *		What a worker does for rows that leave views by age.
 */
#ifndef MR_INGEST_RETENTION_H
#define MR_INGEST_RETENTION_H

#include "ingest/step.h"

/* around a run of the view's plan: messages that come too late are counted in the view */
extern void mr_retention_begin(MrIngestView *view);
extern void mr_retention_end(void);

/* in the ingest transaction, after the merge: write the counts down */
extern void mr_retention_count(MrIngestView *view);

/*
 * Remove rows that are too old, in transactions of its own, for a short while.  True when
 * there are more of them.
 */
extern bool mr_retention_remove(MrIngest *ingest);

#endif							/* MR_INGEST_RETENTION_H */
