/*
 * format/json_encode.h
 *		Columns into a JSON object: the encoding half of the format json.
 */
#ifndef MR_JSON_ENCODE_H
#define MR_JSON_ENCODE_H

#include "format/format.h"

extern MrEncoder *mr_json_create_encoder(const MrColumn *const *columns, int ncolumns);
extern void mr_json_encode(MrEncoder *encoder, const Datum *values, const bool *isnull,
						   StringInfo out);

#endif							/* MR_JSON_ENCODE_H */
