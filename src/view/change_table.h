/*
 * view/change_table.h
 *		The table <view>_changes: made with its view, and kept like its other parts.
 */
#ifndef MR_VIEW_CHANGE_TABLE_H
#define MR_VIEW_CHANGE_TABLE_H

#include "catalog_changes.h"
#include "view/ddl.h"

#include "utils/relcache.h"

/* columns, from 0 */
#define MR_CHANGE_ID		0
#define MR_CHANGE_BATCH		1
#define MR_CHANGE_AT		2
#define MR_CHANGE_OLD		3
#define MR_CHANGE_NEW		4
#define MR_CHANGE_OFFSETS	5
#define MR_CHANGE_COLUMNS	6

/* make it for a view, in its schema; the current user is the view's owner */
extern Oid	mr_change_table_create(const MrView *view);

/* ERROR unless the columns are those that it was made with */
extern void mr_change_table_check(Relation rel);

/*
 * The view has another owner, who gets whatever privileges the former one had or gave; and an
 * owner without the privilege to read it gets that.
 */
extern void mr_change_table_follow_owner(Oid table, Oid former, Oid owner);

#endif							/* MR_VIEW_CHANGE_TABLE_H */
