/*
 * scalar.c
 *		Direct ways from text to the Datum of a common type, without input functions.
 *
 * An input function of PostgreSQL 15 throws, which costs a subtransaction, and it needs a
 * copy of its argument.  The functions here accept and refuse just what the input function
 * does, in its words, and report by their result.  Where the rules differ between
 * versions (hexadecimal integers and the like are new in 16), the input function is asked:
 * it reports softly there.
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "format/datetime.h"
#include "format/json_parser.h"
#include "format/reject.h"
#include "format/scalar.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

/* an int64 holds any number of this many digits, with one digit to spare */
#define SAFE_DIGITS		17

/* limits of numeric's storage format */
#define NUMERIC_FORMAT_MAX_DIGITS	131072	/* before the decimal point */
#define NUMERIC_FORMAT_MAX_SCALE	16383

static MrOutcome
refuse_syntax(MrReject *reject, const char *type, const char *str, size_t len)
{
	mr_reject(reject, ERRCODE_INVALID_TEXT_REPRESENTATION,
			  "invalid input syntax for type %s: \"%s\"", type, mr_excerpt(str, len));
	return MR_REJECTED;
}

static void
trim(const char **str, size_t *len)
{
	while (*len > 0 && isspace((unsigned char) **str))
	{
		(*str)++;
		(*len)--;
	}
	while (*len > 0 && isspace((unsigned char) (*str)[*len - 1]))
		(*len)--;
}

/* max: largest value of the type; the smallest is one more than that below zero */
static inline MrOutcome
convert_integer(const char *str, size_t len, int64 max, const char *type,
				int64 *result, MrReject *reject)
{
	const char *p = str;
	const char *end = str + len;
	bool		negative;
	uint64		limit;
	uint64		n = 0;

	while (p < end && isspace((unsigned char) *p))
		p++;
	negative = p < end && *p == '-';
	if (p < end && (*p == '-' || *p == '+'))
		p++;
	if (p >= end || !isdigit((unsigned char) *p))
		goto syntax;

	limit = (uint64) max + negative;
	while (p < end && isdigit((unsigned char) *p))
	{
		uint64		digit = *p++ - '0';

		if (unlikely(n > (limit - digit) / 10))
			goto out_of_range;
		n = n * 10 + digit;
	}
	while (p < end && isspace((unsigned char) *p))
		p++;
	if (p != end)
		goto syntax;

	*result = negative ? (int64) (0 - n) : (int64) n;
	return MR_CONVERTED;

out_of_range:
	mr_reject(reject, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
			  "value \"%s\" is out of range for type %s", mr_excerpt(str, len), type);
	return MR_REJECTED;

syntax:
	if (MR_INTEGERS_HAVE_PREFIXES)
		return MR_ASK_SERVER;
	return refuse_syntax(reject, type, str, len);
}

static MrOutcome
convert_int2(const char *str, size_t len, int32 typmod, Datum *value, MrReject *reject)
{
	int64		n;
	MrOutcome	outcome = convert_integer(str, len, PG_INT16_MAX, "smallint", &n, reject);

	if (outcome == MR_CONVERTED)
		*value = Int16GetDatum((int16) n);
	return outcome;
}

static MrOutcome
convert_int4(const char *str, size_t len, int32 typmod, Datum *value, MrReject *reject)
{
	int64		n;
	MrOutcome	outcome = convert_integer(str, len, PG_INT32_MAX, "integer", &n, reject);

	if (outcome == MR_CONVERTED)
		*value = Int32GetDatum((int32) n);
	return outcome;
}

static MrOutcome
convert_int8(const char *str, size_t len, int32 typmod, Datum *value, MrReject *reject)
{
	int64		n;
	MrOutcome	outcome = convert_integer(str, len, PG_INT64_MAX, "bigint", &n, reject);

	if (outcome == MR_CONVERTED)
		*value = Int64GetDatum(n);
	return outcome;
}

/* strtod or strtof over all of a copy, as the server does it; errno tells of the range */
static MrOutcome
convert_float_slowly(const char *str, size_t len, bool is_double, double *result,
					 MrReject *reject)
{
	const char *type = is_double ? "double precision" : "real";
	char		buffer[64];
	char	   *copy = len < sizeof(buffer) ? buffer : palloc(len + 1);
	const char *start = str;
	size_t		start_len = len;
	char	   *end;
	int			error;
	bool		complete;

	trim(&start, &start_len);
	memcpy(copy, start, start_len);
	copy[start_len] = '\0';
	errno = 0;
	*result = is_double ? strtod(copy, &end) : (double) strtof(copy, &end);
	error = errno;
	complete = start_len > 0 && end == copy + start_len;
	if (copy != buffer)
		pfree(copy);

	if (error == ERANGE && (*result == 0 || isinf(*result)))
	{
		mr_reject(reject, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
				  "\"%s\" is out of range for type %s", mr_excerpt(str, len), type);
		return MR_REJECTED;
	}
	return complete ? MR_CONVERTED : refuse_syntax(reject, type, str, len);
}

static MrOutcome
convert_float4(const char *str, size_t len, int32 typmod, Datum *value, MrReject *reject)
{
	float		f;
	double		d;

	if (!mr_json_parse_float(str, len, &f))
	{
		if (convert_float_slowly(str, len, false, &d, reject) == MR_REJECTED)
			return MR_REJECTED;
		f = (float) d;
	}
	*value = Float4GetDatum(f);
	return MR_CONVERTED;
}

static MrOutcome
convert_float8(const char *str, size_t len, int32 typmod, Datum *value, MrReject *reject)
{
	double		d;

	if (!mr_json_parse_double(str, len, &d) &&
		convert_float_slowly(str, len, true, &d, reject) == MR_REJECTED)
		return MR_REJECTED;
	*value = Float8GetDatum(d);
	return MR_CONVERTED;
}

static MrOutcome
convert_bool(const char *str, size_t len, int32 typmod, Datum *value, MrReject *reject)
{
	const char *start = str;
	size_t		start_len = len;
	bool		result;

	trim(&start, &start_len);
	if (start_len == 0 || !parse_bool_with_len(start, start_len, &result))
		return refuse_syntax(reject, "boolean", str, len);
	*value = BoolGetDatum(result);
	return MR_CONVERTED;
}

static MrOutcome
convert_text(const char *str, size_t len, int32 typmod, Datum *value, MrReject *reject)
{
	*value = PointerGetDatum(cstring_to_text_with_len(str, len));
	return MR_CONVERTED;
}

/*
 * Bytes of text that fit into max characters; what is cut off may only be blanks.
 */
static bool
fit_characters(size_t *len, const char *str, int max, const char *type, MrReject *reject)
{
	size_t		kept;

	if (*len <= max)
		return true;
	kept = pg_mbcharcliplen(str, *len, max);
	for (size_t i = kept; i < *len; i++)
		if (str[i] != ' ')
			return mr_reject(reject, ERRCODE_STRING_DATA_RIGHT_TRUNCATION,
							 "value too long for type %s(%d): \"%s\"", type, max,
							 mr_excerpt(str, *len));
	*len = kept;
	return true;
}

static MrOutcome
convert_varchar(const char *str, size_t len, int32 typmod, Datum *value, MrReject *reject)
{
	if (typmod >= (int32) VARHDRSZ &&
		!fit_characters(&len, str, typmod - VARHDRSZ, "character varying", reject))
		return MR_REJECTED;
	return convert_text(str, len, typmod, value, reject);
}

static MrOutcome
convert_bpchar(const char *str, size_t len, int32 typmod, Datum *value, MrReject *reject)
{
	int			max = typmod - VARHDRSZ;
	int			missing;
	struct varlena *result;

	if (typmod < (int32) VARHDRSZ)
		return convert_text(str, len, typmod, value, reject);
	if (!fit_characters(&len, str, max, "character", reject))
		return MR_REJECTED;
	missing = max - pg_mbstrlen_with_len(str, len);
	result = palloc(VARHDRSZ + len + missing);
	SET_VARSIZE(result, VARHDRSZ + len + missing);
	memcpy(VARDATA(result), str, len);
	memset(VARDATA(result) + len, ' ', missing);
	*value = PointerGetDatum(result);
	return MR_CONVERTED;
}

static inline int
hex_digit(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* braces around it and a hyphen after any second byte are optional */
static bool
parse_uuid(const char *p, const char *end, unsigned char *bytes)
{
	bool		braces = p < end && *p == '{';

	if (braces)
		p++;
	for (int i = 0; i < UUID_LEN; i++)
	{
		int			high = end - p >= 2 ? hex_digit(p[0]) : -1;
		int			low = high >= 0 ? hex_digit(p[1]) : -1;

		if (low < 0)
			return false;
		bytes[i] = high << 4 | low;
		p += 2;
		if (i % 2 == 1 && i < UUID_LEN - 1 && p < end && *p == '-')
			p++;
	}
	if (braces && (p >= end || *p++ != '}'))
		return false;
	return p == end;
}

static MrOutcome
convert_uuid(const char *str, size_t len, int32 typmod, Datum *value, MrReject *reject)
{
	pg_uuid_t  *uuid = palloc(sizeof(pg_uuid_t));

	if (!parse_uuid(str, str + len, uuid->data))
		return refuse_syntax(reject, "uuid", str, len);
	*value = UUIDPGetDatum(uuid);
	return MR_CONVERTED;
}

/* A number's text, taken apart. */
typedef struct Decimal
{
	bool		negative;
	bool		has_exponent;
	bool		exponent_overflows;
	int64		exponent;
	int64		digits;			/* in all */
	int64		fraction;		/* of them behind the point */
	int64		leading_zeros;	/* before the first other digit; digits when
								 * all are zero */
	int64		coefficient;	/* all digits as an integer, when few enough */
} Decimal;

/* an optional sign, digits, and a point somewhere in or around them */
static const char *
parse_mantissa(const char *p, const char *end, Decimal *d)
{
	bool		point = false;

	if (p < end && (*p == '-' || *p == '+'))
		d->negative = *p++ == '-';
	for (; p < end; p++)
	{
		if (*p == '.' && !point)
		{
			point = true;
			continue;
		}
		if (!isdigit((unsigned char) *p))
			break;
		d->digits++;
		d->fraction += point;
		if (*p == '0' && d->leading_zeros == d->digits - 1)
			d->leading_zeros++;
		if (d->digits <= SAFE_DIGITS)
			d->coefficient = d->coefficient * 10 + (*p - '0');
	}
	return p;
}

/* false when it is no plain decimal number */
static bool
parse_decimal(const char *p, const char *end, Decimal *d)
{
	bool		negative;

	memset(d, 0, sizeof(*d));
	p = parse_mantissa(p, end, d);
	if (d->digits == 0)
		return false;
	if (p == end)
		return true;
	if (*p != 'e' && *p != 'E')
		return false;
	d->has_exponent = true;
	p++;
	negative = p < end && *p == '-';
	if (p < end && (*p == '-' || *p == '+'))
		p++;
	if (p >= end)
		return false;
	for (; p < end && isdigit((unsigned char) *p); p++)
	{
		d->exponent = Min(d->exponent * 10 + (*p - '0'), PG_INT32_MAX);
		d->exponent_overflows = d->exponent >= PG_INT32_MAX / 2;
	}
	if (negative)
		d->exponent = -d->exponent;
	return p == end;
}

static inline bool
typmod_is_set(int32 typmod)
{
	return typmod >= (int32) VARHDRSZ;
}

static inline int
typmod_precision(int32 typmod)
{
	return ((typmod - VARHDRSZ) >> 16) & 0xffff;
}

static inline int
typmod_scale(int32 typmod)
{
	return (((typmod - VARHDRSZ) & 0x7ff) ^ 1024) - 1024;
}

static MrOutcome
refuse_numeric(MrReject *reject, int32 typmod, const char *str, size_t len)
{
	if (typmod_is_set(typmod))
		mr_reject(reject, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
				  "numeric field overflow: \"%s\" does not fit precision %d, scale %d",
				  mr_excerpt(str, len), typmod_precision(typmod), typmod_scale(typmod));
	else
		mr_reject(reject, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
				  "value overflows numeric format: \"%s\"", mr_excerpt(str, len));
	return MR_REJECTED;
}

static int64
power_of_ten(int n)
{
	int64		result = 1;

	while (n-- > 0)
		result *= 10;
	return result;
}

/*
 * The numeric for few digits without an exponent, in integers all the way.  False when this
 * is not such a case; *overflow: it is, and does not fit the typmod.
 */
static bool
small_numeric(const Decimal *d, int32 typmod, Datum *value, bool *overflow)
{
	int64		n = d->coefficient;
	int			scale = (int) d->fraction;

	*overflow = false;
	if (d->has_exponent || d->digits > SAFE_DIGITS)
		return false;
	if (typmod_is_set(typmod))
	{
		int			precision = typmod_precision(typmod);
		int			wanted = typmod_scale(typmod);

		if (wanted < 0 || d->digits - scale + wanted > SAFE_DIGITS)
			return false;
		if (wanted < scale)
		{
			int64		divisor = power_of_ten(scale - wanted);

			n = (n + divisor / 2) / divisor;
		}
		else
			n *= power_of_ten(wanted - scale);
		scale = wanted;
		*overflow = precision <= SAFE_DIGITS && n >= power_of_ten(precision);
	}
	*value = NumericGetDatum(int64_div_fast_to_numeric(d->negative ? -n : n, scale));
	return true;
}

/* is it less than half of the last digit that the typmod keeps? */
static bool
rounds_to_zero(const Decimal *d, int32 typmod)
{
	return typmod_is_set(typmod) && !d->exponent_overflows &&
		(d->leading_zeros == d->digits ||
		 d->digits - d->fraction - d->leading_zeros + d->exponent < -typmod_scale(typmod));
}

/* can numeric's storage format hold it? */
static bool
numeric_format_holds(const Decimal *d)
{
	if (d->exponent_overflows || d->fraction - d->exponent > NUMERIC_FORMAT_MAX_SCALE)
		return false;
	if (d->leading_zeros == d->digits)
		return true;
	return d->digits - d->fraction - d->leading_zeros + d->exponent <= NUMERIC_FORMAT_MAX_DIGITS;
}

/* round to the typmod's scale, and check its precision, which numeric() would throw for */
static bool
apply_typmod(Numeric n, int32 typmod, Numeric *result)
{
	int			scale = typmod_scale(typmod);
	char		limit[32];
	Datum		bound;
	Datum		magnitude;

	*result = n;
	if (!typmod_is_set(typmod) || numeric_is_nan(n))
		return true;
	if (numeric_is_inf(n))
		return false;
	*result = DatumGetNumeric(DirectFunctionCall2(numeric_round, NumericGetDatum(n),
												  Int32GetDatum(scale)));
	snprintf(limit, sizeof(limit), "1e%d", typmod_precision(typmod) - scale);
	bound = DirectFunctionCall3(numeric_in, CStringGetDatum(limit),
								ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	magnitude = DirectFunctionCall1(numeric_abs, NumericGetDatum(*result));
	return DatumGetBool(DirectFunctionCall2(numeric_lt, magnitude, bound));
}

/* NaN and the infinities, in any case */
static bool
is_special_number(const char *str, size_t len)
{
	static const char *const words[] = {
		"NaN", "Infinity", "+Infinity", "-Infinity", "inf", "+inf", "-inf"
	};

	for (int i = 0; i < lengthof(words); i++)
		if (len == strlen(words[i]) && pg_strncasecmp(str, words[i], len) == 0)
			return true;
	return false;
}

static MrOutcome
convert_numeric(const char *str, size_t len, int32 typmod, Datum *value, MrReject *reject)
{
	const char *start = str;
	size_t		start_len = len;
	Decimal		d;
	bool		overflow;
	Numeric		n;

	trim(&start, &start_len);
	if (parse_decimal(start, start + start_len, &d))
	{
		if (small_numeric(&d, typmod, value, &overflow))
			return overflow ? refuse_numeric(reject, typmod, str, len) : MR_CONVERTED;
		if (rounds_to_zero(&d, typmod))
		{
			n = int64_div_fast_to_numeric(0, Max(typmod_scale(typmod), 0));
			*value = NumericGetDatum(n);
			return MR_CONVERTED;
		}
		if (!numeric_format_holds(&d))
			return refuse_numeric(reject, -1, str, len);
	}
	else if (!is_special_number(start, start_len))
	{
		if (MR_INTEGERS_HAVE_PREFIXES)
			return MR_ASK_SERVER;
		return refuse_syntax(reject, "numeric", str, len);
	}

	/* what is left cannot make numeric_in throw */
	n = DatumGetNumeric(DirectFunctionCall3(numeric_in,
											CStringGetDatum(pnstrdup(start, start_len)),
											ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	if (!apply_typmod(n, typmod, &n))
		return refuse_numeric(reject, typmod, str, len);
	*value = NumericGetDatum(n);
	return MR_CONVERTED;
}

static MrOutcome
convert_date(const char *str, size_t len, int32 typmod, Datum *value, MrReject *reject)
{
	return mr_datetime_parse_date(str, len, value) ? MR_CONVERTED : MR_ASK_SERVER;
}

static MrOutcome
convert_timestamp(const char *str, size_t len, int32 typmod, Datum *value, MrReject *reject)
{
	return mr_datetime_parse_timestamp(str, len, typmod, value) ? MR_CONVERTED : MR_ASK_SERVER;
}

static MrOutcome
convert_timestamptz(const char *str, size_t len, int32 typmod, Datum *value, MrReject *reject)
{
	return mr_datetime_parse_timestamptz(str, len, typmod, value) ? MR_CONVERTED : MR_ASK_SERVER;
}

static const struct
{
	Oid			type;
	MrScalarConvert convert;
	bool		may_throw;
}			directs[] =

{
	{
		INT8OID, convert_int8, false
	},
	{
		INT4OID, convert_int4, false
	},
	{
		INT2OID, convert_int2, false
	},
	{
		FLOAT8OID, convert_float8, false
	},
	{
		FLOAT4OID, convert_float4, false
	},
	{
		BOOLOID, convert_bool, false
	},
	{
		TEXTOID, convert_text, false
	},
	{
		VARCHAROID, convert_varchar, false
	},
	{
		BPCHAROID, convert_bpchar, false
	},
	{
		NUMERICOID, convert_numeric, false
	},
	{
		UUIDOID, convert_uuid, false
	},
	{
		DATEOID, convert_date, true
	},
	{
		TIMESTAMPOID, convert_timestamp, true
	},
	{
		TIMESTAMPTZOID, convert_timestamptz, true
	}
};

MrScalarConvert
mr_scalar_find(Oid type, bool *may_throw)
{
	for (int i = 0; i < lengthof(directs); i++)
		if (directs[i].type == type)
		{
			*may_throw = directs[i].may_throw;
			return directs[i].convert;
		}
	*may_throw = true;
	return NULL;
}
