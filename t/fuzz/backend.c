/*
 * t/fuzz/backend.c
 *		What the decoders need of a server, for a program without one.
 *
 * Memory: each allocation is malloc's, so that a sanitizer sees its bounds, and all are
 * freed by backend_free_all(), as a batch's context would.  What lives longer, such as a
 * decoder, is allocated while backend_keep is set.
 *
 * Encoding: UTF-8; string and encoding functions are the server's own, from libpgcommon.
 *
 * What only a server can do (input functions, numeric's arithmetic, time zones) is not done:
 * these functions return a value of the right type.  What is fuzzed is all that comes
 * before them.  An error that is thrown is a finding: ereport() aborts.
 */
#include "postgres.h"

#include <ctype.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "format/json_encode.h"
#include "format/json_server.h"
#include "mb/pg_wchar.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "backend.h"

/* ---------- memory ---------- */

typedef struct Chunk
{
	struct Chunk *next;
	struct Chunk **link;		/* what points to this one */
	Size		size;
	Size		kept;			/* 0: backend_free_all() frees it.  A Size, to keep
								 * the user's part aligned */
} Chunk;

bool		backend_keep = false;

MemoryContext CurrentMemoryContext = NULL;

static Chunk *chunks = NULL;
static Chunk *kept_chunks = NULL;

static void
link_chunk(Chunk *chunk)
{
	Chunk	  **list = backend_keep ? &kept_chunks : &chunks;

	chunk->kept = backend_keep;
	chunk->next = *list;
	chunk->link = list;
	if (*list)
		(*list)->link = &chunk->next;
	*list = chunk;
}

static void
unlink_chunk(Chunk *chunk)
{
	*chunk->link = chunk->next;
	if (chunk->next)
		chunk->next->link = chunk->link;
}

void *
palloc(Size size)
{
	Chunk	   *chunk;

	if (!AllocSizeIsValid(size))
		abort();
	chunk = malloc(sizeof(Chunk) + size);
	if (chunk == NULL)
		abort();
	chunk->size = size;
	link_chunk(chunk);
	return chunk + 1;
}

void *
palloc0(Size size)
{
	return memset(palloc(size), 0, size);
}

void *
palloc_extended(Size size, int flags)
{
	return flags & MCXT_ALLOC_ZERO ? palloc0(size) : palloc(size);
}

void
pfree(void *pointer)
{
	unlink_chunk((Chunk *) pointer - 1);
	free((Chunk *) pointer - 1);
}

void *
repalloc(void *pointer, Size size)
{
	Chunk	   *old = (Chunk *) pointer - 1;
	bool		keep = backend_keep;
	void	   *result;

	backend_keep = old->kept;
	result = palloc(size);
	backend_keep = keep;
	memcpy(result, pointer, Min(size, old->size));
	pfree(pointer);
	return result;
}

char *
pnstrdup(const char *in, Size len)
{
	char	   *out = palloc(strnlen(in, len) + 1);

	len = strnlen(in, len);
	memcpy(out, in, len);
	out[len] = '\0';
	return out;
}

char *
pstrdup(const char *in)
{
	return pnstrdup(in, strlen(in));
}

/* what is allocated in a named context lives as long as its owner */
void *
MemoryContextAlloc(MemoryContext context, Size size)
{
	bool		keep = backend_keep;
	void	   *result;

	backend_keep = true;
	result = palloc(size);
	backend_keep = keep;
	return result;
}

MemoryContext
AllocSetContextCreateInternal(MemoryContext parent, const char *name, Size minContextSize,
							  Size initBlockSize, Size maxBlockSize)
{
	return NULL;
}

void
MemoryContextReset(MemoryContext context)
{
}

void
MemoryContextRegisterResetCallback(MemoryContext context, MemoryContextCallback *cb)
{
}

void
backend_free_all(void)
{
	while (chunks)
		pfree(chunks + 1);
}

/* ---------- errors ---------- */

bool
errstart(int elevel, const char *domain)
{
	return true;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return true;
}

int
errcode(int sqlerrcode)
{
	return 0;
}

int
errmsg(const char *fmt,...)
{
	fprintf(stderr, "thrown: %s\n", fmt);
	return 0;
}

int
errmsg_internal(const char *fmt,...)
{
	return errmsg("%s", fmt);
}

int
errdetail(const char *fmt,...)
{
	return 0;
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	abort();
}

/* ---------- encoding ---------- */

int
GetDatabaseEncoding(void)
{
	return PG_UTF8;
}

int
pg_mblen(const char *mbstr)
{
	return pg_utf_mblen((const unsigned char *) mbstr);
}

int
pg_mbstrlen_with_len(const char *mbstr, int limit)
{
	int			n = 0;

	for (int at = 0; at < limit; at += pg_mblen(mbstr + at))
		n++;
	return n;
}

static int
clip(const char *mbstr, int len, int max_bytes, int max_characters)
{
	int			at = 0;

	for (int n = 0; n < max_characters && at < len; n++)
	{
		int			next = at + pg_mblen(mbstr + at);

		if (next > Min(len, max_bytes))
			break;
		at = next;
	}
	return at;
}

int
pg_mbcliplen(const char *mbstr, int len, int limit)
{
	return clip(mbstr, len, limit, len);
}

int
pg_mbcharcliplen(const char *mbstr, int len, int limit)
{
	return clip(mbstr, len, len, limit);
}

char *
pg_any_to_server(const char *s, int len, int encoding)
{
	abort();
}

/* ---------- types ---------- */

Oid
getBaseTypeAndTypmod(Oid typid, int32 *typmod)
{
	return typid;
}

void
get_typlenbyval(Oid typid, int16 *typlen, bool *typbyval)
{
	*typlen = -1;
	*typbyval = false;
}

void
domain_check(Datum value, bool isnull, Oid domainType, void **extra, MemoryContext mcxt)
{
	abort();
}

Datum
datumCopy(Datum value, bool typByVal, int typLen)
{
	return value;
}

text *
cstring_to_text_with_len(const char *s, int len)
{
	text	   *result = palloc(VARHDRSZ + len);

	SET_VARSIZE(result, VARHDRSZ + len);
	memcpy(VARDATA(result), s, len);
	return result;
}

struct varlena *
pg_detoast_datum(struct varlena *datum)
{
	return datum;
}

/* whatever this says, the caller only passes it on */
bool
parse_bool_with_len(const char *value, size_t len, bool *result)
{
	*result = len > 0 && (value[0] == 't' || value[len - 1] == 't');
	return len < 6;
}

/* ---------- the server's machinery: a text, as its argument's copy ---------- */

MrServerType *
mr_server_type_create(const MrColumn *column, Oid type, int32 typmod)
{
	return palloc0(1);
}

bool
mr_server_type_is_nested(const MrServerType *server)
{
	return false;
}

bool
mr_server_input(MrServerType *server, const char *text, size_t len, Datum *value,
				MrReject *reject)
{
	char	   *copy = palloc(len + 1);

	memcpy(copy, text, len);
	copy[len] = '\0';
	*value = PointerGetDatum(cstring_to_text_with_len(copy, strlen(copy)));
	return true;
}

Datum
mr_server_populate(MrServerType *server, const char *json, size_t len, bool *isnull)
{
	abort();
}

MrEncoder *
mr_json_create_encoder(const MrColumn *const *columns, int ncolumns)
{
	abort();
}

void
mr_json_encode(MrEncoder *encoder, const Datum *values, const bool *isnull, StringInfo out)
{
	abort();
}

/* ---------- numbers and times ---------- */

static Numeric
some_numeric(void)
{
	return (Numeric) cstring_to_text_with_len("\0\0", 2);
}

bool
numeric_is_nan(Numeric num)
{
	return false;
}

bool
numeric_is_inf(Numeric num)
{
	return false;
}

Numeric
int64_div_fast_to_numeric(int64 val1, int log10val2)
{
	if (log10val2 < 0)
		abort();
	return some_numeric();
}

/* the numeric functions are only called through these */
Datum
numeric_in(PG_FUNCTION_ARGS)
{
	(void) strlen(PG_GETARG_CSTRING(0));
	return NumericGetDatum(some_numeric());
}

Datum
numeric_round(PG_FUNCTION_ARGS)
{
	return NumericGetDatum(some_numeric());
}

Datum
numeric_abs(PG_FUNCTION_ARGS)
{
	return NumericGetDatum(some_numeric());
}

Datum
numeric_lt(PG_FUNCTION_ARGS)
{
	return BoolGetDatum(true);
}

static Datum
call(PGFunction func, Datum *args, int nargs)
{
	LOCAL_FCINFO(fcinfo, 3);

	InitFunctionCallInfoData(*fcinfo, NULL, nargs, InvalidOid, NULL, NULL);
	for (int i = 0; i < nargs; i++)
	{
		fcinfo->args[i].value = args[i];
		fcinfo->args[i].isnull = false;
	}
	return func(fcinfo);
}

Datum
DirectFunctionCall1Coll(PGFunction func, Oid collation, Datum arg1)
{
	return call(func, &arg1, 1);
}

Datum
DirectFunctionCall2Coll(PGFunction func, Oid collation, Datum arg1, Datum arg2)
{
	Datum		args[] = {arg1, arg2};

	return call(func, args, 2);
}

Datum
DirectFunctionCall3Coll(PGFunction func, Oid collation, Datum arg1, Datum arg2, Datum arg3)
{
	Datum		args[] = {arg1, arg2, arg3};

	return call(func, args, 3);
}

pg_tz	   *session_timezone = NULL;

const int	day_tab[2][13] = {
	{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 0},
	{31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 0}
};

/* any day number will do that is no wider than the real one */
int
date2j(int y, int m, int d)
{
	return y * 366 + m * 31 + d;
}

int
DetermineTimeZoneOffset(struct pg_tm *tm, pg_tz *tzp)
{
	return 3600;
}

void
AdjustTimestampForTypmod(Timestamp *time, int32 typmod)
{
}
