/*
 * kafka/headers.h
 *		A message's headers as jsonb; private to this folder.
 */
#ifndef MR_KAFKA_HEADERS_H
#define MR_KAFKA_HEADERS_H

#include "millrace.h"

#include <librdkafka/rdkafka.h>

/* an object name -> string; isnull when there are no headers */
extern Datum mr_headers_jsonb(const rd_kafka_message_t *rkmessage, bool *isnull);

#endif							/* MR_KAFKA_HEADERS_H */
