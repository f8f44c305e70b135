/*
 * format/format.h
 *		How a message's value becomes columns, and back: one table of functions per format.
 *
 * A format is pure: it knows bytes, columns and Datums, nothing of Kafka, streams,
 * transactions or views.  It registers itself in mr_formats[].
 */
#ifndef MR_FORMAT_H
#define MR_FORMAT_H

#include "millrace.h"

#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"

/* where a column's value comes from, when not from the message's value */
typedef enum MrMetadata
{
	MR_META_NONE,				/* a field of the value */
	MR_META_PARTITION,
	MR_META_OFFSET,
	MR_META_TIMESTAMP,
	MR_META_KEY,
	MR_META_HEADERS
} MrMetadata;

typedef struct MrColumn
{
	AttrNumber	attnum;			/* InvalidAttrNumber: dropped */
	char	   *name;
	Oid			type;
	int32		typmod;
	Oid			collation;
	MrMetadata	metadata;
	List	   *path;			/* of char *: names from the outermost object
								 * inwards */
	bool		by_name;		/* path is the column's name, for want of the
								 * option */
} MrColumn;

/*
 * Why a message cannot be used.  text names the column and shows the beginning of the
 * value; it lives in the context that was current.
 */
typedef struct MrReject
{
	int			sqlstate;
	char	   *text;
} MrReject;

typedef struct MrDecoder MrDecoder;
typedef struct MrEncoder MrEncoder;

typedef struct MrFormat
{
	const char *name;

	/*
	 * columns: those wanted, in the order in which decode fills its arrays;
	 * all have metadata == MR_META_NONE.  Lives in the current memory
	 * context.
	 */
	MrDecoder  *(*create_decoder) (const MrColumn *const *columns, int ncolumns);

	/*
	 * May an input function be called, so that decode can throw and needs a
	 * transaction with a snapshot?  False when all wanted columns have direct
	 * paths.
	 */
	bool		(*can_throw) (const MrDecoder *decoder);

	/*
	 * value is never NULL (tombstones do not come here).  Fills values and
	 * isnull, allocating in CurrentMemoryContext; false and *reject when the
	 * message cannot be used.  Throws only for what input functions throw
	 * when can_throw; the decoder stays usable after that.
	 */
	bool		(*decode) (MrDecoder *decoder, const char *value, size_t len,
						   Datum *values, bool *isnull, MrReject *reject);

	/* after a throw: the column it was thrown for, to name in the text */
	const MrColumn *(*current_column) (const MrDecoder *decoder);

	/* columns: those with MR_META_NONE that go into the value */
	MrEncoder  *(*create_encoder) (const MrColumn *const *columns, int ncolumns);
	void		(*encode) (MrEncoder *encoder, const Datum *values, const bool *isnull,
						   StringInfo out);
} MrFormat;

/* by name, NULL when there is none */
extern const MrFormat *mr_format_find(const char *name);

/* names of all, as List of char *, for hints */
extern List *mr_format_names(void);

extern const MrFormat mr_format_json;

#endif							/* MR_FORMAT_H */
