/*
 * view/relations.h
 *		The relations of a continuous view; private to view/.
 */
#ifndef MR_VIEW_RELATIONS_H
#define MR_VIEW_RELATIONS_H

#include "view/ddl.h"

#include "utils/relcache.h"

/* run what follows as the extension's owner; give the result back to _leave */
typedef struct MrOwnerScope
{
	Oid			userid;
	int			sec_context;
} MrOwnerScope;

extern void mr_owner_enter(MrOwnerScope *scope);
extern void mr_owner_leave(const MrOwnerScope *scope);

extern Oid	mr_relation_owner(Oid relid);

/* make each, in a schema where the current user may create; return its OID */
extern Oid	mr_relations_create_definition(const char *view, Oid namespace, Query *query);
extern Oid	mr_relations_create_matrel(const char *view, Oid namespace,
									   const MrViewAnalysis *analysis);

/* a column of an index, ascending, nulls last */
extern IndexElem *mr_relations_index_column(const char *name);

extern void mr_relations_create_expiry_index(const char *view, Oid matrel, const char *column);
extern Oid	mr_relations_create_reader(const char *view, Oid namespace, Query *query);

/*
 * A table for the same contents as the given matrel: columns, indexes, storage parameters.
 * Belongs to the extension's owner, as that does.
 */
extern Oid	mr_relations_create_shadow(const char *view, Oid matrel);

/* a shadow goes with its view; drop one that stays behind */
extern void mr_relations_depend_shadow(const MrView *shadow);
extern void mr_relations_drop_shadow(const MrView *shadow);

/*
 * ERROR unless the columns of an open matrel are of the types that the analysis says;
 * somebody may have replaced an aggregate since the view was created.
 */
extern void mr_relations_check_matrel(Relation matrel, const List *columns);

/* let a role read the matrel or the changes (and let others), or no longer */
extern void mr_relations_grant_select(Oid relid, Oid role, bool grant, bool option);

/* definition and matrel go with the reader, the matrel with the extension, too */
extern void mr_relations_depend(const MrView *view);

/* the same of one table of a view */
extern void mr_relations_depend_table(Oid table, Oid view);

/* name that a part of the view should have; own: the relation that asks for it */
extern char *mr_relations_part_name(const char *view, const char *label, Oid namespace, Oid own);

/*
 * Let a view begin where start_at says, asking the broker: store offsets of the feed of
 * one stream.  mr_start_at_check: ERROR when it is no such thing.
 */
extern void mr_start_at_check(const char *start_at);
extern void mr_start_at_store(const char *start_at, Oid view, Oid stream, int64 feed);

/* let a shadow begin in one stream where its view began, as far as the broker still has it */
extern void mr_start_at_repeat(Oid view, Oid shadow, Oid stream, int64 feed);

#endif							/* MR_VIEW_RELATIONS_H */
