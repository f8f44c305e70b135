/*
 * view/explain.c
 *		Shows the plan that one batch of a view runs.
 *
 * The plan is made as the worker makes it, as the view's owner and under the view's
 * settings; statistics of joined tables may since have changed.
 */
#include "millrace.h"

#include "catalog_view.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "view/guise.h"
#include "view/local.h"
#include "view/plan.h"
#include "view/relations.h"
#include "view/target.h"

PG_FUNCTION_INFO_V1(mr_explain_view);

static char *
explain_text(PlannedStmt *plan, QueryEnvironment *environment)
{
	ExplainState *es = NewExplainState();
	QueryDesc  *desc = CreateQueryDesc(plan, "continuous view", GetActiveSnapshot(),
									   InvalidSnapshot, None_Receiver, NULL, environment, 0);

	es->costs = false;
	ExecutorStart(desc, EXEC_FLAG_EXPLAIN_ONLY);
	ExplainBeginOutput(es);
	ExplainPrintPlan(es, desc);
	ExplainEndOutput(es);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	return es->str->data;
}

/* text of the plan, made with the owner's rights */
static char *
explain_as_owner(const MrView *view, Oid owner)
{
	MrViewAnalysis *analysis;
	MrGuise		guise;
	char	   *result;

	mr_guise_begin(&guise, owner, view->settings);
	analysis = mr_view_reanalyze(view);
	result = explain_text(mr_plan_partial(analysis), mr_local_provide_nothing(analysis->tables));
	mr_guise_end(&guise);
	return result;
}

static void
put_lines(ReturnSetInfo *rsinfo, char *text)
{
	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
	{
		Datum		value = CStringGetTextDatum(line);
		bool		isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
	}
}

/* explain_view(view regclass) */
Datum
mr_explain_view(PG_FUNCTION_ARGS)
{
	Oid			relid = mr_target_relation(fcinfo);
	MrView	   *view = mr_target_view(relid);

	mr_target_require_owner(relid);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	put_lines((ReturnSetInfo *) fcinfo->resultinfo,
			  explain_as_owner(view, mr_relation_owner(relid)));
	return (Datum) 0;
}
