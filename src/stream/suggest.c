/*
 * stream/suggest.c
 *		Names for hints: the ones that are nearest to what was typed.
 *
 * PostgreSQL's own matcher for this (16 and later) gives a single name; among librdkafka's
 * properties several are often equally near (ssl.key.pem, ssl.key.location), so all of
 * these are named, up to a few.
 */
#include "millrace.h"

#include "stream/suggest.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/varlena.h"

#define MAX_SUGGESTIONS		3
#define MAX_DISTANCE		4
#define MAX_NAME_LENGTH		255 /* what varstr_levenshtein accepts */

/* Edits between the two, or more than max when it is more than max. */
static int
distance(const char *name, const char *candidate, int max)
{
	int			candidate_len = strlen(candidate);

	if (candidate_len > MAX_NAME_LENGTH)
		return max + 1;
	return varstr_levenshtein_less_equal(name, strlen(name), candidate, candidate_len,
										 1, 1, 1, max, true);
}

const char *
mr_suggest(const char *name, List *candidates)
{
	int			len = strlen(name);
	int			best = Min(MAX_DISTANCE, len / 2);
	List	   *found = NIL;
	ListCell   *lc;
	StringInfoData buf;

	if (len == 0 || len > MAX_NAME_LENGTH)
		return "";

	foreach(lc, candidates)
	{
		char	   *candidate = lfirst(lc);
		int			d = distance(name, candidate, best);

		if (d > best)
			continue;
		if (d < best)
			found = NIL;
		best = d;
		if (list_length(found) < MAX_SUGGESTIONS)
			found = lappend(found, candidate);
	}
	if (found == NIL)
		return "";

	initStringInfo(&buf);
	foreach(lc, found)
		appendStringInfo(&buf, "%s\"%s\"",
						 foreach_current_index(lc) == 0 ? "Perhaps you meant " :
						 lnext(found, lc) == NULL ? " or " : ", ",
						 (char *) lfirst(lc));
	appendStringInfoString(&buf, ". ");
	return buf.data;
}

const char *
mr_join_names(List *names)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, names)
		appendStringInfo(&buf, "%s\"%s\"", buf.len > 0 ? ", " : "", (char *) lfirst(lc));
	return buf.data;
}
