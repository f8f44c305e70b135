/*
 * view/transform.c
 *		Continuous transforms: a query whose rows are written somewhere, batch by batch.
 *
 * A transform has no matrel.  Each message makes rows of its own, which go into its sink by
 * an ordinary INSERT whose source is the declared query: so defaults, identity and generated
 * columns, casts, constraints, triggers, row security and partition routing are
 * PostgreSQL's.  The INSERT is made of OIDs, not of text, and made anew whenever it is
 * planned, because the sink may have been altered.
 *
 * What a sink may be is asked each time, too: what is written into it must not outlive, or
 * be outlived by, the position that commits with it.  An unlogged table loses its rows in a
 * crash; another server's table does not commit with ours.
 */
#include "millrace.h"

#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog_view.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_relation.h"
#include "parser/parse_target.h"
#include "parser/parsetree.h"
#include "stream/option.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "view/local.h"
#include "view/split.h"
#include "view/transform.h"

/* range table of the INSERT */
#define SINK_INDEX	1
#define ROWS_INDEX	2

/*
 * The query
 */

/* what makes a level more than rows of each message, NULL: nothing does */
static const char *
construct_name(const Query *level)
{
	if (level->hasWindowFuncs)
		return "a window function";
	if (level->groupingSets != NIL || level->groupClause != NIL)
		return "GROUP BY";
	if (level->hasAggs)
		return "an aggregate";
	if (level->havingQual != NULL)
		return "HAVING";
	if (level->distinctClause != NIL)
		return level->hasDistinctOn ? "DISTINCT ON" : "DISTINCT";
	if (level->limitCount != NULL)
		return "LIMIT";
	return level->limitOffset != NULL ? "OFFSET" : NULL;
}

static void
restrict_level(const Query *level)
{
	const char *name = construct_name(level);

	if (name == NULL && level->sortClause != NIL)
		name = "ORDER BY";
	if (name != NULL)
		mr_refuse(-1,
				  errmsg("%s is not supported in a continuous transform", name),
				  errdetail("A transform takes each message by itself."),
				  errhint("Create a continuous view."));
}

/* as CREATE VIEW does */
static void
check_has_columns(const Query *query)
{
	if (query->targetList == NIL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				errmsg("view must have at least one column"));
}

/* an attached table has no worker that could write */
static void
restrict_tables(Query *query)
{
	List	   *tables = mr_local_tables(query);

	if (tables != NIL)
		mr_refuse(-1,
				  errmsg("a continuous transform of attached table \"%s\" is not supported", get_rel_name(linitial_oid(tables))),
				  errhint("Use a trigger on the table; or a continuous view without aggregates, which keeps the rows that its query gives."));
}

MrViewAnalysis *
mr_transform_analyze(Query *query, Oid sink)
{
	MrSplit    *split = palloc0(sizeof(MrSplit));
	MrViewAnalysis *analysis = &split->analysis;

	restrict_tables(query);
	mr_local_take_for_streams(NIL);
	mr_restrict_declared(query);
	analysis->declared = copyObject(query);
	split->whole = copyObject(query);
	mr_split_find(split);
	restrict_level(split->level);
	restrict_level(split->whole);
	check_has_columns(split->whole);

	analysis->window_column = -1;
	analysis->sink = sink;
	analysis->partial = split->whole;
	mr_split_inline_ctes(analysis->partial, NIL);
	mr_restrict_partial(analysis->partial);
	analysis->streams = mr_stream_uses(analysis->partial);
	return analysis;
}

/*
 * The sink
 */

static void
refuse_sink(const char *what, const char *name, const char *hint)
{
	ereport(ERROR,
			errcode(ERRCODE_WRONG_OBJECT_TYPE),
			errmsg("%s \"%s\" cannot be the target of a continuous transform", what, name),
			errhint("%s", hint));
}

static void
check_persistence(char persistence, const char *name)
{
	if (persistence == RELPERSISTENCE_TEMP)
		refuse_sink("temporary table", name, "Ingest runs in another session: use an ordinary table.");
	if (persistence == RELPERSISTENCE_UNLOGGED)
		refuse_sink("unlogged table", name, "It would lose its rows in a crash: use ALTER TABLE ... SET LOGGED.");
}

List *
mr_transform_partitions(Oid sink)
{
	return get_rel_relkind(sink) == RELKIND_PARTITIONED_TABLE ? find_all_inheritors(sink, NoLock, NULL) : NIL;
}

static void
check_partitions(Relation rel)
{
	ListCell   *lc;

	foreach(lc, mr_transform_partitions(RelationGetRelid(rel)))
	{
		Oid			relid = lfirst_oid(lc);

		if (get_rel_relkind(relid) == RELKIND_FOREIGN_TABLE)
			refuse_sink("partitioned table", RelationGetRelationName(rel),
						"Rows in a partition that is a foreign table would not commit with ours: detach it.");
		check_persistence(get_rel_persistence(relid), get_rel_name(relid));
	}
}

static void
check_insert_rules(Relation rel)
{
	if (rel->rd_rules == NULL)
		return;
	for (int i = 0; i < rel->rd_rules->numLocks; i++)
	{
		if (rel->rd_rules->rules[i]->event == CMD_INSERT)
			refuse_sink("table with an ON INSERT rule", RelationGetRelationName(rel),
						"Use a trigger instead of the rule.");
	}
}

static void
check_sink(Relation rel)
{
	const char *name = RelationGetRelationName(rel);

	if (IsCatalogRelation(rel) || IsToastRelation(rel) ||
		RelationGetNamespace(rel) == mr_catalog_schema_oid())
		refuse_sink("system catalog", name, "Use a table of your own.");
	switch (rel->rd_rel->relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
			break;
		case RELKIND_VIEW:
			refuse_sink("view", name, "Write into the table that it shows.");
			break;
		case RELKIND_FOREIGN_TABLE:
			if (!mr_is_stream(RelationGetRelid(rel)))
				refuse_sink("foreign table", name,
							"What is written there would not commit with the position in the stream: use a table or a stream.");
			break;
		default:
			refuse_sink("relation", name, "Use a table or a stream.");
	}
	if (OidIsValid(mr_catalog_view_of_part(RelationGetRelid(rel))))
		refuse_sink("table of a continuous view", name, "Messages of the view alone write it: use a table of your own.");
	check_persistence(rel->rd_rel->relpersistence, name);
	check_partitions(rel);
	check_insert_rules(rel);
}

/*
 * A position in the source is committed with what is produced, by the cluster that is
 * produced to; and a transform must not feed itself.
 */
static void
check_sink_stream(const MrViewAnalysis *analysis)
{
	MrStream   *sink = mr_stream_get(analysis->sink);
	ListCell   *lc;

	if (list_length(analysis->streams) > 1)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("a continuous transform of several streams into a stream is not supported"),
				errhint("Create a transform for each stream."));
	foreach(lc, analysis->streams)
	{
		MrStream   *source = mr_stream_get(((MrStreamUse *) lfirst(lc))->relid);

		if (source->serverid != sink->serverid)
			ereport(ERROR,
					errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("a continuous transform into a stream of another server is not supported"),
					errdetail("The position in stream %s commits with the messages in stream %s.",
							  source->name, sink->name),
					errhint("Create both streams on one server; or write into a table."));
		if (strcmp(source->topic, sink->topic) == 0)
			ereport(ERROR,
					errcode(ERRCODE_WRONG_OBJECT_TYPE),
					errmsg("a continuous transform cannot write into the topic that it reads"),
					errhint("It would take its own messages: use a stream of another topic."));
	}
}

static Relation
open_sink(Oid relid)
{
	char		relkind = get_rel_relkind(relid);
	Relation	rel;

	if (relkind == '\0')
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("target of the continuous transform does not exist"),
				errhint("Drop the transform and create it again."));
	if (!RELKIND_HAS_TABLE_AM(relkind) && relkind != RELKIND_PARTITIONED_TABLE &&
		relkind != RELKIND_VIEW && relkind != RELKIND_FOREIGN_TABLE)
		refuse_sink("relation", get_rel_name(relid), "Use a table or a stream.");
	rel = table_open(relid, RowExclusiveLock);
	check_sink(rel);
	return rel;
}

/*
 * The INSERT
 */

static AttrNumber
sink_column(Relation rel, const char *name)
{
	AttrNumber	attno = attnameAttNum(rel, name, false);

	if (attno == InvalidAttrNumber)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_COLUMN),
				errmsg("column \"%s\" of relation \"%s\" does not exist", name,
					   RelationGetRelationName(rel)),
				errhint("Output columns of a transform go into the columns of those names in its target; name them with AS."));
	return attno;
}

/* an output column of the rows into the sink's column of that name */
static TargetEntry *
assign(ParseState *pstate, const TargetEntry *shown)
{
	AttrNumber	attno = sink_column(pstate->p_target_relation, shown->resname);
	Var		   *value = makeVar(ROWS_INDEX, shown->resno, exprType((Node *) shown->expr),
								exprTypmod((Node *) shown->expr), exprCollation((Node *) shown->expr), 0);
	Expr	   *expr = transformAssignedExpr(pstate, (Expr *) value, EXPR_KIND_INSERT_TARGET,
											 shown->resname, attno, NIL, -1);

	return makeTargetEntry(expr, attno, pstrdup(shown->resname), false);
}

Query *
mr_transform_insert(const MrViewAnalysis *analysis)
{
	ParseState *pstate = make_parsestate(NULL);
	Query	   *rows = copyObject(analysis->partial);
	Query	   *query = makeNode(Query);
	RangeTblRef *rtr = makeNode(RangeTblRef);
	Relation	rel = open_sink(analysis->sink);
	ListCell   *lc;

	if (rel->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
		check_sink_stream(analysis);
	pstate->p_target_relation = rel;
	pstate->p_target_nsitem = addRangeTableEntryForRelation(pstate, rel, RowExclusiveLock, NULL,
															false, false);
	mr_insert_item(pstate->p_target_nsitem);
	(void) addRangeTableEntryForSubquery(pstate, rows, makeAlias("messages", NIL), false, false);
	foreach(lc, rows->targetList)
	{
		const TargetEntry *shown = lfirst_node(TargetEntry, lc);
		TargetEntry *tle;

		if (shown->resjunk)
			continue;
		tle = assign(pstate, shown);
		mr_insert_column(pstate->p_target_nsitem, tle->resno);
		query->targetList = lappend(query->targetList, tle);
	}
	query->commandType = CMD_INSERT;
	query->querySource = QSRC_ORIGINAL;
	query->canSetTag = true;
	query->resultRelation = SINK_INDEX;
	mr_set_range_table(query, pstate);
	rtr->rtindex = ROWS_INDEX;
	query->jointree = makeFromExpr(list_make1(rtr), NULL);
	table_close(rel, NoLock);
	return query;
}
