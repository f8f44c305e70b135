/*
 * planted.c
 *		Triggers, rules and foreign keys that others put on tables of ours.
 *
 * The catalog, matrels, shadows and tables of changes belong to the extension's owner, and
 * are written with his rights.  What is planted on one would run with them as well.  The event
 * trigger refuses it when it is made (view/guard.c); but event triggers can be disabled, so
 * whoever writes looks once more.
 *
 * A foreign key that refers to a table is a trigger of it.
 */
#include "millrace.h"

#include "nodes/parsenodes.h"
#include "parser/parsetree.h"
#include "planted.h"
#include "storage/lmgr.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/resowner.h"

void
mr_planted_check(Relation rel)
{
	if (rel->trigdesc == NULL && rel->rd_rules == NULL)
		return;
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("table \"%s\" of extension millrace has a trigger, a rule, or a foreign key that refers to it",
				   RelationGetRelationName(rel)),
			errdetail("It would run with the rights of the extension's owner."),
			errhint("Drop it, and see that the extension's event triggers are enabled."));
}

/* result relations of a query and of the queries in its WITH */
static List *
written_relations(const Query *query, List *relids)
{
	ListCell   *lc;

	if (query->resultRelation != 0)
		relids = list_append_unique_oid(relids, rt_fetch(query->resultRelation, query->rtable)->relid);
	foreach(lc, query->cteList)
	{
		const Node *with = lfirst_node(CommonTableExpr, lc)->ctequery;

		if (IsA(with, Query))
			relids = written_relations((const Query *) with, relids);
	}
	return relids;
}

void
mr_planted_check_plan(SPIPlanPtr plan)
{
	const CachedPlanSource *source = linitial(SPI_plan_get_plan_sources(plan));
	List	   *relids = NIL;
	ListCell   *lc;

	if (!source->is_valid)
		ReleaseCachedPlan(SPI_plan_get_cached_plan(plan), CurrentResourceOwner);
	foreach(lc, source->query_list)
		relids = written_relations(lfirst_node(Query, lc), relids);
	foreach(lc, relids)
	{
		Relation	rel;

		LockRelationOid(lfirst_oid(lc), RowExclusiveLock);
		rel = RelationIdGetRelation(lfirst_oid(lc));
		if (!RelationIsValid(rel))
			continue;			/* the statement will say so */
		mr_planted_check(rel);
		RelationClose(rel);
	}
	list_free(relids);
}
