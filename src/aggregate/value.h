/*
 * aggregate/value.h
 *		Values of any type inside aggregates' states: copied, compared, written and read.
 */
#ifndef MR_AGGREGATE_VALUE_H
#define MR_AGGREGATE_VALUE_H

#include "millrace.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/typcache.h"

/* how a value is written; see value.c */
typedef enum MrEncoding
{
	MR_ENCODE_INTEGER,
	MR_ENCODE_BYTES,
	MR_ENCODE_ENUM,
	MR_ENCODE_BINARY,
	MR_ENCODE_TEXT
} MrEncoding;

/* a type, with what it takes to handle its values */
typedef struct MrValueType
{
	TypeCacheEntry *entry;		/* the server's, permanent */
	MrEncoding	encoding;
	bool		ordered;		/* has a default btree comparison */
	bool		hashed;			/* has a default hash function and equality */
	bool		exact;			/* equal values have equal bytes */
	FmgrInfo	write;			/* MR_ENCODE_BINARY and TEXT */
	FmgrInfo	read;
	Oid			ioparam;
} MrValueType;

/* columns of what a state is made of */
#define MR_ROW_COLUMNS	3

typedef struct MrRowType
{
	int			ncolumns;
	MrValueType columns[MR_ROW_COLUMNS];
} MrRowType;

/*
 * The row type of some column types, remembered by the function call at hand (in
 * fn_extra, which nothing else may use) and living as long as it.
 */
extern const MrRowType *mr_row_type(FmgrInfo *flinfo, int ncolumns, const Oid *types);

/* ERROR when values of the type have no order of its own */
extern void mr_value_check_ordered(const MrValueType *type);

/* type of a call's argument; ERROR when it cannot be known */
extern Oid	mr_argument_type(FunctionCallInfo fcinfo, int arg);

/* flat and not compressed, in the current context, which may be the value itself */
extern Datum mr_value_flat(const MrValueType *type, Datum value);

/* a copy of a flat value, in context; size: what it takes beside the Datum */
extern Datum mr_value_copy(const MrValueType *type, Datum value, MemoryContext context, Size *size);

/* what such a copy takes beside the Datum */
extern Size mr_value_size(const MrValueType *type, Datum value);

/* give a copy's memory back */
extern void mr_value_free(const MrValueType *type, Datum value);

/* order of the type's own, or of bytes where it has none */
extern int	mr_value_compare(const MrValueType *type, Oid collation, Datum a, Datum b);

/* any total order in which only values with the same bytes are equal */
extern int	mr_value_compare_bytes(const MrValueType *type, Datum a, Datum b);

/* ERROR when values of the type cannot be hashed and found again */
extern void mr_value_check_hashed(const MrValueType *type);

/* equal values have the same; all bits of it are good */
extern uint64 mr_value_hash(const MrValueType *type, Oid collation, Datum value);

/* the type's own equality */
extern bool mr_value_equal(const MrValueType *type, Oid collation, Datum a, Datum b);

/* append a value, and read it back, into the current context; scratch: for one value's bytes */
extern void mr_value_write(const MrValueType *type, StringInfo out, Datum value);
extern Datum mr_value_read(const MrValueType *type, StringInfo in, StringInfo scratch);

/*
 * Append a type, and read it back.  A user-defined one is told by its name as well, as its OID
 * does not outlive a dump; what was read need not be the type that the caller expects.
 */
extern void mr_type_write(StringInfo out, Oid type);
extern Oid	mr_type_read(StringInfo in);

/* a bytea's contents as a message to read from, nothing copied */
extern void mr_open_bytes(StringInfo in, const bytea *bytes);

/* an ERROR that says that serialized bytes are not what they ought to be */
extern void mr_bad_state(const char *what) pg_attribute_noreturn();

#endif							/* MR_AGGREGATE_VALUE_H */
