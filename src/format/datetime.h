/*
 * format/datetime.h
 *		Dates and times in ISO 8601, without the server's general parser.
 */
#ifndef MR_DATETIME_H
#define MR_DATETIME_H

#include "format/format.h"

/*
 * YYYY-MM-DD, then for the others T or a blank and hh:mm[:ss[.f]] with up to six digits of
 * fraction, then Z, ±hh, ±hh:mm, ±hhmm or nothing: the session's time zone.  False for
 * anything else, valid or not.
 */
extern bool mr_datetime_parse_date(const char *str, size_t len, Datum *value);
extern bool mr_datetime_parse_timestamp(const char *str, size_t len, int32 typmod, Datum *value);
extern bool mr_datetime_parse_timestamptz(const char *str, size_t len, int32 typmod,
										  Datum *value);

#endif							/* MR_DATETIME_H */
