/*
 * ingest/exchange.h
 *		Rebuilt contents take the place of the old ones.
 */
#ifndef MR_INGEST_EXCHANGE_H
#define MR_INGEST_EXCHANGE_H

/*
 * For the supervisor, with no transaction open: exchange what can be exchanged now; where
 * somebody is in the way, *nap_ms becomes at most the time after which to try again.
 */
extern void mr_exchange_shadows(long *nap_ms);

#endif							/* MR_INGEST_EXCHANGE_H */
