/*
 * stream/option_check.h
 *		Checks of stream/option.c that its neighbours need, too.
 */
#ifndef MR_STREAM_OPTION_CHECK_H
#define MR_STREAM_OPTION_CHECK_H

#include "millrace.h"

/* is this a server of our wrapper? */
extern bool mr_is_stream_server(Oid serverid);

/* ERROR when Kafka would not have a topic of that name */
extern void mr_check_topic_name(const char *topic);

#endif							/* MR_STREAM_OPTION_CHECK_H */
