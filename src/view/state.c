/*
 * view/state.c
 *		The type millrace.state: an aggregate's serialized state, with the aggregate's stamp
 *		on it.
 *
 * Deserialization and final functions trust their input, because in the server only
 * parallel workers make it; with made-up bytes, or with another aggregate's, some of them
 * read wild memory.  Anybody may call finalize().  So what it deserializes must come from
 * the serialization function of the same aggregate, and a value of this type always does:
 *
 * - Nothing makes one but the merge.  The input functions are for superusers, who restore
 *   dumps, and no cast leads here (one WITHOUT FUNCTION takes a superuser).
 * - The stamp is in the value, so it stays right whatever the value goes through: record
 *   types, polymorphic functions, tables, subqueries.  A type modifier would not: there are
 *   ways to give a column another one that never look at its values.
 *
 * The stamp is made of the symbols of three C functions (all functions of an aggregate with
 * an internal state are C: nothing else can take the type) rather than of the aggregate's
 * OID or name, so it outlives a dump, pg_upgrade and ALTER AGGREGATE.  Aggregates that have
 * all three in common have the same states.  A polymorphic aggregate's states differ by
 * its arguments' types, whose OIDs are in the stamp: serialized states hold such OIDs
 * themselves, and are lost in a dump anyway if the type is a user's.  States that name their
 * types leave those of users out.
 */
#include "millrace.h"

#include "access/htup_details.h"
#include "catalog.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "view/state.h"

PG_FUNCTION_INFO_V1(mr_state_in);
PG_FUNCTION_INFO_V1(mr_state_out);
PG_FUNCTION_INFO_V1(mr_state_recv);
PG_FUNCTION_INFO_V1(mr_state_send);

Oid
mr_state_type(void)
{
	Oid			type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
									   CStringGetDatum("state"),
									   ObjectIdGetDatum(mr_catalog_schema_oid()));

	if (!OidIsValid(type))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("type \"%s.state\" does not exist", MR_SCHEMA));
	return type;
}

/*
 * The stamp
 */

/* a number in an order of bytes that a dump can be carried with */
static void
append_number(StringInfo source, uint32 number)
{
	number = pg_hton32(number);
	appendBinaryStringInfo(source, (char *) &number, sizeof(number));
}

/* language and symbol, and nothing that changes with a new version of a library */
static void
append_function(StringInfo source, Oid funcid)
{
	HeapTuple	tuple;
	Datum symbol;
	bool		isnull;

	if (OidIsValid(funcid))
	{
		tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for function %u", funcid);
		append_number(source, ((Form_pg_proc) GETSTRUCT(tuple))->prolang);
		symbol = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);

		if (!isnull)
			appendStringInfoString(source, TextDatumGetCString(symbol));
		ReleaseSysCache(tuple);
	}
	appendStringInfoChar(source, '\0');
}

/* the first bytes of SHA-256 */
static uint64
digest(const StringInfoData *source)
{
	uint8		result[PG_SHA256_DIGEST_LENGTH];
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);
	uint64		number;

	if (context == NULL ||
		pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, (uint8 *) source->data, source->len) < 0 ||
		pg_cryptohash_final(context, result, sizeof(result)) < 0)
		ereport(ERROR,
				errcode(ERRCODE_INTERNAL_ERROR),
				errmsg("could not compute the stamp of an aggregate's states"));
	pg_cryptohash_free(context);
	memcpy(&number, result, sizeof(number));
	return pg_ntoh64(number);
}

uint64
mr_state_stamp(const Oid *functions, int nfunctions, const Oid *types, int ntypes)
{
	StringInfoData source;
	uint64		result;

	initStringInfo(&source);
	for (int i = 0; i < nfunctions; i++)
		append_function(&source, functions[i]);
	for (int i = 0; i < ntypes; i++)
		append_number(&source, types[i]);
	result = digest(&source);
	pfree(source.data);
	return result;
}

/*
 * Values: the stamp, then what the serialization function made
 */

static struct varlena *
make_value(uint64 stamp, const char *serialized, Size len)
{
	Size		size = VARHDRSZ + sizeof(uint64) + len;
	struct varlena *value = palloc(size);

	SET_VARSIZE(value, size);
	stamp = pg_hton64(stamp);
	memcpy(VARDATA(value), &stamp, sizeof(stamp));
	memcpy(VARDATA(value) + sizeof(stamp), serialized, len);
	return value;
}

static uint64
stamp_of(const struct varlena *value)
{
	uint64		stamp;

	memcpy(&stamp, VARDATA_ANY(value), sizeof(stamp));
	return pg_ntoh64(stamp);
}

Datum
mr_state_seal(Datum serialized, uint64 stamp)
{
	bytea	   *bytes = DatumGetByteaPP(serialized);

	return PointerGetDatum(make_value(stamp, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)));
}

Datum
mr_state_open(Datum state, uint64 stamp, Oid aggfnoid)
{
	struct varlena *value = PG_DETOAST_DATUM_PACKED(state);
	Size		len = VARSIZE_ANY_EXHDR(value);
	bytea	   *result;

	if (len < sizeof(stamp) || stamp_of(value) != stamp)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("value is not a state of aggregate %s", format_procedure(aggfnoid)),
				errdetail("It is a state of another aggregate, or was stored when the aggregate had other functions or argument types."),
				errhint("If a continuous view holds it, millrace.rebuild() computes the view anew."));
	len -= sizeof(stamp);
	result = palloc(VARHDRSZ + len);
	SET_VARSIZE(result, VARHDRSZ + len);
	memcpy(VARDATA(result), VARDATA_ANY(value) + sizeof(stamp), len);
	return PointerGetDatum(result);
}

/*
 * Input and output: hexadecimal, as bytea's
 */

static void
check_may_enter(void)
{
	if (!superuser())
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied to enter a value of type %s.state", MR_SCHEMA),
				errdetail("Only continuous views make such values, and only superusers restore them from a dump."));
}

static void
check_length(Size len)
{
	if (len < sizeof(uint64))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				errmsg("value of type %s.state is too short", MR_SCHEMA));
}

Datum
mr_state_in(PG_FUNCTION_ARGS)
{
	char	   *text = PG_GETARG_CSTRING(0);
	Size		digits = strlen(text);
	struct varlena *value;
	uint64		len;

	check_may_enter();
	if (digits < 2 || text[0] != '\\' || text[1] != 'x')
		ereport(ERROR,
				errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				errmsg("invalid input syntax for type %s.state", MR_SCHEMA));
	value = palloc(VARHDRSZ + digits / 2);
	len = hex_decode(text +2, digits - 2, VARDATA(value));
	check_length(len);
	SET_VARSIZE(value, VARHDRSZ + len);
	PG_RETURN_POINTER(value);
}

Datum
mr_state_out(PG_FUNCTION_ARGS)
{
	struct varlena *value = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));
	Size		len = VARSIZE_ANY_EXHDR(value);
	char	   *text = palloc(2 * len + 3);

	text[		0] = '\\';
	text[		1] = 'x';

	len = hex_encode(VARDATA_ANY(value), len, text +2);
	text[		2 + len] = '\0';

	PG_RETURN_CSTRING(text);
}

Datum
mr_state_recv(PG_FUNCTION_ARGS)
{
	StringInfo	message = (StringInfo) PG_GETARG_POINTER(0);
	int			len = message->len - message->cursor;
	struct varlena *value;

	check_may_enter();
	check_length(len);
	value = palloc(VARHDRSZ + len);
	SET_VARSIZE(value, VARHDRSZ + len);
	pq_copymsgbytes(message, VARDATA(value), len);
	PG_RETURN_POINTER(value);
}

Datum
mr_state_send(PG_FUNCTION_ARGS)
{
	PG_RETURN_BYTEA_P(PG_GETARG_BYTEA_P_COPY(0));
}
