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
#include "catalog/namespace.h"
#include "ingest/dead_letter.h"
#include "storage/lmgr.h"
#include "stream/epoch.h"
#include "utils/lsyscache.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/timestamp.h"

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

/* infinity: out of range, and the same when it is replayed */
static Datum
timestamp_datum(int64 ms)
{
	return TimestampTzGetDatum(ms > MR_MAX_UNIX_MS ? DT_NOEND : ms * 1000 - MR_POSTGRES_EPOCH_USECS);
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
	Oid			types[] = {OIDOID, OIDOID, INT4OID, INT8OID, TIMESTAMPTZOID, BYTEAOID, BYTEAOID, JSONBOID,
	TEXTOID, TEXTOID, OIDARRAYOID};
	Datum		values[11];
	char		nulls[11 + 1] = "           ";
	bool		no_headers;

	values[0] = ObjectIdGetDatum(stream);
	values[1] = ObjectIdGetDatum(view);
	nulls[1] = OidIsValid(view) ? ' ' : 'n';
	values[2] = Int32GetDatum(message->partition);
	values[3] = Int64GetDatum(message->offset);
	values[4] = timestamp_datum(message->timestamp_ms);
	nulls[4] = message->timestamp_ms >= 0 ? ' ' : 'n';
	values[5] = bytes_datum(message->key, message->key_len, &nulls[5]);
	values[6] = bytes_datum(message->value, message->value_len, &nulls[6]);
	values[7] = mr_message_headers(message, &no_headers);
	nulls[7] = no_headers ? 'n' : ' ';
	values[8] = CStringGetTextDatum(unpack_sql_state(reject->sqlstate));
	values[9] = CStringGetTextDatum(reject->text);
	values[10] = oid_array(missed);
	nulls[10] = OidIsValid(view) ? 'n' : ' ';

	mr_catalog_run_alone("INSERT INTO millrace.dead_letter AS d"
						 " (stream, view, partition, message_offset, message_timestamp, key, value,"
						 " headers, sqlstate, error, missed)"
						 " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::regclass[])"
						 " ON CONFLICT (stream, partition, message_offset, view, message_timestamp) DO UPDATE"
						 " SET sqlstate = excluded.sqlstate, error = excluded.error, failed_at = excluded.failed_at,"
						 " missed = CASE WHEN d.view IS NULL"
						 " THEN ARRAY(SELECT unnest(d.missed) UNION SELECT unnest(excluded.missed)) END",
						 11, types, values, nulls);
}

/* ---------- reading ---------- */

List *
mr_dead_letter_views(Oid stream, Datum ids)
{
	Oid			types[] = {OIDOID, INT8ARRAYOID};
	Datum		values[] = {ObjectIdGetDatum(stream), ids};
	MrCatalogScope scope;
	List	   *result = NIL;

	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT DISTINCT v::oid FROM millrace.dead_letter d,"
				   " unnest(CASE WHEN d.view IS NULL THEN d.missed ELSE ARRAY[d.view] END) v"
				   " WHERE d.stream = $1 AND d.id IN (SELECT unnest($2)) ORDER BY 1", true, 2, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Oid			view = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
														  SPI_tuptable->tupdesc, 1, &isnull));
		MemoryContext old = MemoryContextSwitchTo(scope.caller);

		result = lappend_oid(result, view);
		MemoryContextSwitchTo(old);
	}
	mr_catalog_end(&scope);
	return result;
}

static Datum
letter_column(uint64 row, int col, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col, isnull);
}

/* bytes in the current context, NULL for null */
static const char *
letter_bytes(uint64 row, int col, size_t *len)
{
	bool		isnull;
	Datum		datum = letter_column(row, col, &isnull);
	bytea	   *bytes;

	*len = 0;
	if (isnull)
		return NULL;
	bytes = DatumGetByteaPCopy(datum);
	*len = VARSIZE(bytes) - VARHDRSZ;
	return VARDATA(bytes);
}

static List *
letter_missed(uint64 row, int col)
{
	bool		isnull;
	Datum		datum = letter_column(row, col, &isnull);
	Datum	   *elems;
	bool	   *nulls;
	int			n;
	List	   *result = NIL;

	if (isnull)
		return NIL;
	deconstruct_array(DatumGetArrayTypeP(datum), OIDOID, sizeof(Oid), true, TYPALIGN_INT,
					  &elems, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			result = lappend_oid(result, DatumGetObjectId(elems[i]));
	return result;
}

static int64
unix_ms(TimestampTz time)
{
	return TIMESTAMP_IS_NOEND(time) ? PG_INT64_MAX : (time + MR_POSTGRES_EPOCH_USECS) / 1000;
}

static void
read_letter(uint64 row, MrLetter *letter)
{
	MrMessage  *message = &letter->message;
	bool		isnull;
	Datum		datum;

	memset(letter, 0, sizeof(MrLetter));
	letter->id = DatumGetInt64(letter_column(row, 1, &isnull));
	datum = letter_column(row, 2, &isnull);
	letter->view = isnull ? InvalidOid : DatumGetObjectId(datum);
	letter->missed = letter_missed(row, 3);
	message->partition = DatumGetInt32(letter_column(row, 4, &isnull));
	message->offset = DatumGetInt64(letter_column(row, 5, &isnull));
	datum = letter_column(row, 6, &isnull);
	message->timestamp_ms = isnull ? -1 : unix_ms(DatumGetTimestampTz(datum));
	message->key = letter_bytes(row, 7, &message->key_len);
	message->value = letter_bytes(row, 8, &message->value_len);
	datum = letter_column(row, 9, &isnull);
	message->headers = isnull ? NULL : PG_DETOAST_DATUM_COPY(datum);
}

void
mr_dead_letter_lock_all(Oid stream, Datum ids)
{
	Oid			types[] = {OIDOID, INT8ARRAYOID};
	Datum		values[] = {ObjectIdGetDatum(stream), ids};

	mr_catalog_run_alone("SELECT count(*) FROM (SELECT FROM millrace.dead_letter d"
						 " WHERE stream = $1 AND id IN (SELECT unnest($2)) ORDER BY id FOR UPDATE OF d) l",
						 2, types, values, NULL);
}

int
mr_dead_letter_lock(Oid stream, const int64 *ids, int n, MrLetter *letters)
{
	Oid			types[] = {OIDOID, INT8ARRAYOID};
	Datum		values[] = {ObjectIdGetDatum(stream), mr_catalog_int8_array(ids, n)};
	MrCatalogScope scope;
	MemoryContext old;

	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT id, view::oid, missed::oid[], partition, message_offset,"
				   " message_timestamp, key, value, headers"
				   " FROM millrace.dead_letter WHERE stream = $1 AND id = ANY ($2) ORDER BY id FOR UPDATE",
				   false, 2, types, values, NULL);
	n = (int) SPI_processed;
	old = MemoryContextSwitchTo(scope.caller);
	for (int i = 0; i < n; i++)
		read_letter(i, &letters[i]);
	MemoryContextSwitchTo(old);
	mr_catalog_end(&scope);
	return n;
}

/* ---------- replayed letters ---------- */

void
mr_dead_letter_update(int64 id, const MrReject *reject)
{
	Oid			types[] = {INT8OID, TEXTOID, TEXTOID};
	Datum		values[] = {Int64GetDatum(id), CStringGetTextDatum(unpack_sql_state(reject->sqlstate)),
	CStringGetTextDatum(reject->text)};

	mr_catalog_run_alone("UPDATE millrace.dead_letter SET sqlstate = $2, error = $3, failed_at = clock_timestamp()"
						 " WHERE id = $1", 3, types, values, NULL);
}

void
mr_dead_letter_narrow(int64 id, Oid view, const MrReject *reject)
{
	Oid			types[] = {INT8OID, OIDOID, TEXTOID, TEXTOID};
	Datum		values[] = {Int64GetDatum(id), ObjectIdGetDatum(view),
		CStringGetTextDatum(unpack_sql_state(reject->sqlstate)),
	CStringGetTextDatum(reject->text)};

	mr_catalog_run_alone("INSERT INTO millrace.dead_letter"
						 " (stream, view, partition, message_offset, message_timestamp, key, value,"
						 " headers, sqlstate, error)"
						 " SELECT stream, $2, partition, message_offset, message_timestamp, key, value,"
						 " headers, $3, $4 FROM millrace.dead_letter WHERE id = $1", 4, types, values, NULL);
}

void
mr_dead_letter_delete(int64 id)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(id)};

	mr_catalog_run_alone("DELETE FROM millrace.dead_letter WHERE id = $1", 1, types, values, NULL);
}

/* to whom a letter is missing still */
#define STILL_MISSED \
	"FROM unnest(missed) m WHERE m <> ALL ($2::regclass[])" \
	" AND EXISTS (SELECT FROM millrace.continuous_view v WHERE v.view = m)"

void
mr_dead_letter_fed(int64 id, const List *views)
{
	Oid			types[] = {INT8OID, OIDARRAYOID};
	Datum		values[] = {Int64GetDatum(id), oid_array(views)};

	if (mr_catalog_run_alone("DELETE FROM millrace.dead_letter WHERE id = $1 AND NOT EXISTS (SELECT " STILL_MISSED ")",
							 2, types, values, NULL) == 0)
		mr_catalog_run_alone("UPDATE millrace.dead_letter SET missed = ARRAY(SELECT m " STILL_MISSED ") WHERE id = $1",
							 2, types, values, NULL);
}

void
mr_dead_letter_forget(Oid view)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view)};

	mr_catalog_run_alone("DELETE FROM millrace.dead_letter WHERE view = $1", 1, types, values, NULL);
	mr_catalog_run_alone("UPDATE millrace.dead_letter SET missed = array_remove(missed, $1::regclass)"
						 " WHERE view IS NULL AND $1 = ANY (missed)", 1, types, values, NULL);
}

/* ---------- gaps ---------- */

/*
 * Several feeds may meet the same gap, at any time.  A topic that began again, which is no range, may do so with
 * the same offsets once more, and then lose the same range as before.
 */
void
mr_gap_insert(Oid stream, int32 partition, int64 from_offset, int64 to_offset, const char *reason,
			  bool passed)
{
	Oid			types[] = {OIDOID, INT4OID, INT8OID, INT8OID, TEXTOID, BOOLOID};
	Datum		values[] = {ObjectIdGetDatum(stream), Int32GetDatum(partition), Int64GetDatum(from_offset),
	Int64GetDatum(to_offset), CStringGetTextDatum(reason), BoolGetDatum(passed)};

	mr_catalog_run_alone("INSERT INTO millrace.gap (stream, partition, from_offset, to_offset, reason, passed)"
						 " SELECT $1, $2, $3, $4, $5, $6 WHERE NOT EXISTS (SELECT FROM millrace.gap g"
						 " WHERE stream = $1 AND partition = $2 AND from_offset = $3 AND to_offset = $4 AND passed = $6"
						 " AND CASE WHEN $4 <= $3 THEN detected_at > clock_timestamp() - interval '5 minutes'"
						 " ELSE NOT EXISTS (SELECT FROM millrace.gap later WHERE stream = $1 AND partition = $2"
						 " AND later.id > g.id AND later.to_offset <= later.from_offset) END)",
						 6, types, values, NULL);
}
