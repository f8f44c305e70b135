/*
 * ingest/local_view.h
 *		Views over streams inside of this database, opened to take rows.
 */
#ifndef MR_INGEST_LOCAL_VIEW_H
#define MR_INGEST_LOCAL_VIEW_H

#include "ingest/lock.h"
#include "ingest/step.h"

/* one view; what take.c wants to know of a feed is there for it alone */
typedef struct MrLocalView
{
	Oid			relid;			/* the view */
	bool		valid;			/* still as it was opened, as far as anybody
								 * knows */
	bool		pinned;			/* in use across transactions: must not be
								 * closed */
	MemoryContext context;		/* all of it */
	List	   *tables;			/* of Oid */
	MrIngest	ingest;
	List	   *alone;			/* what ingest.views is between rounds: it */
	MrIngestView *view;
	double		planned_rows;	/* for which the plan was made */
} MrLocalView;

/* views that follow a table: List of Oid, in the current context */
extern List *mr_local_views_of(Oid table);

/*
 * A view, opened and locked until the transaction ends, and kept open for further ones; NULL
 * when it is gone, or takes no rows.
 */
extern MrLocalView *mr_local_view_open(Oid view);

/*
 * The same without waiting, and with all that its plan reads: false, and *busy, when somebody is
 * in the way.  *result is what mr_local_view_open would return.
 */
extern bool mr_local_view_try_open(Oid view, MrLocalView **result, MrBusy *busy);

/* open it for the current transaction, in the current context */
extern MrLocalView *mr_local_view_open_once(const MrView *view);

/* give back the memory of those that must not be used again; while none is in use */
extern void mr_local_view_tidy(void);

/* an error came while rows were taken: what is open must not be used again */
extern void mr_local_view_forget_all(void);

#endif							/* MR_INGEST_LOCAL_VIEW_H */
