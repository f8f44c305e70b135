/*
 * view/explain.c
 *		Shows the plan that one batch of a view runs.
 *
 * The plan is made as the worker makes it, as the view's owner and under the view's
 * settings; statistics of joined tables may since have changed.
 */
#include "millrace.h"

#include "catalog.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "view/plan.h"
#include "view/relations.h"

PG_FUNCTION_INFO_V1(mr_explain_view);

static void
apply_settings(List *settings)
{
	ListCell   *lc;

	foreach(lc, settings)
	{
		char	   *name = pstrdup(lfirst(lc));
		char	   *value = strchr(name, '=');

		if (value == NULL)
			continue;
		*value++ = '\0';
		(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	}
}

static char *
explain_text(PlannedStmt *plan)
{
	ExplainState *es = NewExplainState();
	QueryDesc  *desc = CreateQueryDesc(plan, "continuous view", GetActiveSnapshot(),
									   InvalidSnapshot, None_Receiver, NULL, NULL, 0);

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
	Oid			userid;
	int			sec_context;
	int			level = NewGUCNestLevel();
	char	   *result;

	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(owner, sec_context | SECURITY_RESTRICTED_OPERATION);
	apply_settings(view->settings);
	result = explain_text(mr_plan_partial(mr_view_analyze(mr_view_declared_query(view))));
	AtEOXact_GUC(false, level);
	SetUserIdAndSecContext(userid, sec_context);
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
	Oid			relid = PG_GETARG_OID(0);
	MrView	   *view = mr_catalog_view(relid);
	AclResult	acl;

	if (view == NULL)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" is not a continuous view",
					   get_rel_name(relid) ? get_rel_name(relid) : "?"));
	acl = pg_class_aclcheck(relid, GetUserId(), ACL_SELECT);
	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_VIEW, get_rel_name(relid));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	put_lines((ReturnSetInfo *) fcinfo->resultinfo,
			  explain_as_owner(view, mr_relation_owner(relid)));
	return (Datum) 0;
}
