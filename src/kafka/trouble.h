/*
 * kafka/trouble.h
 *		The trouble that a client is in.  Private to this folder.
 */
#ifndef MR_KAFKA_TROUBLE_H
#define MR_KAFKA_TROUBLE_H

#include "kafka/consumer.h"

#include <librdkafka/rdkafka.h>

typedef struct MrTrouble MrTrouble;

/* None yet; in the current memory context.  secrets: not to be shown, and lives as long. */
extern MrTrouble *mr_trouble_create(const List *props, const List *secrets);

/*
 * What happened.  _hear: librdkafka told an error of the client as a whole; _note: one of a
 * question, or of a partition; _note_denied: a partition is not to be read, which only
 * messages disprove.  _end: a broker answered; data: with messages, or the end of a
 * partition.  None of them throws: librdkafka's callbacks use them.
 */
extern void mr_trouble_hear(MrTrouble *trouble, rd_kafka_resp_err_t err, const char *reason);
extern void mr_trouble_note(MrTrouble *trouble, rd_kafka_resp_err_t err, const char *reason);
extern void mr_trouble_note_denied(MrTrouble *trouble, const char *reason);
extern void mr_trouble_end(MrTrouble *trouble, bool data);

/* the trouble now; _is_down: no broker at all could be reached */
extern MrErrorKind mr_trouble_kind(const MrTrouble *trouble);
extern bool mr_trouble_is_down(const MrTrouble *trouble);

/* times that a login or a right was refused */
extern int	mr_trouble_refusals(const MrTrouble *trouble);

/* its reason; _report: with what to look at, where there is no hint.  Without secrets, palloc'd */
extern char *mr_trouble_reason(const MrTrouble *trouble);
extern char *mr_trouble_report(const MrTrouble *trouble);

/* what is to be said of err: the trouble when that says more; without secrets, palloc'd */
extern char *mr_trouble_explain(const MrTrouble *trouble, rd_kafka_resp_err_t err);

/* errhint() when there is something to advise, for use inside ereport() */
extern int	mr_trouble_hint(const MrTrouble *trouble);

extern MrErrorKind mr_trouble_classify(rd_kafka_resp_err_t err);

/* is it a right that is missing, not credentials? */
extern bool mr_trouble_is_unauthorized(rd_kafka_resp_err_t err);

#endif							/* MR_KAFKA_TROUBLE_H */
