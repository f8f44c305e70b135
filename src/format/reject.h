/*
 * format/reject.h
 *		Saying why a message cannot be used.
 */
#ifndef MR_REJECT_H
#define MR_REJECT_H

#include "format/format.h"

/* beginning of a value, for a text: cut at a character's end, valid in the database's encoding */
extern char *mr_excerpt(const char *value, size_t len);

/* a message of the server's, cut when it is very long */
extern char *mr_clip_message(const char *message);

/* set *reject; returns false for the caller to return */
extern bool mr_reject(MrReject *reject, int sqlstate, const char *fmt,...) pg_attribute_printf(3, 4);

/* name the column in front of the text; returns false for the caller to return */
extern bool mr_reject_column(MrReject *reject, const MrColumn *column);

#endif							/* MR_REJECT_H */
