/*
 * view/swap.c
 *		Exchanging the contents of two tables, in the way of CLUSTER and VACUUM FULL.
 *
 * The tables keep their OIDs, and so everything that refers to them: views, grants, comments,
 * indexes; what they swap are their files, their TOAST tables and what pg_class knows of the
 * files.  Unlike CLUSTER, we have indexes over the new contents already, so readers are not
 * locked out while they are built: files of indexes that are defined alike are swapped, too.
 *
 * The server's own function for it is private to cluster.c, and its public caller always
 * builds the indexes.
 */
#include "millrace.h"

#include "access/attmap.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/toast_internals.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "commands/tablecmds.h"
#include "failpoint.h"
#include "nodes/parsenodes.h"
#include "parser/parse_utilcmd.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "storage/predicate.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "view/swap.h"

#define SWAP(type, a, b) \
	do { type swap_ = (a); (a) = (b); (b) = swap_; } while (0)

static void
swap_class_rows(Oid relid, Oid other)
{
	Relation	class = table_open(RelationRelationId, RowExclusiveLock);
	HeapTuple	tuple1 = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(relid));
	HeapTuple	tuple2 = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(other));
	Form_pg_class form1;
	Form_pg_class form2;

	if (!HeapTupleIsValid(tuple1) || !HeapTupleIsValid(tuple2))
		elog(ERROR, "cache lookup failed for relation %u or %u", relid, other);
	form1 = (Form_pg_class) GETSTRUCT(tuple1);
	form2 = (Form_pg_class) GETSTRUCT(tuple2);
	if (form1->relam != form2->relam || form1->relpersistence != form2->relpersistence)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot replace the contents of \"%s\", whose storage was altered meanwhile",
					   NameStr(form1->relname)),
				errhint("Call millrace.rebuild() again."));
	SWAP(Oid, form1->relfilenode, form2->relfilenode);
	SWAP(Oid, form1->reltablespace, form2->reltablespace);
	SWAP(Oid, form1->reltoastrelid, form2->reltoastrelid);
	SWAP(TransactionId, form1->relfrozenxid, form2->relfrozenxid);
	SWAP(MultiXactId, form1->relminmxid, form2->relminmxid);
	SWAP(int32, form1->relpages, form2->relpages);
	SWAP(float4, form1->reltuples, form2->reltuples);
	SWAP(int32, form1->relallvisible, form2->relallvisible);
	mr_compat_swap_allfrozen(form1, form2);
	CatalogTupleUpdate(class, &tuple1->t_self, tuple1);
	CatalogTupleUpdate(class, &tuple2->t_self, tuple2);
	heap_freetuple(tuple1);
	heap_freetuple(tuple2);
	table_close(class, RowExclusiveLock);

	/*
	 * both relation cache entries are about to be rebuilt, each with the
	 * other's file
	 */
	mr_compat_close_storage(relid);
	mr_compat_close_storage(other);
}

static Oid
toast_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	result = ((Form_pg_class) GETSTRUCT(tuple))->reltoastrelid;
	ReleaseSysCache(tuple);
	return result;
}

/* a TOAST table depends on its owner, and on nothing else */
static void
move_toast(Oid toast, Oid owner)
{
	ObjectAddress part;
	ObjectAddress whole;

	if (!OidIsValid(toast))
		return;
	(void) deleteDependencyRecordsFor(RelationRelationId, toast, false);
	ObjectAddressSet(part, RelationRelationId, toast);
	ObjectAddressSet(whole, RelationRelationId, owner);
	recordDependencyOn(&part, &whole, DEPENDENCY_INTERNAL);
}

struct IndexStmt *
mr_swap_index_stmt(Oid indexid)
{
	Relation	index = index_open(indexid, AccessShareLock);
	Relation	rel = table_open(index->rd_index->indrelid, AccessShareLock);
	AttrMap    *same = make_attrmap(RelationGetDescr(rel)->natts);
	Oid			constraint = InvalidOid;
	IndexStmt  *result;

	for (int i = 0; i < same->maplen; i++)
		same->attnums[i] = i + 1;
	result = generateClonedIndexStmt(NULL, index, same, &constraint);
	free_attrmap(same);
	table_close(rel, AccessShareLock);
	index_close(index, AccessShareLock);
	return result;
}

static bool
is_usable(Oid indexid)
{
	Relation	index = index_open(indexid, AccessShareLock);
	bool		result = index->rd_index->indisvalid && index->rd_index->indisready;

	index_close(index, AccessShareLock);
	return result;
}

static List *
indexes_of(Oid relid)
{
	Relation	rel = table_open(relid, NoLock);
	List	   *result = RelationGetIndexList(rel);

	table_close(rel, NoLock);
	return result;
}

/* an index among the candidates that is defined as the given one, or InvalidOid */
static Oid
find_alike(Oid indexid, List *candidates)
{
	IndexStmt  *stmt = mr_swap_index_stmt(indexid);
	ListCell   *lc;

	if (!is_usable(indexid))
		return InvalidOid;
	foreach(lc, candidates)
		if (is_usable(lfirst_oid(lc)) && equal(stmt, mr_swap_index_stmt(lfirst_oid(lc))))
		return lfirst_oid(lc);
	return InvalidOid;
}

/* swap what can be swapped; returns the indexes that have to be built */
static List *
swap_indexes(Oid relid, Oid other)
{
	List	   *candidates = indexes_of(other);
	List	   *rest = NIL;
	ListCell   *lc;

	foreach(lc, indexes_of(relid))
	{
		Oid			alike;

		LockRelationOid(lfirst_oid(lc), AccessExclusiveLock);
		alike = find_alike(lfirst_oid(lc), candidates);
		if (OidIsValid(alike))
		{
			LockRelationOid(alike, AccessExclusiveLock);
			swap_class_rows(lfirst_oid(lc), alike);
			candidates = list_delete_oid(candidates, alike);
		}
		else
			rest = lappend_oid(rest, lfirst_oid(lc));
	}
	return rest;
}

/* counters of dead and live rows belong to the contents */
static void
copy_statistics(Oid relid, Oid other)
{
	Relation	rel = table_open(relid, NoLock);
	Relation	source = table_open(other, NoLock);

	pgstat_copy_relation_stats(rel, source);
	table_close(source, NoLock);
	table_close(rel, NoLock);
}

static void
prepare(Oid relid)
{
	Relation	rel = table_open(relid, NoLock);

	CheckTableNotInUse(rel, "replace the contents of");
	/* locks that serializable transactions have on rows of the old contents */
	TransferPredicateLocksToHeapRelation(rel);
	table_close(rel, NoLock);
}

void
mr_swap_contents(Oid relid, Oid other)
{
	List	   *rest;
	ListCell   *lc;

	prepare(relid);
	prepare(other);
	copy_statistics(relid, other);
	rest = swap_indexes(relid, other);
	MR_FAILPOINT("exchange-indexes-swapped");
	swap_class_rows(relid, other);
	CommandCounterIncrement();
	move_toast(toast_of(relid), relid);
	move_toast(toast_of(other), other);
	CommandCounterIncrement();
	foreach(lc, rest)
		mr_compat_reindex_index(lfirst_oid(lc));
	CommandCounterIncrement();
}

void
mr_swap_rename_toast(Oid relid)
{
	Oid			toast = toast_of(relid);
	char		name[NAMEDATALEN];

	if (!OidIsValid(toast))
		return;
	snprintf(name, NAMEDATALEN, "pg_toast_%u", relid);
	RenameRelationInternal(toast, name, true, false);
	snprintf(name, NAMEDATALEN, "pg_toast_%u_index", relid);
	RenameRelationInternal(toast_get_valid_index(toast, ShareUpdateExclusiveLock), name, true, true);
	CommandCounterIncrement();
}
