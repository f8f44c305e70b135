/*
 * compat.h
 *		The only place that knows PG_VERSION_NUM: 15 is home, 16 to 18 are followed.
 */
#ifndef MR_COMPAT_H
#define MR_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "millrace needs PostgreSQL 15 or later"
#endif

#if PG_VERSION_NUM >= 160000
#include "access/tableam.h"
#include "parser/parse_relation.h"
#else
#include "utils/guc.h"
#include "utils/guc_tables.h"
#endif

/* 18 has pg_noreturn, which stands before a declaration, where this stood behind it */
#if PG_VERSION_NUM >= 180000
#define pg_attribute_noreturn() __attribute__((noreturn))
#endif

/*
 * A setting of the server's by its name, which must be one, and memory of strings' values, NULL
 * when there is none left; need utils/guc_tables.h and utils/guc.h.
 */
#if PG_VERSION_NUM >= 160000
#define mr_find_setting(name) find_option(name, false, false, ERROR)
#define mr_guc_strdup(string) guc_strdup(LOG, string)
#define mr_guc_free(pointer) guc_free(pointer)
#else
#define mr_guc_strdup(string) strdup(string)
#define mr_guc_free(pointer) free(pointer)

static inline struct config_generic *
mr_find_setting(const char *name)
{
	struct config_generic **settings = get_guc_variables();

	for (int i = 0; i < GetNumConfigOptions(); i++)
		if (strcmp(settings[i]->name, name) == 0)
			return settings[i];
	elog(ERROR, "there is no setting \"%s\"", name);
}
#endif

/* DATCONNLIMIT_INVALID_DB, of a database that was dropped halfway; not in all minor versions */
#define MR_INVALID_DATABASE_LIMIT (-2)

/* USAGE on a foreign server; needs utils/acl.h and catalog/pg_foreign_server.h */
#if PG_VERSION_NUM >= 160000
#define mr_foreign_server_usage(serverid, userid) \
	object_aclcheck(ForeignServerRelationId, serverid, userid, ACL_USAGE)
#else
#define mr_foreign_server_usage(serverid, userid) \
	pg_foreign_server_aclcheck(serverid, userid, ACL_USAGE)
#endif

/*
 * Whom a foreign scan or an insert acts for, InvalidOid: the current user; need
 * executor/executor.h.  A routed partition's own entry in the range table may be missing.
 */
#if PG_VERSION_NUM >= 160000
#define mr_foreign_scan_user(node) \
	(((ForeignScan *) (node)->ss.ps.plan)->checkAsUser)
#define mr_result_relation_user(rinfo, estate) \
	ExecGetResultRelCheckAsUser(rinfo, estate)
#else
#define mr_foreign_scan_user(node) \
	(exec_rt_fetch(((Scan *) (node)->ss.ps.plan)->scanrelid, \
				   (node)->ss.ps.state)->checkAsUser)
#define mr_result_relation_user(rinfo, estate) \
	(exec_rt_fetch((rinfo)->ri_RangeTableIndex != 0 ? \
				   (rinfo)->ri_RangeTableIndex : \
				   (rinfo)->ri_RootResultRelInfo->ri_RangeTableIndex, \
				   estate)->checkAsUser)
#endif

/* a plain path of a foreign table; needs optimizer/pathnode.h */
#if PG_VERSION_NUM >= 180000
#define mr_create_foreignscan_path(root, rel, startup, total) \
	create_foreignscan_path(root, rel, NULL, (rel)->rows, 0, startup, total, \
							NIL, (rel)->lateral_relids, NULL, NIL, NIL)
#elif PG_VERSION_NUM >= 170000
#define mr_create_foreignscan_path(root, rel, startup, total) \
	create_foreignscan_path(root, rel, NULL, (rel)->rows, startup, total, \
							NIL, (rel)->lateral_relids, NULL, NIL, NIL)
#else
#define mr_create_foreignscan_path(root, rel, startup, total) \
	create_foreignscan_path(root, rel, NULL, (rel)->rows, startup, total, \
							NIL, (rel)->lateral_relids, NULL, NIL)
#endif

/* every bit of the result depends on all of the argument; needs common/hashfn.h */
#if PG_VERSION_NUM >= 170000
#define mr_hash_mix(hash)	murmurhash64(hash)
#else
static inline uint64
mr_hash_mix(uint64 hash)
{
	hash ^= hash >> 33;
	hash *= UINT64CONST(0xff51afd7ed558ccd);
	hash ^= hash >> 33;
	hash *= UINT64CONST(0xc4ceb9fe1a85ec53);
	return hash ^ (hash >> 33);
}
#endif

/* a small number that no other live process has; needs storage/proc.h */
#if PG_VERSION_NUM >= 170000
#define mr_process_number()		((int) MyProcNumber)
#else
#define mr_process_number()		((int) MyProc->pgprocno)
#endif

/* does this backend hold that very lock?  needs storage/lock.h */
#if PG_VERSION_NUM >= 170000
#define mr_compat_lock_is_held(tag, mode)	LockHeldByMe(tag, mode, false)
#else
#define mr_compat_lock_is_held(tag, mode)	LockHeldByMe(tag, mode)
#endif

/* may internal subtransactions be used, even while parallel workers run? needs access/xact.h */
#if PG_VERSION_NUM >= 170000
#define mr_subtransactions_allowed()	true
#else
#define mr_subtransactions_allowed()	(!IsInParallelMode())
#endif

/* 18 split commands/explain.h */
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

/*
 * Call an input function; false and *error when it reported its argument's fault softly, which
 * is possible from 16 on.  Before, it throws.
 */
#include "fmgr.h"
#if PG_VERSION_NUM >= 160000
#include "nodes/miscnodes.h"
#include "varatt.h"
#endif

static inline bool
mr_input_function_call(FmgrInfo *function, char *text, Oid ioparam, int32 typmod,
					   Datum *value, ErrorData **error)
{
#if PG_VERSION_NUM >= 160000
	ErrorSaveContext saved = {.type = T_ErrorSaveContext,.details_wanted = true};

	if (!InputFunctionCallSafe(function, text, ioparam, typmod, (Node *) &saved, value))
	{
		*error = saved.error_data;
		return false;
	}
#else
	*value = InputFunctionCall(function, text, ioparam, typmod);
	*error = NULL;
#endif
	return true;
}

/* are 0x2a and 1_000 numbers?  Where they are, their input functions never throw */
#define MR_INTEGERS_HAVE_PREFIXES	(PG_VERSION_NUM >= 160000)

/* round to a timestamp's typmod; needs utils/datetime.h or utils/timestamp.h */
#if PG_VERSION_NUM >= 160000
#define mr_adjust_timestamp(time, typmod) \
	((void) AdjustTimestampForTypmod(time, typmod, NULL))
#else
#define mr_adjust_timestamp(time, typmod) \
	AdjustTimestampForTypmod(time, typmod)
#endif

/* does a role own a relation? needs utils/acl.h and catalog/pg_class.h */
#if PG_VERSION_NUM >= 160000
#define mr_compat_relation_owner(relid, roleid) \
	object_ownercheck(RelationRelationId, relid, roleid)
#else
#define mr_compat_relation_owner(relid, roleid) \
	pg_class_ownercheck(relid, roleid)
#endif

/* does a role own a database? needs utils/acl.h and catalog/pg_database.h */
#if PG_VERSION_NUM >= 160000
#define mr_compat_database_owner(dboid, roleid) \
	object_ownercheck(DatabaseRelationId, dboid, roleid)
#else
#define mr_compat_database_owner(dboid, roleid) \
	pg_database_ownercheck(dboid, roleid)
#endif

/* one relation as the range table of an EState; needs executor/executor.h */
#if PG_VERSION_NUM >= 180000
#define mr_compat_init_range_table(estate, rte) \
	do { \
		RangeTblEntry *rte_ = (rte); \
		List	   *perminfos_ = NIL; \
		addRTEPermissionInfo(&perminfos_, rte_); \
		ExecInitRangeTable(estate, list_make1(rte_), perminfos_, bms_make_singleton(1)); \
	} while (0)
#elif PG_VERSION_NUM >= 160000
#define mr_compat_init_range_table(estate, rte) \
	do { \
		RangeTblEntry *rte_ = (rte); \
		List	   *perminfos_ = NIL; \
		addRTEPermissionInfo(&perminfos_, rte_); \
		ExecInitRangeTable(estate, list_make1(rte_), perminfos_); \
	} while (0)
#else
#define mr_compat_init_range_table(estate, rte) \
	ExecInitRangeTable(estate, list_make1(rte))
#endif

/* index entries for a row; "update": the keys are as before; needs executor/executor.h */
#if PG_VERSION_NUM >= 160000
#define mr_compat_insert_index_tuples(rinfo, slot, estate, update, only_summarizing) \
	ExecInsertIndexTuples(rinfo, slot, estate, update, false, NULL, NIL, only_summarizing)
#else
#define mr_compat_insert_index_tuples(rinfo, slot, estate, update, only_summarizing) \
	ExecInsertIndexTuples(rinfo, slot, estate, update, false, NULL, NIL)
#endif

/* a scan of an index with plain keys; needs access/genam.h */
#if PG_VERSION_NUM >= 180000
#define mr_compat_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan(rel, index, snapshot, NULL, nkeys, 0)
#else
#define mr_compat_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan(rel, index, snapshot, nkeys, 0)
#endif

/*
 * How to compare values in an index's ascending order; needs utils/sortsupport.h and
 * access/stratnum.h.  On 18 a bool, whether to reverse the order, stands where a strategy
 * stood, and the compiler takes either for the other.
 */
#if PG_VERSION_NUM >= 180000
#define mr_compat_sort_support_from_index(index, ssup) \
	PrepareSortSupportFromIndexRel(index, false, ssup)
#else
#define mr_compat_sort_support_from_index(index, ssup) \
	PrepareSortSupportFromIndexRel(index, BTLessStrategyNumber, ssup)
#endif

/* which indexes need a new entry after an update; needs access/tableam.h */
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes MrUpdateIndexes;
#define MR_UPDATE_NO_INDEXES(u)		((u) == TU_None)
#define MR_UPDATE_SUMMARIZING(u)	((u) == TU_Summarizing)
#else
typedef bool MrUpdateIndexes;
#define MR_UPDATE_NO_INDEXES(u)		(!(u))
#define MR_UPDATE_SUMMARIZING(u)	false
#endif

/*
 * A query level without its join aliases (15 has no PlannerInfo argument) and without the
 * grouping step that 18 puts into the range table; need optimizer/optimizer.h and
 * nodes/parsenodes.h.
 */
#if PG_VERSION_NUM >= 160000
#define mr_flatten_join_aliases(query, node) \
	flatten_join_alias_vars(NULL, query, node)
#else
#define mr_flatten_join_aliases(query, node) \
	flatten_join_alias_vars(query, node)
#endif
#if PG_VERSION_NUM >= 180000
#define mr_flatten_groups(query) \
	do { \
		if ((query)->hasGroupRTE) \
		{ \
			(query)->targetList = (List *) \
				flatten_group_exprs(NULL, query, (Node *) (query)->targetList); \
			(query)->havingQual = \
				flatten_group_exprs(NULL, query, (query)->havingQual); \
			Assert(llast_node(RangeTblEntry, (query)->rtable)->rtekind == RTE_GROUP); \
			(query)->rtable = list_truncate((query)->rtable, \
											list_length((query)->rtable) - 1); \
			(query)->hasGroupRTE = false; \
		} \
	} while (0)
#else
#define mr_flatten_groups(query)	((void) 0)
#endif

/* SYSTEM_USER, which 16 has; needs utils/fmgroids.h */
#if PG_VERSION_NUM >= 160000
#define MR_F_SYSTEM_USER	F_SYSTEM_USER
#else
#define MR_F_SYSTEM_USER	InvalidOid
#endif

/* what JSON_OBJECTAGG() and JSON_ARRAYAGG() are made of; NULL: it is nothing of the kind; needs nodes/primnodes.h */
#if PG_VERSION_NUM >= 160000
#define mr_compat_json_function(node) \
	(IsA(node, JsonConstructorExpr) ? (Node *) ((JsonConstructorExpr *) (node))->func : NULL)
#else
#define mr_compat_json_function(node)	((Node *) NULL)
#endif

/*
 * Privileges on relations stand in lists of their own since 16; need executor/executor.h,
 * parser/parse_relation.h.  mr_select_column: the query reads this column of the item.
 * mr_insert_item, mr_insert_column: it inserts into the item, and into this column of it.
 */
#if PG_VERSION_NUM >= 160000
#define mr_select_column(item, attnum) \
	((item)->p_perminfo->selectedCols = \
	 bms_add_member((item)->p_perminfo->selectedCols, \
					(attnum) - FirstLowInvalidHeapAttributeNumber))
#define mr_select_rte_column(query, rte, attnum) \
	do { \
		RTEPermissionInfo *info_ = getRTEPermissionInfo((query)->rteperminfos, rte); \
		info_->selectedCols = bms_add_member(info_->selectedCols, \
											 (attnum) - FirstLowInvalidHeapAttributeNumber); \
	} while (0)
#define mr_insert_item(item)	((item)->p_perminfo->requiredPerms = ACL_INSERT)
#define mr_insert_column(item, attnum) \
	((item)->p_perminfo->insertedCols = \
	 bms_add_member((item)->p_perminfo->insertedCols, \
					(attnum) - FirstLowInvalidHeapAttributeNumber))
#define mr_set_range_table(query, pstate) \
	((query)->rtable = (pstate)->p_rtable, \
	 (query)->rteperminfos = (pstate)->p_rteperminfos)
#define mr_check_permissions(query) \
	((void) ExecCheckPermissions((query)->rtable, (query)->rteperminfos, true))
#else
#define mr_select_column(item, attnum) \
	((item)->p_rte->selectedCols = \
	 bms_add_member((item)->p_rte->selectedCols, \
					(attnum) - FirstLowInvalidHeapAttributeNumber))
#define mr_select_rte_column(query, rte, attnum) \
	((rte)->selectedCols = bms_add_member((rte)->selectedCols, \
										  (attnum) - FirstLowInvalidHeapAttributeNumber))
#define mr_insert_item(item)	((item)->p_rte->requiredPerms = ACL_INSERT)
#define mr_insert_column(item, attnum) \
	((item)->p_rte->insertedCols = \
	 bms_add_member((item)->p_rte->insertedCols, \
					(attnum) - FirstLowInvalidHeapAttributeNumber))
#define mr_set_range_table(query, pstate) \
	((query)->rtable = (pstate)->p_rtable)
#define mr_check_permissions(query) \
	((void) ExecCheckRTPerms((query)->rtable, true))
#endif

/* of an ExecutorCheckPerms_hook, which gets the range table as rtable; needs executor/executor.h */
#if PG_VERSION_NUM >= 160000
#define MR_CHECK_PERMISSIONS_PARAMETERS	List *rtable, List *permissions, bool violation
#define MR_CHECK_PERMISSIONS_ARGUMENTS	rtable, permissions, violation
#else
#define MR_CHECK_PERMISSIONS_PARAMETERS	List *rtable, bool violation
#define MR_CHECK_PERMISSIONS_ARGUMENTS	rtable, violation
#endif

/* EXECUTE on a function; needs utils/acl.h and catalog/pg_proc.h */
#if PG_VERSION_NUM >= 160000
#define mr_function_execute(funcid, userid) \
	object_aclcheck(ProcedureRelationId, funcid, userid, ACL_EXECUTE)
#else
#define mr_function_execute(funcid, userid) \
	pg_proc_aclcheck(funcid, userid, ACL_EXECUTE)
#endif

/* run a query to its end; needs executor/executor.h */
#if PG_VERSION_NUM >= 180000
#define mr_executor_run(desc)	ExecutorRun(desc, ForwardScanDirection, 0)
#else
#define mr_executor_run(desc)	ExecutorRun(desc, ForwardScanDirection, 0, true)
#endif

/* make an index that nobody asked for, without checks and notices; needs commands/defrem.h */
#if PG_VERSION_NUM >= 160000
#define mr_define_index(relid, stmt) \
	((void) DefineIndex(relid, stmt, InvalidOid, InvalidOid, InvalidOid, -1, \
						false, false, false, false, true))
#else
#define mr_define_index(relid, stmt) \
	((void) DefineIndex(relid, stmt, InvalidOid, InvalidOid, InvalidOid, \
						false, false, false, false, true))
#endif

/*
 * Have DefineRelation() make a column NOT NULL, which is a constraint of the table's since 18;
 * needs nodes/makefuncs.h.
 */
#if PG_VERSION_NUM >= 180000
#define mr_compat_set_not_null(stmt, column) \
	((stmt)->nnconstraints = lappend((stmt)->nnconstraints, \
									 makeNotNullConstraint(makeString((column)->colname))))
#else
#define mr_compat_set_not_null(stmt, column)	((column)->is_not_null = true)
#endif

/* build an index anew; needs catalog/index.h, utils/lsyscache.h */
#if PG_VERSION_NUM >= 170000
#define mr_compat_reindex_index(indexid) \
	reindex_index(NULL, indexid, false, get_rel_persistence(indexid), &(ReindexParams) {0})
#else
#define mr_compat_reindex_index(indexid) \
	reindex_index(indexid, false, get_rel_persistence(indexid), &(ReindexParams) {0})
#endif

/* let go of a relation's file, which 17 does by itself; needs utils/rel.h */
#if PG_VERSION_NUM >= 170000
#define mr_compat_close_storage(relid)	((void) 0)
#else
#define mr_compat_close_storage(relid)	RelationCloseSmgrByOid(relid)
#endif

/* the part of a swap of two rows of pg_class that only 18 has */
#if PG_VERSION_NUM >= 180000
#define mr_compat_swap_allfrozen(a, b) \
	do { \
		int32 swap_ = (a)->relallfrozen; \
		(a)->relallfrozen = (b)->relallfrozen; \
		(b)->relallfrozen = swap_; \
	} while (0)
#else
#define mr_compat_swap_allfrozen(a, b)	((void) 0)
#endif

/* empty tables that are open and locked; needs commands/tablecmds.h */
#if PG_VERSION_NUM >= 160000
#define mr_compat_truncate(rels, relids, logged) \
	ExecuteTruncateGuts(rels, relids, logged, DROP_RESTRICT, false, false)
#else
#define mr_compat_truncate(rels, relids, logged) \
	ExecuteTruncateGuts(rels, relids, logged, DROP_RESTRICT, false)
#endif

/* a wait event of our own; needs utils/wait_event.h */
#if PG_VERSION_NUM >= 170000
#define mr_compat_new_wait_event(name)	WaitEventExtensionNew(name)
#else
#define mr_compat_new_wait_event(name)	((void) (name), PG_WAIT_EXTENSION)
#endif

/* needs access/htup_details.h */
#if PG_VERSION_NUM >= 180000
#define mr_compat_form_minimal_tuple(desc, values, isnull) \
	heap_form_minimal_tuple(desc, values, isnull, 0)
#else
#define mr_compat_form_minimal_tuple(desc, values, isnull) \
	heap_form_minimal_tuple(desc, values, isnull)
#endif

#endif							/* MR_COMPAT_H */
