/*
 * subtransaction.h
 *		What an error in a subtransaction leaves to be done.
 */
#ifndef MR_SUBTRANSACTION_H
#define MR_SUBTRANSACTION_H

#include "millrace.h"

#include "utils/resowner.h"

/*
 * In PG_CATCH, where the error is not to go on as it is: rolls the current subtransaction back, and
 * returns the error, a copy in context, which is the current one afterwards, as owner is the
 * current resource owner.  Both as they were before the subtransaction began.
 */
extern ErrorData *mr_subtransaction_failed(MemoryContext context, ResourceOwner owner);

#endif							/* MR_SUBTRANSACTION_H */
