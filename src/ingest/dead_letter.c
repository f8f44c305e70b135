/*
 * dead_letter.c
 *		Rows of millrace.dead_letter and millrace.gap.
 *
 * Both are written in the transaction that moves the offsets past what they record, so
 * nothing is dropped without a row and nothing is recorded twice.  A view that catches up
 * meets messages again that the live feed has recorded: the unique index keeps one row, which
 * learns that this view misses the message, too.
 *
 * A message that a view could not take is that view's dead letter.  One that could not be
 * decoded reached no view; its row tells which ones miss it, so that replay feeds those and
 * no others.
 */
#include "millrace.h"

#include "catalog.h"
#include "catalog/pg_type.h"
#include "ingest/dead_letter.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/elog.h"

static Datum
bytes_datum(const char *data, size_t len, char *null_flag)
{
	bytea	   *result;

	if (data == NULL)
	{
		*null_flag = 'n';
		return (Datum) 0;
	}
	result = palloc(VARHDRSZ + len);
	SET_VARSIZE(result, VARHDRSZ + len);
	memcpy(VARDATA(result), data, len);
	return PointerGetDatum(result);
}

static Datum
oid_array(const List *oids)
{
	Datum	   *elems = palloc(sizeof(Datum) * (list_length(oids) + 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, oids)
		elems[n++] = ObjectIdGetDatum(lfirst_oid(lc));
	return PointerGetDatum(construct_array(elems, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

void
mr_dead_letter_insert(Oid stream, Oid view, const List *missed, const MrMessage *message,
					  const MrReject *reject)
{
	Oid			types[] = {OIDOID, OIDOID, INT4OID, INT8OID, INT8OID, BYTEAOID, BYTEAOID, JSONBOID,
	TEXTOID, TEXTOID, OIDARRAYOID};
	Datum		values[11];
	char		nulls[11 + 1] = "           ";
	bool		no_headers;
	MrCatalogScope scope;

	values[0] = ObjectIdGetDatum(stream);
	values[1] = ObjectIdGetDatum(view);
	nulls[1] = OidIsValid(view) ? ' ' : 'n';
	values[2] = Int32GetDatum(message->partition);
	values[3] = Int64GetDatum(message->offset);
	values[4] = Int64GetDatum(message->timestamp_ms);
	nulls[4] = message->timestamp_ms >= 0 ? ' ' : 'n';
	values[5] = bytes_datum(message->key, message->key_len, &nulls[5]);
	values[6] = bytes_datum(message->value, message->value_len, &nulls[6]);
	values[7] = mr_message_headers(message, &no_headers);
	nulls[7] = no_headers ? 'n' : ' ';
	values[8] = CStringGetTextDatum(unpack_sql_state(reject->sqlstate));
	values[9] = CStringGetTextDatum(reject->text);
	values[10] = oid_array(missed);
	nulls[10] = OidIsValid(view) ? 'n' : ' ';

	mr_catalog_begin(&scope);
	mr_catalog_run("INSERT INTO millrace.dead_letter AS d"
				   " (stream, view, partition, message_offset, message_timestamp, key, value,"
				   " headers, sqlstate, error, missed)"
				   " VALUES ($1, $2, $3, $4, to_timestamp($5 / 1000.0), $6, $7, $8, $9, $10, $11::regclass[])"
				   " ON CONFLICT (stream, partition, message_offset, view, message_timestamp) DO UPDATE"
				   " SET sqlstate = excluded.sqlstate, error = excluded.error, failed_at = excluded.failed_at,"
				   " missed = CASE WHEN d.view IS NULL"
				   " THEN ARRAY(SELECT unnest(d.missed) UNION SELECT unnest(excluded.missed)) END",
				   false, 11, types, values, nulls);
	mr_catalog_end(&scope);
}

void
mr_gap_insert(Oid stream, int32 partition, int64 from_offset, int64 to_offset, const char *reason,
			  bool passed)
{
	Oid			types[] = {OIDOID, INT4OID, INT8OID, INT8OID, TEXTOID, BOOLOID};
	Datum		values[] = {ObjectIdGetDatum(stream), Int32GetDatum(partition), Int64GetDatum(from_offset),
	Int64GetDatum(to_offset), CStringGetTextDatum(reason), BoolGetDatum(passed)};
	MrCatalogScope scope;

	mr_catalog_begin(&scope);
	mr_catalog_run("INSERT INTO millrace.gap (stream, partition, from_offset, to_offset, reason, passed)"
				   " SELECT $1, $2, $3, $4, $5, $6 WHERE NOT EXISTS (SELECT FROM millrace.gap"
				   " WHERE stream = $1 AND partition = $2 AND from_offset = $3 AND to_offset = $4"
				   " AND passed = $6)",
				   false, 6, types, values, NULL);
	mr_catalog_end(&scope);
}
