/*
 * view/access_list.h
 *		Who may do what with a table of ours, as pg_class has it.
 */
#ifndef MR_VIEW_ACCESS_LIST_H
#define MR_VIEW_ACCESS_LIST_H

#include "millrace.h"

/* of a table just made: nobody but its owner may do anything, whatever default privileges say */
extern void mr_access_list_clear(Oid table);

/* let another role stand where one does, as holder of privileges and as giver */
extern void mr_access_list_replace(Oid table, Oid former, Oid role);

#endif							/* MR_VIEW_ACCESS_LIST_H */
