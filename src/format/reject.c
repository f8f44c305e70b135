/*
 * reject.c
 *		Saying why a message cannot be used.
 *
 * A reject's text ends in a dead letter's row, so whatever a message contains, it has to be
 * valid in the database's encoding and of a bearable length.
 */
#include "postgres.h"

#include "format/reject.h"

#include "mb/pg_wchar.h"

#define EXCERPT_CHARS	60
#define MESSAGE_BYTES	400

/*
 * Works on UTF-8 as well as on the database's encoding: a byte sequence that is not valid in
 * the latter becomes question marks.
 */
char *
mr_excerpt(const char *value, size_t len)
{
	int			encoding = GetDatabaseEncoding();
	const char *end = value + len;
	StringInfoData out;

	initStringInfo(&out);
	for (int n = 0; value < end && n < EXCERPT_CHARS; n++)
	{
		int			left = (int) Min(end - value, MAX_CONVERSION_GROWTH * 4);
		int			mblen = IS_HIGHBIT_SET(*value) ? pg_encoding_mblen(encoding, value) : 1;

		if (*value != '\0' && mblen <= left &&
			(mblen == 1 ? !IS_HIGHBIT_SET(*value) || encoding != PG_UTF8 :
			 pg_encoding_verifymbchar(encoding, value, mblen) == mblen))
			appendBinaryStringInfo(&out, value, mblen);
		else
		{
			appendStringInfoChar(&out, '?');
			mblen = 1;
		}
		value += mblen;
	}
	if (value < end)
		appendStringInfoString(&out, "...");
	return out.data;
}

char *
mr_clip_message(const char *message)
{
	int			len = strlen(message);
	int			kept = pg_mbcliplen(message, len, MESSAGE_BYTES);

	return psprintf("%.*s%s", kept, message, kept < len ? "..." : "");
}

bool
mr_reject(MrReject *reject, int sqlstate, const char *fmt,...)
{
	StringInfoData text;

	initStringInfo(&text);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, fmt);
		needed = appendStringInfoVA(&text, fmt, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&text, needed);
	}
	reject->sqlstate = sqlstate;
	reject->text = text.data;

	return false;
}

bool
mr_reject_column(MrReject *reject, const MrColumn *column)
{
	reject->text = psprintf("column \"%s\": %s", column->name, reject->text);
	return false;
}
