/*
 * view/guise.h
 *		Acting as somebody else.
 */
#ifndef MR_VIEW_GUISE_H
#define MR_VIEW_GUISE_H

#include "millrace.h"

#include "nodes/pg_list.h"

typedef struct MrGuise
{
	Oid			userid;
	int			sec_context;
	int			guc_level;
} MrGuise;

/* once, when the library is loaded */
extern void mr_guise_init(void);

/*
 * From here to _end, act as userid in a security-restricted context, under settings (of
 * char *: name=value), out of reach of the session's temporary relations.
 */
extern void mr_guise_begin(MrGuise *guise, Oid userid, const List *settings);
extern void mr_guise_end(const MrGuise *guise);

#endif							/* MR_VIEW_GUISE_H */
