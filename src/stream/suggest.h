/*
 * stream/suggest.h
 *		Names for hints: the ones that are nearest to what was typed.
 */
#ifndef MR_STREAM_SUGGEST_H
#define MR_STREAM_SUGGEST_H

#include "millrace.h"

#include "nodes/pg_list.h"

/*
 * Sentence that names the candidates (List of char *) most like name, with a space behind
 * it: 'Perhaps you meant "a" or "b". '.  Empty when none is alike.
 */
extern const char *mr_suggest(const char *name, List *candidates);

/* "a", "b", "c" */
extern const char *mr_join_names(List *names);

#endif							/* MR_STREAM_SUGGEST_H */
