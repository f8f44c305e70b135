/*
 * view/retention.c
 *		set_retention(): how long a view keeps its groups.
 *
 * The reader's rule is made anew, with the condition or without; workers open their feeds
 * anew.  What was too old under the former retention stays so, whether it has been removed or
 * not: its horizon is kept, for readers and ingest.
 *
 * Locking: AccessExclusiveLock on the view, so that no reader and no worker is at work with
 * the former rule; then the feeds.
 */
#include "millrace.h"

#include "access/xact.h"
#include "commands/view.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "shmem.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "view/ddl.h"
#include "view/expiry.h"
#include "view/guise.h"
#include "view/relations.h"
#include "view/retention.h"
#include "view/target.h"

PG_FUNCTION_INFO_V1(mr_set_retention);

/*
 * Arguments
 */

static void
check_age(const Interval *age)
{
	Interval	zero = {0};

	if (DatumGetBool(DirectFunctionCall2(interval_le, IntervalPGetDatum(age), IntervalPGetDatum(&zero))))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("retention must be greater than zero"));
}

MrRetention *
mr_retention_from_arguments(Interval *age, const char *column, AttrNumber attno)
{
	MrRetention *result;

	if (age == NULL && column == NULL)
		return NULL;
	if (age == NULL || column == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("retention needs both an interval and a column"),
				age == NULL ?
				errhint("Say how long groups are kept, as in retention => '30 days'.") :
				errhint("Name the output column that tells how old a group is, as in retention_column => 'minute'."));
	check_age(age);
	if (attno <= 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_COLUMN),
				errmsg("retention column \"%s\" does not exist in the view", column),
				errhint("Name one of the view's output columns."));
	result = palloc0(sizeof(MrRetention));
	result->column = attno;
	result->age = age;
	TIMESTAMP_NOBEGIN(result->removed_before);
	return result;
}

void
mr_retention_refuse_window(void)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("a view cannot have both a sliding window and a retention"),
			errhint("Rows that have left the window are removed anyway; leave out the retention."));
}

/*
 * Changing it
 */

/* end the retentions that there are; what is too old by now stays so */
static void
end_retentions(const MrView *view, const MrViewAnalysis *analysis)
{
	ListCell   *lc;

	foreach(lc, analysis->bounds)
	{
		MrBound    *bound = lfirst(lc);
		MrRetention ended = {.column = bound->shown_as};

		ended.removed_before = mr_bound_horizon(bound, GetCurrentTransactionStartTimestamp());
		mr_catalog_set_retention(view->view, &ended);
	}
}

/* the former horizon of the column, if it had a retention before */
static Timestamp
removed_before(const MrView *view, AttrNumber column)
{
	ListCell   *lc;

	foreach(lc, mr_catalog_retentions(view->view))
	{
		MrRetention *retention = lfirst(lc);

		if (retention->column == column)
			return retention->removed_before;
	}
	return DT_NOBEGIN;
}

static const MrBound *
bound_of_column(const MrViewAnalysis *analysis, AttrNumber column)
{
	ListCell   *lc;

	foreach(lc, analysis->bounds)
	{
		const MrBound *bound = lfirst(lc);

		if (bound->shown_as == column)
			return bound;
	}
	elog(ERROR, "retention of column %d is not known", column);
	return NULL;				/* not reached */
}

static bool
had_bound(const MrViewAnalysis *analysis, AttrNumber column)
{
	ListCell   *lc;

	foreach(lc, analysis->bounds)
	{
		if (((MrBound *) lfirst(lc))->shown_as == column)
			return true;
	}
	return false;
}

/* the reader's rule anew; its columns may have been renamed */
static void
replace_reader(const MrView *view, const MrViewAnalysis *analysis)
{
	Query	   *query = mr_view_reader_query(analysis, view->matrel);
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!tle->resjunk)
			tle->resname = get_attname(view->view, tle->resno, false);
	}
	StoreViewQuery(view->view, query, true);
	CommandCounterIncrement();
}

static void
change(const MrView *view, Interval *age, const char *column)
{
	MrViewAnalysis *former = mr_view_reanalyze(view);
	MrRetention *retention = mr_retention_from_arguments(age, column, column == NULL ? 0 :
														 get_attnum(view->view, column));
	MrViewAnalysis *analysis;
	ListCell   *lc;

	end_retentions(view, former);
	if (retention != NULL)
	{
		retention->removed_before = removed_before(view, retention->column);
		mr_catalog_set_retention(view->view, retention);
	}
	analysis = mr_view_reanalyze(view);
	foreach(lc, analysis->bounds)
	{
		mr_bound_check_zone(lfirst(lc));
		(void) mr_bound_horizon(lfirst(lc), GetCurrentTransactionStartTimestamp());
	}
	if (retention != NULL && !had_bound(former, retention->column))
		mr_expiry_create_index(view, analysis, bound_of_column(analysis, retention->column));
	replace_reader(view, analysis);
}

/* set_retention(view, retention, retention_column); see INTERFACE */
Datum
mr_set_retention(PG_FUNCTION_ARGS)
{
	Oid			relid = mr_target_relation(fcinfo);
	Interval   *age = PG_ARGISNULL(1) ? NULL : PG_GETARG_INTERVAL_P(1);
	char	   *column = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	MrView	   *view;
	MrGuise		guise;

	mr_target_require_command("set_retention()");
	PreventCommandDuringRecovery("set_retention()");
	mr_target_refuse_transform(mr_target_view(relid), "Delete from its target what is too old.");
	mr_target_require_owner(relid);
	LockRelationOid(relid, AccessExclusiveLock);
	view = mr_target_view(relid);
	if (mr_catalog_window(relid) != NULL)
		mr_retention_refuse_window();

	mr_guise_begin(&guise, mr_relation_owner(relid), view->settings);
	change(view, age, column);
	mr_guise_end(&guise);
	/* the reader's rule is new, which tells workers that have the view open */
	mr_catalog_changed();
	PG_RETURN_VOID();
}
