/*
 * ingest/fault.h
 *		Whose fault is an error in a view's plan or merge?
 */
#ifndef MR_INGEST_FAULT_H
#define MR_INGEST_FAULT_H

#include "millrace.h"

typedef enum MrFault
{
	MR_FAULT_MESSAGE,			/* the message's: others may well be taken */
	MR_FAULT_PASSING,			/* of the moment: the same may succeed later */
	MR_FAULT_INTERNAL,			/* the server's; or a message's, if it stays */
	MR_FAULT_DEFINITION			/* the view's: no message can be taken */
} MrFault;

/* for an error while rows were evaluated or merged, not while planning */
extern MrFault mr_fault(int sqlstate);

/* the same while rows were written into a transform's sink, whose constraints are its owner's */
extern MrFault mr_fault_of_write(const ErrorData *error);

#endif							/* MR_INGEST_FAULT_H */
