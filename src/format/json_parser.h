/*
 * format/json_parser.h
 *		The border to simdjson: finds the values of wanted paths in a JSON object.
 *
 * Plain C on this side, C++ on the other.  No function here calls the backend, throws,
 * or is left by a longjmp; all memory is malloc'd.
 */
#ifndef MR_JSON_PARSER_H
#define MR_JSON_PARSER_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C"
{
#endif

typedef struct MrJsonParser MrJsonParser;

typedef enum MrJsonKind
{
	MR_JSON_MISSING,			/* not there, or its path leads through a
								 * non-object */
	MR_JSON_NULL,
	MR_JSON_TRUE,
	MR_JSON_FALSE,
	MR_JSON_NUMBER,				/* begins like one; not checked further */
	MR_JSON_STRING,				/* text is what stands between the quotes,
								 * still escaped */
	MR_JSON_OBJECT,				/* brackets are balanced; not checked further */
	MR_JSON_ARRAY,				/* likewise */
	MR_JSON_GARBAGE				/* no JSON value */
} MrJsonKind;

/* text is what the message has, in UTF-8, valid until the parser's next use */
typedef struct MrJsonValue
{
	MrJsonKind	kind;
	const char *text;
	size_t		len;
} MrJsonValue;

typedef enum MrJsonStatus
{
	MR_JSON_OK,
	MR_JSON_MALFORMED,
	MR_JSON_BAD_ENCODING,		/* not UTF-8 */
	MR_JSON_TOO_LARGE,
	MR_JSON_NO_MEMORY
} MrJsonStatus;

/* a path: names from the outermost object inwards, NUL-terminated */
typedef struct MrJsonPath
{
	const char *const *names;
	int			nnames;			/* at least one */
} MrJsonPath;

/* NULL when out of memory */
extern MrJsonParser *mr_json_parser_create(const MrJsonPath *paths, int npaths);
extern void mr_json_parser_destroy(MrJsonParser *parser);

/*
 * Find values[i] for paths[i] in json, whose first character after blanks is '{'.  When
 * the result is MR_JSON_MALFORMED, *reason says in a few words why; values are then
 * undefined.
 */
extern MrJsonStatus mr_json_parser_find(MrJsonParser *parser, const char *json, size_t len,
										MrJsonValue *values, const char **reason);

/*
 * Correctly rounded value of a decimal number that is all of text.  False when text is
 * none, or when the value is out of range.
 */
extern bool mr_json_parse_double(const char *text, size_t len, double *value);
extern bool mr_json_parse_float(const char *text, size_t len, float *value);

#ifdef __cplusplus
}
#endif

#endif							/* MR_JSON_PARSER_H */
