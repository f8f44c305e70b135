/*
 * kafka/headers.c
 *		A message's headers as jsonb: an object of strings, of equal names the last.
 */
#include "postgres.h"

#include "kafka/headers.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

/*
 * Kafka's headers are bytes.  Text stays text; other bytes are shown as bytea shows them.
 */
static void
header_value(JsonbValue *jb, const char *bytes, size_t len)
{
	char	   *shown;

	if (bytes == NULL)
	{
		jb->type = jbvNull;
		return;
	}
	if (memchr(bytes, '\0', len) == NULL &&
		pg_encoding_verifymbstr(PG_UTF8, bytes, len) == len)
		shown = pg_any_to_server(pnstrdup(bytes, len), len, PG_UTF8);
	else
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
