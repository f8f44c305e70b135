/*
 * blame.h
 *		Errors that are a view's: who may read them.
 */
#ifndef MR_BLAME_H
#define MR_BLAME_H

#include "millrace.h"

/*
 * The text of an error for the current user: another one when it is the error of a view, or of
 * its shadow, that he may not read.  view InvalidOid: it is nobody's.
 */
extern const char *mr_blame_text(const char *error, Oid view);

/* may the current user read a relation, which is still there? */
extern bool mr_blame_may_read(Oid relid);

/* the same for one of a stream's worker: others than who may read the stream are told nothing else */
extern const char *mr_blame_stream_text(const char *error, Oid stream, Oid view);

#endif							/* MR_BLAME_H */
