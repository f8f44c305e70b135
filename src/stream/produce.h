/*
 * stream/produce.h
 *		Messages that the current transaction sends when it commits.
 */
#ifndef MR_STREAM_PRODUCE_H
#define MR_STREAM_PRODUCE_H

#include "kafka/producer.h"
#include "stream/option.h"

typedef struct MrProduceTarget MrProduceTarget;

/*
 * A stream's topic, reached as userid; ERROR when options do not allow to connect.  Valid
 * until the end of the top transaction.
 */
extern MrProduceTarget *mr_produce_target(const MrStream *stream, Oid userid);

/*
 * Remember a copy of the message.  It is sent when the top transaction commits, and
 * forgotten when the current subtransaction aborts.
 */
extern void mr_produce_append(MrProduceTarget *target, const MrOutMessage *msg);

/* follow transactions; once in each process, when the library is loaded */
extern void mr_produce_init(void);

#endif							/* MR_STREAM_PRODUCE_H */
