/*
 * kafka/headers.c
 *		A message's headers as jsonb: an object of strings, of equal names the last.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "kafka/headers.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

/* NULL: the server's encoding cannot say it */
static char *
convert(const char *text, int len)
{
	int			encoding = GetDatabaseEncoding();
	Size		size = (Size) len * MAX_CONVERSION_GROWTH + 1;
	Oid			conversion;
	unsigned char *result;

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return pnstrdup(text, len);
	conversion = FindDefaultConversionProc(PG_UTF8, encoding);
	if (!OidIsValid(conversion) || size > MaxAllocSize)
		return NULL;
	result = palloc(size);
	if (pg_do_encoding_conversion_buf(conversion, PG_UTF8, encoding, unconstify(unsigned char *, (const unsigned char *) text),
									  len, result, (int) size, true) < len)
		return NULL;
	return (char *) result;
}

/*
 * Kafka's headers are bytes.  Text stays text; what cannot be is shown as bytea shows it.
 */
static void
header_value(JsonbValue *jb, const char *bytes, size_t len)
{
	char	   *shown = NULL;

	if (bytes == NULL)
	{
		jb->type = jbvNull;
		return;
	}
	if (memchr(bytes, '\0', len) == NULL &&
		pg_encoding_verifymbstr(PG_UTF8, bytes, len) == len)
		shown = convert(bytes, (int) len);
	if (shown == NULL)
	{
		shown = palloc(len * 2 + 3);
		memcpy(shown, "\\x", 2);
		shown[2 + hex_encode(bytes, len, shown + 2)] = '\0';
	}
	jb->type = jbvString;
	jb->val.string.val = shown;
	jb->val.string.len = strlen(shown);
}

Datum
mr_headers_jsonb(const rd_kafka_message_t *rkmessage, bool *isnull)
{
	rd_kafka_headers_t *headers;
	JsonbParseState *state = NULL;
	JsonbValue	jb;
	const char *name;
	const void *value;
	size_t		len;

	*isnull = rd_kafka_message_headers(rkmessage, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR;
	if (*isnull)
		return (Datum) 0;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &len) == 0; i++)
	{
		header_value(&jb, name, strlen(name));
		pushJsonbValue(&state, WJB_KEY, &jb);
		header_value(&jb, value, len);
		pushJsonbValue(&state, WJB_VALUE, &jb);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}
