/*
 * view/guard.h
 *		Refusing to have code put on tables of ours.
 */
#ifndef MR_VIEW_GUARD_H
#define MR_VIEW_GUARD_H

#include "tcop/cmdtag.h"

/*
 * At the end of a DDL command: ERROR when it has made a trigger or a rule of a table of ours, or a
 * foreign key that refers to one.
 */
extern void mr_guard_check(CommandTag tag);

#endif							/* MR_VIEW_GUARD_H */
