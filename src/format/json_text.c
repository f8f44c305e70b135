/*
 * json_text.c
 *		JSON text: checking it, and taking it apart and together character by character.
 *
 * The checks are those of the server's json type, including what it says only when it
 * resolves escapes (\u0000, lone surrogates), but they never throw.  That text is valid
 * UTF-8 and has no control characters inside of strings was seen to when the message was
 * indexed, so it is not looked at again.
 */
#include "postgres.h"

#include "format/json_text.h"
#include "format/reject.h"

#include "mb/pg_wchar.h"

typedef struct Cursor
{
	const char *at;
	const char *end;
} Cursor;

static MrJsonFault check_value(Cursor *c, int depth);

static inline bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static inline void
skip_digits(Cursor *c)
{
	while (c->at < c->end && is_digit(*c->at))
		c->at++;
}

static inline void
skip_blanks(Cursor *c)
{
	while (c->at < c->end &&
		   (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
		c->at++;
}

/* step over that character; false when it is not there */
static inline bool
take_char(Cursor *c, char wanted)
{
	if (c->at >= c->end || *c->at != wanted)
		return false;
	c->at++;
	return true;
}

static bool
take_number(Cursor *c)
{
	take_char(c, '-');
	if (!take_char(c, '0'))
	{
		if (c->at >= c->end || !is_digit(*c->at))
			return false;
		skip_digits(c);
	}
	if (take_char(c, '.'))
	{
		if (c->at >= c->end || !is_digit(*c->at))
			return false;
		skip_digits(c);
	}
	if (take_char(c, 'e') || take_char(c, 'E'))
	{
		if (!take_char(c, '+'))
			take_char(c, '-');
		if (c->at >= c->end || !is_digit(*c->at))
			return false;
		skip_digits(c);
	}
	return true;
}

bool
mr_json_is_number(const char *str, size_t len)
{
	Cursor		c = {.at = str,.end = str + len};

	return take_number(&c) && c.at == c.end;
}

/* four hexadecimal digits */
static bool
take_hex4(Cursor *c, uint32 *result)
{
	*result = 0;
	if (c->end - c->at < 4)
		return false;
	for (int i = 0; i < 4; i++)
	{
		unsigned char ch = *c->at++;

		*result <<= 4;
		if (is_digit(ch))
			*result |= ch - '0';
		else if ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'f')
			*result |= (ch | 0x20) - 'a' + 10;
		else
			return false;
	}
	return true;
}

/* what follows "\u", with the second half of a pair when there is one */
static MrJsonFault
take_unicode(Cursor *c, uint32 *ch)
{
	uint32		second;

	if (!take_hex4(c, ch))
		return MR_JSON_BAD_ESCAPE;
	if (*ch == 0)
		return MR_JSON_NUL;
	if (is_utf16_surrogate_second(*ch))
		return MR_JSON_LONE_SURROGATE;
	if (!is_utf16_surrogate_first(*ch))
		return MR_JSON_NO_FAULT;
	if (!take_char(c, '\\') || !take_char(c, 'u'))
		return MR_JSON_LONE_SURROGATE;
	if (!take_hex4(c, &second))
		return MR_JSON_BAD_ESCAPE;
	if (!is_utf16_surrogate_second(second))
		return MR_JSON_LONE_SURROGATE;
	*ch = surrogate_pair_to_codepoint(*ch, second);
	return MR_JSON_NO_FAULT;
}

/* what follows a backslash */
static MrJsonFault
take_escape(Cursor *c, uint32 *ch)
{
	if (c->at >= c->end)
		return MR_JSON_BAD_ESCAPE;
	*ch = (unsigned char) *c->at++;
	switch (*ch)
	{
		case '"':
		case '\\':
		case '/':
			break;
		case 'b':
			*ch = '\b';
			break;
		case 'f':
			*ch = '\f';
			break;
		case 'n':
			*ch = '\n';
			break;
		case 'r':
			*ch = '\r';
			break;
		case 't':
			*ch = '\t';
			break;
		case 'u':
			return take_unicode(c, ch);
		default:
			return MR_JSON_BAD_ESCAPE;
	}
	return MR_JSON_NO_FAULT;
}

MrJsonFault
mr_json_unescape(const char *str, size_t len, char *result, size_t *result_len)
{
	Cursor		c = {.at = str,.end = str + len};
	char	   *out = result;

	while (c.at < c.end)
	{
		const char *escape = memchr(c.at, '\\', c.end - c.at);
		size_t		plain = (escape ? escape : c.end) - c.at;
		MrJsonFault fault;
		uint32		ch;

		memcpy(out, c.at, plain);
		out += plain;
		if (escape == NULL)
			break;
		c.at = escape + 1;
		fault = take_escape(&c, &ch);
		if (fault != MR_JSON_NO_FAULT)
			return fault;
		unicode_to_utf8(ch, (unsigned char *) out);
		out += pg_utf_mblen((unsigned char *) out);
	}
	*result_len = out - result;
	return MR_JSON_NO_FAULT;
}

/* the cursor is behind the opening quote */
static MrJsonFault
check_string(Cursor *c)
{
	while (c->at < c->end)
	{
		char		ch = *c->at++;

		if (ch == '"')
			return MR_JSON_NO_FAULT;
		if (ch == '\\')
		{
			uint32		unused;
			MrJsonFault fault = take_escape(c, &unused);

			if (fault != MR_JSON_NO_FAULT)
				return fault;
		}
	}
	return MR_JSON_BAD_SYNTAX;
}

/* the cursor is behind the opening bracket */
static MrJsonFault
check_array(Cursor *c, int depth)
{
	skip_blanks(c);
	if (take_char(c, ']'))
		return MR_JSON_NO_FAULT;
	do
	{
		MrJsonFault fault = check_value(c, depth);

		if (fault != MR_JSON_NO_FAULT)
			return fault;
	} while (take_char(c, ','));
	return take_char(c, ']') ? MR_JSON_NO_FAULT : MR_JSON_BAD_SYNTAX;
}

/* the cursor is behind the opening brace */
static MrJsonFault
check_object(Cursor *c, int depth)
{
	skip_blanks(c);
	if (take_char(c, '}'))
		return MR_JSON_NO_FAULT;
	do
	{
		MrJsonFault fault;

		skip_blanks(c);
		if (!take_char(c, '"'))
			return MR_JSON_BAD_SYNTAX;
		fault = check_string(c);
		if (fault != MR_JSON_NO_FAULT)
			return fault;
		skip_blanks(c);
		if (!take_char(c, ':'))
			return MR_JSON_BAD_SYNTAX;
		fault = check_value(c, depth);
		if (fault != MR_JSON_NO_FAULT)
			return fault;
	} while (take_char(c, ','));
	return take_char(c, '}') ? MR_JSON_NO_FAULT : MR_JSON_BAD_SYNTAX;
}

/* true, false, null or a number */
static MrJsonFault
check_plain(Cursor *c)
{
	static const char *const words[] = {"true", "false", "null"};

	for (int i = 0; i < lengthof(words); i++)
	{
		size_t		len = strlen(words[i]);

		if (c->end - c->at >= len && memcmp(c->at, words[i], len) == 0)
		{
			c->at += len;
			return MR_JSON_NO_FAULT;
		}
	}
	return take_number(c) ? MR_JSON_NO_FAULT : MR_JSON_BAD_SYNTAX;
}

/* a value with the blanks around it; depth: of the array or object it is in */
static MrJsonFault
check_value(Cursor *c, int depth)
{
	MrJsonFault fault;

	skip_blanks(c);
	if (take_char(c, '"'))
		fault = check_string(c);
	else if (c->at >= c->end || (*c->at != '[' && *c->at != '{'))
		fault = check_plain(c);
	else if (depth >= MR_JSON_MAX_DEPTH)
		fault = MR_JSON_TOO_DEEP;
	else if (*c->at++ == '[')
		fault = check_array(c, depth + 1);
	else
		fault = check_object(c, depth + 1);
	skip_blanks(c);
	return fault;
}

MrJsonFault
mr_json_check(const char *str, size_t len)
{
	Cursor		c = {.at = str,.end = str + len};
	MrJsonFault fault = check_value(&c, 0);

	if (fault == MR_JSON_NO_FAULT && c.at != c.end)
		fault = MR_JSON_BAD_SYNTAX;
	return fault;
}

static void
append_escaped(StringInfo out, unsigned char ch)
{
	static const char letters[] = "\bb\ff\nn\rr\tt\"\"\\\\";

	for (int i = 0; i < lengthof(letters) - 1; i += 2)
		if (letters[i] == ch)
		{
			appendStringInfoChar(out, '\\');
			appendStringInfoChar(out, letters[i + 1]);
			return;
		}
	appendStringInfo(out, "\\u%04x", ch);
}

void
mr_json_append_string(StringInfo out, const char *str, size_t len)
{
	const char *end = str + len;

	appendStringInfoChar(out, '"');
	while (str < end)
	{
		const char *p = str;

		while (p < end && (unsigned char) *p >= ' ' && *p != '"' && *p != '\\')
			p++;
		appendBinaryStringInfo(out, str, p - str);
		if (p < end)
			append_escaped(out, *p++);
		str = p;
	}
	appendStringInfoChar(out, '"');
}

bool
mr_json_reject_fault(MrReject *reject, MrJsonFault fault, const char *value, size_t len)
{
	const char *excerpt = mr_excerpt(value, len);

	switch (fault)
	{
		case MR_JSON_NUL:
			return mr_reject(reject, ERRCODE_UNTRANSLATABLE_CHARACTER,
							 "\\u0000 cannot be converted to text: \"%s\"", excerpt);
		case MR_JSON_LONE_SURROGATE:
			return mr_reject(reject, ERRCODE_INVALID_TEXT_REPRESENTATION,
							 "Unicode surrogate without its other half: \"%s\"", excerpt);
		case MR_JSON_BAD_ESCAPE:
			return mr_reject(reject, ERRCODE_INVALID_TEXT_REPRESENTATION,
							 "invalid JSON escape sequence: \"%s\"", excerpt);
		case MR_JSON_TOO_DEEP:
			return mr_reject(reject, ERRCODE_STATEMENT_TOO_COMPLEX,
							 "JSON value is nested deeper than %d levels: \"%s\"",
							 MR_JSON_MAX_DEPTH, excerpt);
		default:
			return mr_reject(reject, ERRCODE_INVALID_TEXT_REPRESENTATION,
							 "invalid JSON value: \"%s\"", excerpt);
	}
}
