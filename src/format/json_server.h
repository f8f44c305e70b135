/*
 * format/json_server.h
 *		Values that only the server's own machinery can build from JSON.
 */
#ifndef MR_JSON_SERVER_H
#define MR_JSON_SERVER_H

#include "format/format.h"

typedef struct MrServerType MrServerType;

/*
 * type: a base type, no domain.  Lives in the current memory context.
 */
extern MrServerType *mr_server_type_create(const MrColumn *column, Oid type, int32 typmod);

/* is it an array or a composite, so that mr_server_populate is for it? */
extern bool mr_server_type_is_nested(const MrServerType *server);

/*
 * From the text of a scalar, by the input function; text is in the database's encoding.
 * Leaves its litter in the current context.  Bad input throws; on PostgreSQL 16 and later
 * it is a reject where the input function can tell softly.
 */
extern bool mr_server_input(MrServerType *server, const char *text, size_t len,
							Datum *value, MrReject *reject);

/* From JSON text, as json_populate_record does; throws.  Litter as above */
extern Datum mr_server_populate(MrServerType *server, const char *json, size_t len, bool *isnull);

#endif							/* MR_JSON_SERVER_H */
