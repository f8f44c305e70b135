/*
 * view/combine.h
 *		millrace.combine(): aggregating further what a continuous view shows, from the
 *		states behind it.
 */
#ifndef MR_VIEW_COMBINE_H
#define MR_VIEW_COMBINE_H

#include "millrace.h"

/* let the planner know combine(); once, when the library is loaded */
extern void mr_combine_init(void);

/* is it combine()? */
extern bool mr_is_combine(Oid funcid);

#endif							/* MR_VIEW_COMBINE_H */
