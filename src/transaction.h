/*
 * transaction.h
 *		Transactions of processes that run no statements.
 */
#ifndef MR_TRANSACTION_H
#define MR_TRANSACTION_H

#include "access/xact.h"

/*
 * Begin one as of now.  By itself it would be as of the last one for which a statement's start was
 * noted, hours ago perhaps: to now(), and in pg_stat_activity, where it would look as if it had been
 * open since then.
 */
static inline void
mr_start_transaction(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
}

#endif							/* MR_TRANSACTION_H */
