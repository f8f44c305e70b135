/*
 * aggregate/value.c
 *		Values of any type inside aggregates' states: copied, compared, written and read.
 *
 * How a value is written depends on its type.  Integers and what is made like them, and
 * strings, of the server's own are written as they are; values of enums by OID and by name, since a dump changes the
 * one and ALTER TYPE ... RENAME VALUE the other; all others by their type's binary
 * output function, or, if it has none, as text.  So whatever bytes a state is read from, the
 * type's own input function judges them, and a value that was written before its type was
 * altered is an error and not wild memory.
 *
 * A comparison is the one of the type's default btree operator class, so -0.0 equals 0.0,
 * NaN equals NaN, 1.0 equals 1.00, and a nondeterministic collation decides for text.
 */
#include "millrace.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "aggregate/value.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

/* ---------- types ---------- */

/* values of these are equal exactly when their bytes are, collations aside */
static bool
has_exact_equality(Oid type)
{
	switch (type)
	{
		case BOOLOID:
		case CHAROID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case DATEOID:
		case TIMEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
		case BYTEAOID:
		case UUIDOID:
			return true;
		default:
			return false;
	}
}

static MrEncoding
choose_encoding(Oid type, char typtype, bool byval, bool has_binary)
{
	if (type == TEXTOID || type == VARCHAROID || type == BPCHAROID || type == BYTEAOID)
		return MR_ENCODE_BYTES;
	if (typtype == TYPTYPE_ENUM)
		return MR_ENCODE_ENUM;
	if (type < FirstGenbkiObjectId && byval && typtype == TYPTYPE_BASE)
		return MR_ENCODE_INTEGER;
	return has_binary ? MR_ENCODE_BINARY : MR_ENCODE_TEXT;
}

static void
init_type(MrValueType *type, Oid typeid, MemoryContext context)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(typeid));
	Form_pg_type form;
	Oid			function;
	bool		varlena;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("type with OID %u does not exist", typeid));
	form = (Form_pg_type) GETSTRUCT(tuple);
	if (form->typtype == TYPTYPE_PSEUDO)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("values of type %s cannot be kept in an aggregate's state",
					   format_type_be(typeid)),
				errhint("Cast the value to a type that a table's column can have."));
	type->entry = lookup_type_cache(typeid, TYPECACHE_CMP_PROC_FINFO | TYPECACHE_EQ_OPR_FINFO |
									TYPECACHE_HASH_EXTENDED_PROC_FINFO);
	type->ordered = OidIsValid(type->entry->cmp_proc_finfo.fn_oid);
	type->hashed = OidIsValid(type->entry->hash_extended_proc_finfo.fn_oid) &&
		OidIsValid(type->entry->eq_opr_finfo.fn_oid);
	type->exact = has_exact_equality(typeid);
	type->encoding = choose_encoding(typeid, form->typtype, form->typbyval,
									 OidIsValid(form->typsend) && OidIsValid(form->typreceive));
	ReleaseSysCache(tuple);
	if (type->encoding == MR_ENCODE_BINARY)
	{
		getTypeBinaryOutputInfo(typeid, &function, &varlena);
		fmgr_info_cxt(function, &type->write, context);
		getTypeBinaryInputInfo(typeid, &function, &type->ioparam);
		fmgr_info_cxt(function, &type->read, context);
	}
	else if (type->encoding == MR_ENCODE_TEXT)
	{
		getTypeOutputInfo(typeid, &function, &varlena);
		fmgr_info_cxt(function, &type->write, context);
		getTypeInputInfo(typeid, &function, &type->ioparam);
		fmgr_info_cxt(function, &type->read, context);
	}
}

static bool
is_row_type_of(const MrRowType *row, int ncolumns, const Oid *types)
{
	if (row == NULL || row->ncolumns != ncolumns)
		return false;
	for (int i = 0; i < ncolumns; i++)
		if (row->columns[i].entry->type_id != types[i])
			return false;
	return true;
}

const MrRowType *
mr_row_type(FmgrInfo *flinfo, int ncolumns, const Oid *types)
{
	MrRowType  *row = flinfo->fn_extra;

	if (is_row_type_of(row, ncolumns, types))
		return row;

	/* states may point to one that was there before */
	row = MemoryContextAllocZero(flinfo->fn_mcxt, sizeof(MrRowType));
	row->ncolumns = ncolumns;
	for (int i = 0; i < ncolumns; i++)
		init_type(&row->columns[i], types[i], flinfo->fn_mcxt);
	flinfo->fn_extra = row;
	return row;
}

Oid
mr_argument_type(FunctionCallInfo fcinfo, int arg)
{
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, arg);

	if (!OidIsValid(type))
		ereport(ERROR,
				errcode(ERRCODE_INDETERMINATE_DATATYPE),
				errmsg("could not determine the type of an aggregate's argument"));
	return type;
}

void
mr_value_check_ordered(const MrValueType *type)
{
	if (!type->ordered)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_FUNCTION),
				errmsg("could not identify an ordering operator for type %s",
					   format_type_be(type->entry->type_id)),
				errhint("Cast the value to a type that has one, for example to jsonb or text."));
}

/* ---------- copies ---------- */

Datum
mr_value_flat(const MrValueType *type, Datum value)
{
	if (type->entry->typlen != -1)
		return value;
	return PointerGetDatum(PG_DETOAST_DATUM_PACKED(value));
}

Size
mr_value_size(const MrValueType *type, Datum value)
{
	if (type->entry->typbyval)
		return 0;
	return datumGetSize(value, false, type->entry->typlen);
}

Datum
mr_value_copy(const MrValueType *type, Datum value, MemoryContext context, Size *size)
{
	char	   *copy;

	*size = mr_value_size(type, value);
	if (type->entry->typbyval)
		return value;
	copy = MemoryContextAllocHuge(context, *size);
	memcpy(copy, DatumGetPointer(value), *size);
	return PointerGetDatum(copy);
}

void
mr_value_free(const MrValueType *type, Datum value)
{
	if (!type->entry->typbyval)
		pfree(DatumGetPointer(value));
}

/* ---------- order ---------- */

int
mr_value_compare_bytes(const MrValueType *type, Datum a, Datum b)
{
	const char *a_bytes,
			   *b_bytes;
	Size		a_size,
				b_size;
	int			result;

	if (type->entry->typbyval)
		return a < b ? -1 : a > b;
	if (type->entry->typlen == -1)
	{
		a_bytes = VARDATA_ANY(DatumGetPointer(a));
		a_size = VARSIZE_ANY_EXHDR(DatumGetPointer(a));
		b_bytes = VARDATA_ANY(DatumGetPointer(b));
		b_size = VARSIZE_ANY_EXHDR(DatumGetPointer(b));
	}
	else
	{
		a_bytes = DatumGetPointer(a);
		a_size = datumGetSize(a, false, type->entry->typlen);
		b_bytes = DatumGetPointer(b);
		b_size = datumGetSize(b, false, type->entry->typlen);
	}
	result = memcmp(a_bytes, b_bytes, Min(a_size, b_size));
	return result != 0 ? result : a_size < b_size ? -1 : a_size > b_size;
}

int
mr_value_compare(const MrValueType *type, Oid collation, Datum a, Datum b)
{
	switch (type->entry->type_id)
	{
		case INT8OID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return DatumGetInt64(a) < DatumGetInt64(b) ? -1 : DatumGetInt64(a) > DatumGetInt64(b);
		case INT4OID:
		case DATEOID:
			return DatumGetInt32(a) < DatumGetInt32(b) ? -1 : DatumGetInt32(a) > DatumGetInt32(b);
		default:
			break;
	}
	if (!type->ordered)
		return mr_value_compare_bytes(type, a, b);
	return DatumGetInt32(FunctionCall2Coll(&type->entry->cmp_proc_finfo, collation, a, b));
}

/* ---------- hashes ---------- */

void
mr_value_check_hashed(const MrValueType *type)
{
	if (!type->hashed)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_FUNCTION),
				errmsg("could not identify an extended hash function for type %s",
					   format_type_be(type->entry->type_id)),
				errhint("Cast the value to a type that has one, for example to jsonb or text."));
}

/*
 * The type's extended hash function, which hash partitioning relies on as well, so it is the
 * same in all versions of the server; and a mixer behind it (MurmurHash3's), for functions
 * that leave some bits alone.
 */
uint64
mr_value_hash(const MrValueType *type, Oid collation, Datum value)
{
	uint64		hash = DatumGetUInt64(FunctionCall2Coll(&type->entry->hash_extended_proc_finfo,
														collation, value, UInt64GetDatum(0)));

	hash ^= hash >> 33;
	hash *= UINT64CONST(0xff51afd7ed558ccd);
	hash ^= hash >> 33;
	hash *= UINT64CONST(0xc4ceb9fe1a85ec53);
	return hash ^ (hash >> 33);
}

bool
mr_value_equal(const MrValueType *type, Oid collation, Datum a, Datum b)
{
	return DatumGetBool(FunctionCall2Coll(&type->entry->eq_opr_finfo, collation, a, b));
}

/* ---------- bytes ---------- */

static void
write_bytes(StringInfo out, const char *bytes, Size size)
{
	pq_sendint32(out, size);
	appendBinaryStringInfo(out, bytes, size);
}

/*
 * Binary functions convert text to the client's encoding, and from it.  What is kept will be read for other
 * clients: there must be nothing to convert meanwhile.
 */
static bytea *
send_value(const MrValueType *type, Datum value)
{
	FmgrInfo   *function = unconstify(FmgrInfo *, &type->write);
	int			client = pg_get_client_encoding();
	bytea	   *result = NULL;

	if (client == GetDatabaseEncoding())
		return SendFunctionCall(function, value);
	PG_TRY();
	{
		(void) SetClientEncoding(GetDatabaseEncoding());
		result = SendFunctionCall(function, value);
	}
	PG_FINALLY();
	{
		(void) SetClientEncoding(client);
	}
	PG_END_TRY();
	return result;
}

/* the same for what was written */
static Datum
receive_value(const MrValueType *type, StringInfo bytes)
{
	FmgrInfo   *function = unconstify(FmgrInfo *, &type->read);
	int			client = pg_get_client_encoding();
	Datum		result = (Datum) 0;

	if (client == GetDatabaseEncoding())
		return ReceiveFunctionCall(function, bytes, type->ioparam, -1);
	PG_TRY();
	{
		(void) SetClientEncoding(GetDatabaseEncoding());
		result = ReceiveFunctionCall(function, bytes, type->ioparam, -1);
	}
	PG_FINALLY();
	{
		(void) SetClientEncoding(client);
	}
	PG_END_TRY();
	return result;
}

static void
read_name(StringInfo in, char *name)
{
	int			size = pq_getmsgint(in, 4);

	if (size < 0 || size >= NAMEDATALEN)
		mr_bad_state("a name is too long");
	memcpy(name, pq_getmsgbytes(in, size), size);
	name[size] = '\0';
}

static void
write_enum(StringInfo out, Oid value)
{
	HeapTuple	tuple = SearchSysCache1(ENUMOID, ObjectIdGetDatum(value));
	const char *name;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for enum value %u", value);
	name = NameStr(((Form_pg_enum) GETSTRUCT(tuple))->enumlabel);
	pq_sendint32(out, value);
	write_bytes(out, name, strlen(name));
	ReleaseSysCache(tuple);
}

/* is it a value of the type, whatever it is called now? */
static bool
is_enum_value(Oid type, Oid value)
{
	HeapTuple	tuple = SearchSysCache1(ENUMOID, ObjectIdGetDatum(value));
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_enum) GETSTRUCT(tuple))->enumtypid == type;
	ReleaseSysCache(tuple);
	return result;
}

static Oid
read_enum(Oid type, StringInfo in)
{
	Oid			value = pq_getmsgint(in, 4);
	char		name[NAMEDATALEN];
	Oid			named;

	read_name(in, name);
	named = GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid, ObjectIdGetDatum(type), CStringGetDatum(name));
	if (OidIsValid(named))
		return named;
	if (!is_enum_value(type, value))
		mr_bad_state("a value that its type does not have");
	return value;
}

void
mr_value_write(const MrValueType *type, StringInfo out, Datum value)
{
	char	   *shown;
	bytea	   *bytes;

	switch (type->encoding)
	{
		case MR_ENCODE_INTEGER:
			pq_sendint64(out, value);
			break;
		case MR_ENCODE_BYTES:
			write_bytes(out, VARDATA_ANY(DatumGetPointer(value)),
						VARSIZE_ANY_EXHDR(DatumGetPointer(value)));
			break;
		case MR_ENCODE_ENUM:
			write_enum(out, DatumGetObjectId(value));
			break;
		case MR_ENCODE_BINARY:
			bytes = send_value(type, value);
			write_bytes(out, VARDATA(bytes), VARSIZE(bytes) - VARHDRSZ);
			pfree(bytes);
			break;
		case MR_ENCODE_TEXT:
			shown = OutputFunctionCall(unconstify(FmgrInfo *, &type->write), value);
			write_bytes(out, shown, strlen(shown));
			pfree(shown);
			break;
	}
}

static void
read_bytes(StringInfo in, StringInfo scratch)
{
	int			size = pq_getmsgint(in, 4);

	if (size < 0 || size > in->len - in->cursor)
		mr_bad_state("a value is longer than what is left");
	resetStringInfo(scratch);
	appendBinaryStringInfo(scratch, pq_getmsgbytes(in, size), size);
}

Datum
mr_value_read(const MrValueType *type, StringInfo in, StringInfo scratch)
{
	if (type->encoding == MR_ENCODE_INTEGER)
		return (Datum) pq_getmsgint64(in);
	if (type->encoding == MR_ENCODE_ENUM)
		return ObjectIdGetDatum(read_enum(type->entry->type_id, in));
	read_bytes(in, scratch);
	switch (type->encoding)
	{
		case MR_ENCODE_BYTES:
			if (type->entry->type_id != BYTEAOID)
				(void) pg_verifymbstr(scratch->data, scratch->len, false);
			return PointerGetDatum(cstring_to_text_with_len(scratch->data, scratch->len));
		case MR_ENCODE_BINARY:
			return receive_value(type, scratch);
		default:
			return InputFunctionCall(unconstify(FmgrInfo *, &type->read), scratch->data, type->ioparam, -1);
	}
}

/* ---------- types' names ---------- */

void
mr_type_write(StringInfo out, Oid type)
{
	HeapTuple	tuple;
	Form_pg_type form;
	char	   *namespace;

	pq_sendint32(out, type);
	if (type < FirstNormalObjectId)
		return;
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	form = (Form_pg_type) GETSTRUCT(tuple);
	namespace = get_namespace_name(form->typnamespace);
	if (namespace == NULL)
		elog(ERROR, "cache lookup failed for namespace %u", form->typnamespace);
	write_bytes(out, namespace, strlen(namespace));
	write_bytes(out, NameStr(form->typname), strlen(NameStr(form->typname)));
	pfree(namespace);
	ReleaseSysCache(tuple);
}

/* the type of that name, whatever its OID in a restored database; of that OID, if it was renamed */
Oid
mr_type_read(StringInfo in)
{
	Oid			type = pq_getmsgint(in, 4);
	char		namespace[NAMEDATALEN];
	char		name[NAMEDATALEN];
	Oid			named;

	if (type < FirstNormalObjectId)
		return type;
	read_name(in, namespace);
	read_name(in, name);
	named = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum(name),
							ObjectIdGetDatum(get_namespace_oid(namespace, true)));
	return OidIsValid(named) ? named : type;
}

void
mr_open_bytes(StringInfo in, const bytea *bytes)
{
	in->data = VARDATA_ANY(unconstify(bytea *, bytes));
	in->len = VARSIZE_ANY_EXHDR(bytes);
	in->maxlen = in->len;
	in->cursor = 0;
}

void
mr_bad_state(const char *what)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
			errmsg("invalid state of an aggregate: %s", what));
}
