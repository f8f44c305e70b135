/*
 * view/access_list.c
 *		Who may do what with a table of ours, as pg_class has it.
 *
 * GRANT and REVOKE do the rest (view/relations.c); they would need a statement per role here.
 */
#include "millrace.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "view/access_list.h"
#include "view/relations.h"

/* after: NULL for the built-in default, which lets nobody in but the owner */
static void
store(Relation class, HeapTuple tuple, const Acl *before, Acl *after)
{
	Oid			relid = ((Form_pg_class) GETSTRUCT(tuple))->oid;
	Datum		values[Natts_pg_class] = {0};
	bool		nulls[Natts_pg_class] = {0};
	bool		replace[Natts_pg_class] = {0};
	Oid		   *old_members;
	Oid		   *new_members = NULL;
	int			nold = aclmembers(before, &old_members);
	int			nnew = aclmembers(after, &new_members);

	replace[Anum_pg_class_relacl - 1] = true;
	values[Anum_pg_class_relacl - 1] = PointerGetDatum(after);
	nulls[Anum_pg_class_relacl - 1] = after == NULL;
	tuple = heap_modify_tuple(tuple, RelationGetDescr(class), values, nulls, replace);
	CatalogTupleUpdate(class, &tuple->t_self, tuple);
	updateAclDependencies(RelationRelationId, relid, 0, mr_relation_owner(relid),
						  nold, old_members, nnew, new_members);
	CommandCounterIncrement();
}

/* the row of pg_class as it is now, and the list in it; NULL: there is none */
static Acl *
fetch(Oid table, HeapTuple *tuple)
{
	Datum		acl;
	bool		isnull;

	/* VACUUM writes into the row without making another version of it */
	LockRelationOid(table, ShareUpdateExclusiveLock);
	*tuple = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(table));
	if (!HeapTupleIsValid(*tuple))
		elog(ERROR, "cache lookup failed for relation %u", table);
	acl = SysCacheGetAttr(RELOID, *tuple, Anum_pg_class_relacl, &isnull);
	return isnull ? NULL : DatumGetAclPCopy(acl);
}

void
mr_access_list_clear(Oid table)
{
	Relation	class = table_open(RelationRelationId, RowExclusiveLock);
	HeapTuple	tuple;
	Acl		   *before = fetch(table, &tuple);

	if (before != NULL)
		store(class, tuple, before, NULL);
	table_close(class, RowExclusiveLock);
}

void
mr_access_list_replace(Oid table, Oid former, Oid role)
{
	Relation	class = table_open(RelationRelationId, RowExclusiveLock);
	HeapTuple	tuple;
	Acl		   *before = fetch(table, &tuple);

	if (before != NULL)
		store(class, tuple, before, aclnewowner(before, former, role));
	table_close(class, RowExclusiveLock);
}
