/*
 * write.c
 *		A transform's rows of a batch into its sink.
 *
 * The plan is that of an ordinary INSERT, run by the executor.  What would wait for the
 * commit must not: there nobody could tell any more which message is at fault, and triggers
 * would run as the worker's superuser instead of the transform's owner.  So deferrable
 * constraints are checked at the end of each INSERT, and SET CONSTRAINTS in a trigger, which
 * could put them off again, is refused.
 *
 * Triggers run in the worker, under the view's guise.  What they select from a stream comes
 * from its topic, not from the batch, which only the plan's own scan is to see.
 */
#include "millrace.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "ingest/take.h"
#include "ingest/write.h"
#include "stream/batch.h"
#include "utils/snapmgr.h"

struct MrWrite
{
	QueryDesc  *desc;
};

void
mr_write_defer_nothing(void)
{
	ConstraintsSetStmt *stmt = makeNode(ConstraintsSetStmt);

	stmt->constraints = NIL;
	stmt->deferred = false;
	AfterTriggerSetState(stmt);
	pfree(stmt);
}

void
mr_write_check_utility(const Node *stmt)
{
	if (IsA(stmt, ConstraintsSetStmt) && mr_take_is_writing())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot execute SET CONSTRAINTS while a continuous transform writes"),
				 errhint("Constraints of a transform's target are checked at the end of each batch's INSERT.")));
}

MrWrite *
mr_write_begin(PlannedStmt *plan)
{
	MrWrite    *result = palloc0(sizeof(MrWrite));

	mr_write_defer_nothing();
	PushCopiedSnapshot(GetTransactionSnapshot());
	UpdateActiveSnapshotCommandId();
	result->desc = CreateQueryDesc(plan, "continuous transform", GetActiveSnapshot(),
								   InvalidSnapshot, None_Receiver, NULL, NULL, 0);
	mr_scan_source_run(plan);
	ExecutorStart(result->desc, 0);
	mr_scan_source_set(NULL);	/* the plan's scans have taken note of it */
	return result;
}

uint64
mr_write_rows(MrWrite *writing)
{
	mr_executor_run(writing->desc);
	return writing->desc->estate->es_processed;
}

void
mr_write_end(MrWrite *writing)
{
	ExecutorFinish(writing->desc);
	ExecutorEnd(writing->desc);
	FreeQueryDesc(writing->desc);
	PopActiveSnapshot();
	CommandCounterIncrement();
	pfree(writing);
}
