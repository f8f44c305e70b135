/*
 * ingest/write.h
 *		A transform's rows of a batch into its sink.
 */
#ifndef MR_INGEST_WRITE_H
#define MR_INGEST_WRITE_H

#include "millrace.h"

#include "nodes/plannodes.h"

typedef struct MrWrite MrWrite;

/*
 * Run the plan of an INSERT with the scan source that is set, as the current user.  _begin
 * starts it, _rows writes all rows and returns how many, _end fires what waited for the last
 * of them, deferrable constraints included: nothing is left for the commit.
 */
extern MrWrite *mr_write_begin(PlannedStmt *plan);
extern uint64 mr_write_rows(MrWrite *writing);
extern void mr_write_end(MrWrite *writing);

/* constraints of the transaction are checked at once from here on; fires what is pending */
extern void mr_write_defer_nothing(void);

/* ERROR for SET CONSTRAINTS while rows are written: for the utility hook */
extern void mr_write_check_utility(const Node *stmt);

#endif							/* MR_INGEST_WRITE_H */
