/*
 * aggregate/sketch.c
 *		Sketches as types of their own: input and output, what their aggregates have in common.
 *
 * A value of such a type is what its aggregate's serialization function makes.  Anybody may
 * enter one, so it is checked at input as well as whenever it is read: what reads it never
 * looks beyond its end, and a sketch that was made up gives wrong numbers at worst.
 */
#include "millrace.h"

#include "aggregate/call.h"
#include "aggregate/sketch.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#define VERSION		1

PG_FUNCTION_INFO_V1(mr_sketch_out);
PG_FUNCTION_INFO_V1(mr_sketch_send);

static void
check(const MrSketchKind *kind, const bytea *bytes)
{
	if (kind->check != NULL)
		kind->check(bytes);
	else
		(void) kind->read(bytes);
}

Datum
mr_sketch_in(FunctionCallInfo fcinfo, const MrSketchKind *kind)
{
	char	   *digits = PG_GETARG_CSTRING(0);
	Size		ndigits = strlen(digits);
	bytea	   *bytes;

	if (ndigits < 2 || digits[0] != '\\' || digits[1] != 'x')
		ereport(ERROR,
				errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				errmsg("invalid input syntax for a sketch"),
				errdetail("It begins with \"\\x\", followed by hexadecimal digits."));
	bytes = palloc(VARHDRSZ + ndigits / 2);
	SET_VARSIZE(bytes, VARHDRSZ + hex_decode(digits + 2, ndigits - 2, VARDATA(bytes)));
	check(kind, bytes);
	PG_RETURN_BYTEA_P(bytes);
}

Datum
mr_sketch_recv(FunctionCallInfo fcinfo, const MrSketchKind *kind)
{
	StringInfo	message = (StringInfo) PG_GETARG_POINTER(0);
	int			size = message->len - message->cursor;
	bytea	   *bytes = palloc(VARHDRSZ + size);

	SET_VARSIZE(bytes, VARHDRSZ + size);
	pq_copymsgbytes(message, VARDATA(bytes), size);
	check(kind, bytes);
	PG_RETURN_BYTEA_P(bytes);
}

/* output and send functions of all of them */
Datum
mr_sketch_out(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);
	Size		size = VARSIZE_ANY_EXHDR(bytes);
	char	   *digits = palloc(2 * size + 3);

	digits[0] = '\\';
	digits[1] = 'x';
	digits[2 + hex_encode(VARDATA_ANY(bytes), size, digits + 2)] = '\0';
	PG_RETURN_CSTRING(digits);
}

Datum
mr_sketch_send(PG_FUNCTION_ARGS)
{
	PG_RETURN_BYTEA_P(PG_GETARG_BYTEA_P_COPY(0));
}

/* ---------- aggregates and functions ---------- */

Datum
mr_sketch_union_transition(FunctionCallInfo fcinfo, const MrSketchKind *kind)
{
	MemoryContext context = mr_call_context(fcinfo);
	void	   *sketch = mr_call_state(fcinfo, 0);

	if (!PG_ARGISNULL(1))
		sketch = kind->merge(sketch, kind->read(PG_GETARG_BYTEA_PP(1)), context);
	if (sketch == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(sketch);
}

Datum
mr_sketch_combine(FunctionCallInfo fcinfo, const MrSketchKind *kind)
{
	MemoryContext context = mr_call_context(fcinfo);
	void	   *sketch = mr_call_state(fcinfo, 0);

	if (!PG_ARGISNULL(1))
		sketch = kind->merge(sketch, mr_call_state(fcinfo, 1), context);
	if (sketch == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(sketch);
}

Datum
mr_sketch_write(FunctionCallInfo fcinfo, const MrSketchKind *kind)
{
	(void) mr_call_context(fcinfo);
	PG_RETURN_BYTEA_P(kind->write(mr_call_state(fcinfo, 0)));
}

Datum
mr_sketch_read(FunctionCallInfo fcinfo, const MrSketchKind *kind)
{
	(void) mr_call_context(fcinfo);
	PG_RETURN_POINTER(kind->read(PG_GETARG_BYTEA_PP(0)));
}

Datum
mr_sketch_union(FunctionCallInfo fcinfo, const MrSketchKind *kind)
{
	void	   *sketch = kind->read(PG_GETARG_BYTEA_PP(0));

	sketch = kind->merge(sketch, kind->read(PG_GETARG_BYTEA_PP(1)), CurrentMemoryContext);
	PG_RETURN_BYTEA_P(kind->write(sketch));
}

Datum
mr_sketch_add(FunctionCallInfo fcinfo, const MrSketchKind *kind)
{
	const MrValueType *type = mr_hashed_argument(fcinfo, 1);
	void	   *sketch;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	sketch = kind->read(PG_GETARG_BYTEA_PP(0));
	if (!PG_ARGISNULL(1))
		kind->add_hash(sketch, mr_value_hash(type, PG_GET_COLLATION(), PG_GETARG_DATUM(1)));
	PG_RETURN_BYTEA_P(kind->write(sketch));
}

/* ---------- bytes ---------- */

void
mr_sketch_begin(StringInfo out, char type)
{
	pq_begintypsend(out);
	pq_sendbyte(out, type);
	pq_sendbyte(out, VERSION);
}

void
mr_sketch_open(StringInfo in, const bytea *bytes, char type)
{
	mr_open_bytes(in, bytes);
	if (pq_getmsgbyte(in) != type)
		mr_bad_state("it is of another kind");
	if (pq_getmsgbyte(in) != VERSION)
		mr_bad_state("it was written by another version of the extension");
}

bytea *
mr_sketch_end(StringInfo out)
{
	return pq_endtypsend(out);
}

void
mr_write_number(StringInfo out, uint64 number)
{
	while (number >= 0x80)
	{
		pq_sendbyte(out, (number & 0x7f) | 0x80);
		number >>= 7;
	}
	pq_sendbyte(out, number);
}

uint64
mr_read_number(StringInfo in)
{
	uint64		number = 0;

	for (int shift = 0; shift < 64; shift += 7)
	{
		int			byte = pq_getmsgbyte(in);

		number |= (uint64) (byte & 0x7f) << shift;
		if ((byte & 0x80) == 0)
			return number;
	}
	mr_bad_state("a number is too long");
}

const MrValueType *
mr_hashed_argument(FunctionCallInfo fcinfo, int arg)
{
	const MrRowType *row = fcinfo->flinfo->fn_extra;
	Oid			type;

	if (row != NULL)
		return &row->columns[0];
	type = mr_argument_type(fcinfo, arg);
	row = mr_row_type(fcinfo->flinfo, 1, &type);
	mr_value_check_hashed(&row->columns[0]);
	return &row->columns[0];
}
