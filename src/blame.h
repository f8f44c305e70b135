/*
 * blame.h
 *		Errors that are a view's: who may read them.
 */
#ifndef MR_BLAME_H
#define MR_BLAME_H

#include "millrace.h"

/*
 * The text of an error for the current user: another one when it is the error of a view, of
 * its shadow, or of a stream, that he may not read.  relation InvalidOid: it is nobody's.
 */
extern const char *mr_blame_text(const char *error, Oid relation);

/* may the current user read a relation, which is still there? */
extern bool mr_blame_may_read(Oid relid);

#endif							/* MR_BLAME_H */
