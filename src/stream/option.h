/*
 * stream/option.h
 *		What a foreign table, its columns, server and user mapping say of a stream.
 */
#ifndef MR_STREAM_OPTION_H
#define MR_STREAM_OPTION_H

#include "format/format.h"
#include "kafka/conf.h"

typedef enum MrOnError
{
	MR_ON_ERROR_DEAD_LETTER,
	MR_ON_ERROR_SKIP,
	MR_ON_ERROR_STOP
} MrOnError;

typedef enum MrOnGap
{
	MR_ON_GAP_STOP,
	MR_ON_GAP_EARLIEST,
	MR_ON_GAP_LATEST
} MrOnGap;

typedef struct MrStream
{
	Oid			relid;
	Oid			serverid;
	Oid			owner;			/* of the foreign table: its user mapping is
								 * used for ingest */
	char	   *name;			/* quoted, schema-qualified: for messages */
	char	   *topic;
	const MrFormat *format;
	MrOnError	on_error;
	MrOnGap		on_gap;
	int			workers;
	int			natts;
	MrColumn   *columns;		/* natts of them; columns[attnum - 1] */
} MrStream;

/* is relid a foreign table of millrace's wrapper? */
extern bool mr_is_stream(Oid relid);

/* read the options; palloc'd in the current context; ERROR when relid is no stream */
extern MrStream *mr_stream_get(Oid relid);

/* its number of workers; never throws for other options, and 1 when there is none */
extern int	mr_stream_workers(Oid relid);

/*
 * librdkafka properties for connecting as userid: the server's, then those of the user
 * mapping of userid or of PUBLIC.  List of MrProperty *.
 */
extern List *mr_server_properties(Oid serverid, Oid userid);

#endif							/* MR_STREAM_OPTION_H */
