/*
 * datetime.c
 *		Dates and times in ISO 8601, without the server's general parser.
 *
 * That parser takes half a microsecond, and almost all that comes in JSON looks one way.
 * Whatever looks different in the least is left to it: leap seconds, 24:00, odd zones, years
 * that do not have four digits.
 */
#include "postgres.h"

#include "format/datetime.h"

#include "pgtime.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

typedef struct Parts
{
	struct pg_tm tm;
	fsec_t		fsec;
	bool		has_zone;
	int			zone;			/* seconds west of Greenwich, as the server
								 * counts */
} Parts;

/* n digits; -1 when there are not */
static inline int
take_digits(const char **p, const char *end, int n)
{
	int			result = 0;

	if (end - *p < n)
		return -1;
	for (int i = 0; i < n; i++)
	{
		unsigned char digit = (unsigned char) (*p)[i] - '0';

		if (digit > 9)
			return -1;
		result = result * 10 + digit;
	}
	*p += n;
	return result;
}

static inline bool
take_char(const char **p, const char *end, char wanted)
{
	if (*p >= end || **p != wanted)
		return false;
	(*p)++;
	return true;
}

static bool
take_date(const char **p, const char *end, struct pg_tm *tm)
{
	tm->tm_year = take_digits(p, end, 4);
	if (tm->tm_year < 1 || !take_char(p, end, '-'))
		return false;
	tm->tm_mon = take_digits(p, end, 2);
	if (tm->tm_mon < 1 || tm->tm_mon > 12 || !take_char(p, end, '-'))
		return false;
	tm->tm_mday = take_digits(p, end, 2);
	return tm->tm_mday >= 1 &&
		tm->tm_mday <= day_tab[isleap(tm->tm_year)][tm->tm_mon - 1];
}

/* one to six digits as microseconds */
static bool
take_fraction(const char **p, const char *end, fsec_t *fsec)
{
	int			digits = 0;

	*fsec = 0;
	for (; *p < end && **p >= '0' && **p <= '9'; (*p)++, digits++)
	{
		if (digits == 6)
			return false;
		*fsec = *fsec * 10 + (**p - '0');
	}
	for (int i = digits; i < 6; i++)
		*fsec *= 10;
	return digits > 0;
}

static bool
take_time(const char **p, const char *end, Parts *parts)
{
	struct pg_tm *tm = &parts->tm;

	tm->tm_hour = take_digits(p, end, 2);
	if (tm->tm_hour < 0 || tm->tm_hour > 23 || !take_char(p, end, ':'))
		return false;
	tm->tm_min = take_digits(p, end, 2);
	if (tm->tm_min < 0 || tm->tm_min > 59)
		return false;
	tm->tm_sec = 0;
	parts->fsec = 0;
	if (!take_char(p, end, ':'))
		return true;
	tm->tm_sec = take_digits(p, end, 2);
	if (tm->tm_sec < 0 || tm->tm_sec > 59)
		return false;
	return !take_char(p, end, '.') || take_fraction(p, end, &parts->fsec);
}

static bool
take_zone(const char **p, const char *end, Parts *parts)
{
	bool		east;
	int			hours;
	int			minutes = 0;

	parts->has_zone = true;
	parts->zone = 0;
	if (take_char(p, end, 'Z'))
		return true;
	east = take_char(p, end, '+');
	if (!east && !take_char(p, end, '-'))
		return false;
	hours = take_digits(p, end, 2);
	if (*p < end)
	{
		take_char(p, end, ':');
		minutes = take_digits(p, end, 2);
	}
	if (hours < 0 || hours > MAX_TZDISP_HOUR || minutes < 0 || minutes > 59)
		return false;
	parts->zone = (hours * MINS_PER_HOUR + minutes) * SECS_PER_MINUTE;
	if (east)
		parts->zone = -parts->zone;
	return true;
}

static bool
parse(const char *str, size_t len, Parts *parts)
{
	const char *p = str;
	const char *end = str + len;

	if (!take_date(&p, end, &parts->tm))
		return false;
	parts->tm.tm_isdst = -1;
	parts->has_zone = false;
	if (p == end)
	{
		parts->tm.tm_hour = parts->tm.tm_min = parts->tm.tm_sec = 0;
		parts->fsec = 0;
		return true;
	}
	if (!take_char(&p, end, 'T') && !take_char(&p, end, ' '))
		return false;
	if (!take_time(&p, end, parts))
		return false;
	if (p < end && !take_zone(&p, end, parts))
		return false;
	return p == end;
}

/* microseconds since 2000-01-01; four-digit years cannot overflow */
static Timestamp
as_timestamp(const Parts *parts)
{
	const struct pg_tm *tm = &parts->tm;
	int64		days = date2j(tm->tm_year, tm->tm_mon, tm->tm_mday) - POSTGRES_EPOCH_JDATE;
	int64		seconds = (tm->tm_hour * MINS_PER_HOUR + tm->tm_min) * SECS_PER_MINUTE + tm->tm_sec;

	return days * USECS_PER_DAY + seconds * USECS_PER_SEC + parts->fsec;
}

bool
mr_datetime_parse_date(const char *str, size_t len, Datum *value)
{
	struct pg_tm tm;
	const char *p = str;

	if (!take_date(&p, str + len, &tm) || p != str + len)
		return false;
	*value = DateADTGetDatum(date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE);
	return true;
}

/* a zone that is given does not matter here, as in the server */
bool
mr_datetime_parse_timestamp(const char *str, size_t len, int32 typmod, Datum *value)
{
	Parts		parts;
	Timestamp	result;

	if (!parse(str, len, &parts))
		return false;
	result = as_timestamp(&parts);
	mr_adjust_timestamp(&result, typmod);
	*value = TimestampGetDatum(result);
	return true;
}

bool
mr_datetime_parse_timestamptz(const char *str, size_t len, int32 typmod, Datum *value)
{
	Parts		parts;
	TimestampTz result;

	if (!parse(str, len, &parts))
		return false;
	if (!parts.has_zone)
		parts.zone = DetermineTimeZoneOffset(&parts.tm, session_timezone);
	result = as_timestamp(&parts) + parts.zone * USECS_PER_SEC;
	mr_adjust_timestamp(&result, typmod);
	*value = TimestampTzGetDatum(result);
	return true;
}
