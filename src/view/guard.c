/*
 * view/guard.c
 *		Refusing to have code put on tables of ours: matrels, shadows, tables of changes, and
 *		whatever else is in the extension's schema.
 *
 * They belong to the extension's owner, a superuser, and so would a trigger run that somebody
 * else put there.  The privileges TRIGGER and REFERENCES suffice for one, which a role can
 * come by without anybody's having thought of these tables (GRANT ALL ON ALL TABLES IN SCHEMA,
 * ALTER DEFAULT PRIVILEGES); nor does a privilege on a view's parts make its owner a
 * superuser.  Whatever else runs code (rules aside) takes the table's owner.
 */
#include "millrace.h"

#include "catalog.h"
#include "catalog/pg_class.h"
#include "catalog_view.h"
#include "commands/extension.h"
#include "utils/lsyscache.h"

#include "view/guard.h"

static bool
is_ours(Oid relid)
{
	if (get_rel_relkind(relid) != RELKIND_RELATION)
		return false;
	return get_rel_namespace(relid) == mr_catalog_schema_oid() || OidIsValid(mr_catalog_view_of_part(relid));
}

static void
refuse(const char *what, Oid relid)
{
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("cannot create a %s table \"%s\", which belongs to extension millrace", what, get_rel_name(relid)),
			errdetail("It would run with the rights of the extension's owner."),
			errhint("To follow what a continuous view shows, create it with changes => true and read its table of changes."));
}

static void
check(const char *what, const char *sql)
{
	ListCell   *lc;

	foreach(lc, mr_catalog_oids(sql, 0, NULL, NULL))
		if (is_ours(lfirst_oid(lc)))
		refuse(what, lfirst_oid(lc));
}

void
mr_guard_check(CommandTag tag)
{
	if (creating_extension)
		return;
	if (tag == CMDTAG_CREATE_TRIGGER)
		check("trigger on",
			  "SELECT t.tgrelid FROM pg_catalog.pg_event_trigger_ddl_commands() d"
			  " JOIN pg_catalog.pg_trigger t ON t.oid = d.objid"
			  " WHERE d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass");
	else if (tag == CMDTAG_CREATE_RULE)
		check("rule of",
			  "SELECT r.ev_class FROM pg_catalog.pg_event_trigger_ddl_commands() d"
			  " JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid"
			  " WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass");
	else
		check("foreign key that refers to",
			  "SELECT c.confrelid FROM pg_catalog.pg_event_trigger_ddl_commands() d"
			  " JOIN pg_catalog.pg_constraint c ON c.conrelid = d.objid"
			  " WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.contype = 'f'");
}
