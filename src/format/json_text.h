/*
 * format/json_text.h
 *		JSON text: checking it, and taking it apart and together character by character.
 */
#ifndef MR_JSON_TEXT_H
#define MR_JSON_TEXT_H

#include "format/format.h"

/* deeper values are rejected: as deep as simdjson goes */
#define MR_JSON_MAX_DEPTH	1024

typedef enum MrJsonFault
{
	MR_JSON_NO_FAULT,
	MR_JSON_BAD_SYNTAX,
	MR_JSON_BAD_ESCAPE,
	MR_JSON_LONE_SURROGATE,
	MR_JSON_NUL,				/* \u0000: PostgreSQL's text cannot hold it */
	MR_JSON_TOO_DEEP
} MrJsonFault;

/* is all of str one JSON number? */
extern bool mr_json_is_number(const char *str, size_t len);

/* is all of str one JSON value, blanks around it allowed, that PostgreSQL can take? */
extern MrJsonFault mr_json_check(const char *str, size_t len);

/*
 * Resolve the escapes of what stands between a string's quotes.  result has room for len
 * bytes, which is always enough.
 */
extern MrJsonFault mr_json_unescape(const char *str, size_t len, char *result, size_t *result_len);

/* append str as a JSON string with its quotes, just as the server's escape_json does */
extern void mr_json_append_string(StringInfo out, const char *str, size_t len);

/* set *reject for a fault in value; returns false */
extern bool mr_json_reject_fault(MrReject *reject, MrJsonFault fault, const char *value, size_t len);

#endif							/* MR_JSON_TEXT_H */
