/*
 * blame.c
 *		Errors that are a view's, or a stream's: who may read them.
 *
 * An error shows the beginning of the value that it is about.  Where it came up in a view's query,
 * that may be one of a table which only the view's owner may read, though the error
 * is then told as one of the stream, or met by other views that follow it.
 */
#include "millrace.h"

#include "blame.h"
#include "catalog/pg_class.h"
#include "catalog_view.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#define WITHHELD	"withheld for want of privilege SELECT on the view"
#define STREAM_WITHHELD	"withheld for want of privilege SELECT on the stream"

PG_FUNCTION_INFO_V1(mr_readable_error);

bool
mr_blame_may_read(Oid relid)
{
	return SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)) &&
		pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

/* of one that was dropped nobody knows who might */
static bool
may_read(Oid relid)
{
	const MrView *view;

	if (superuser() || mr_blame_may_read(relid))
		return true;
	view = mr_catalog_view(relid);
	return view != NULL && view->target != relid && mr_blame_may_read(view->target);
}

/* what others read instead, who are told whose error it is */
static const char *
withheld(Oid relid)
{
	return get_rel_relkind(relid) == RELKIND_FOREIGN_TABLE ? STREAM_WITHHELD : WITHHELD;
}

const char *
mr_blame_text(const char *error, Oid relation)
{
	return !OidIsValid(relation) || may_read(relation) ? error : withheld(relation);
}

/* millrace.readable_error(error, relation); null for null, and the error itself where relation is null */
Datum
mr_readable_error(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (PG_ARGISNULL(1) || may_read(PG_GETARG_OID(1)))
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	PG_RETURN_TEXT_P(cstring_to_text(withheld(PG_GETARG_OID(1))));
}
