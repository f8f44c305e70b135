/*
 * view/attach.h
 *		Attaching tables: what follows DDL on them.
 */
#ifndef MR_VIEW_ATTACH_H
#define MR_VIEW_ATTACH_H

#include "millrace.h"

#include "nodes/nodes.h"

/*
 * A table was created or altered by a statement.  If that gave a table partitions, or took
 * some away, they must be followed, too, or no longer.
 */
extern void mr_attach_follow_table(Oid relid, Node *stmt);

/* a trigger was dropped or renamed: ERROR when it is one that an attached table needs */
extern void mr_attach_check_triggers(void);

#endif							/* MR_VIEW_ATTACH_H */
