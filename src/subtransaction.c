/*
 * subtransaction.c
 *		What an error in a subtransaction leaves to be done, as PL/pgSQL does it for a block with
 *		EXCEPTION.
 */
#include "millrace.h"

#include "access/xact.h"
#include "subtransaction.h"
#include "utils/memutils.h"

ErrorData *
mr_subtransaction_failed(MemoryContext context, ResourceOwner owner)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}
