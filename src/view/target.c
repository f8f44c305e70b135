/*
 * target.c
 *		What the SQL functions that take a relation are applied to: checking arguments and
 *		privileges, the same way and in the same order everywhere.
 */
#include "millrace.h"

#include "catalog_rebuild.h"
#include "catalog_table.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "stream/option.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "view/target.h"

Oid
mr_target_relation(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("relation must not be null")));
	return PG_GETARG_OID(0);
}

void
mr_target_require_owner(Oid relid)
{
	if (!mr_compat_relation_owner(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER,
					   get_relkind_objtype(get_rel_relkind(relid)), get_rel_name(relid));
}

void
mr_target_require_command(const char *function)
{
	PreventCommandIfReadOnly(function);
	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot execute %s within security-restricted operation", function)));
}

static void
require_relation(Oid relid)
{
	if (get_rel_name(relid) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
}

MrView *
mr_target_view(Oid relid)
{
	MrView	   *view;

	require_relation(relid);
	view = mr_catalog_view(relid);
	if (view == NULL || view->target != relid)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a continuous view", get_rel_name(relid)),
				 errhint("See millrace.views.")));
	return view;
}

void
mr_target_refuse_transform(const MrView *view, const char *hint)
{
	if (OidIsValid(view->sink))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a continuous transform", get_rel_name(view->target)),
				 errdetail("A transform has no contents of its own."),
				 errhint("%s", hint)));
}

List *
mr_target_views(Oid relid, bool *is_stream)
{
	MrView	   *view;
	MrView	   *shadow;

	require_relation(relid);
	*is_stream = mr_is_stream(relid) || mr_catalog_is_attached(relid);
	if (*is_stream)
		return mr_catalog_views_of_stream(relid);
	view = mr_catalog_view(relid);
	if (view == NULL || view->target != relid)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is neither a continuous view nor a stream", get_rel_name(relid)),
				 errhint("See millrace.views and millrace.streams.")));
	shadow = mr_catalog_shadow_of(relid);
	return shadow ? list_make2(view, shadow) : list_make1(view);
}

void
mr_target_require_preload(void)
{
	if (!mr_preloaded())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("millrace is not loaded by the server"),
				 errhint("Add millrace to shared_preload_libraries and restart the server.")));
}
