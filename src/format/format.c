/*
 * format.c
 *		The formats there are.
 */
#include "postgres.h"

#include "format/format.h"

static const MrFormat *const mr_formats[] = {
	&mr_format_json
};

const MrFormat *
mr_format_find(const char *name)
{
	for (int i = 0; i < lengthof(mr_formats); i++)
		if (strcmp(mr_formats[i]->name, name) == 0)
			return mr_formats[i];
	return NULL;
}

List *
mr_format_names(void)
{
	List	   *names = NIL;

	for (int i = 0; i < lengthof(mr_formats); i++)
		names = lappend(names, pstrdup(mr_formats[i]->name));
	return names;
}
