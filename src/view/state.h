/*
 * view/state.h
 *		The type millrace.state: an aggregate's serialized state, with the aggregate's stamp
 *		on it.
 */
#ifndef MR_VIEW_STATE_H
#define MR_VIEW_STATE_H

#include "millrace.h"

/* OID of the type; ERROR when the extension is not there */
extern Oid	mr_state_type(void);

/*
 * What tells states of one kind from all others: a digest of the C symbols of functions
 * that understand them, and of the types that they were made for.  InvalidOid is a
 * function that there is not.
 */
extern uint64 mr_state_stamp(const Oid *functions, int nfunctions, const Oid *types,
							 int ntypes);

/* a stored state, from a serialization function's bytea; both in the current context */
extern Datum mr_state_seal(Datum serialized, uint64 stamp);

/*
 * The bytea for a deserialization function, in the current context.  A state with another
 * stamp is an ERROR 42804 that names the aggregate.
 */
extern Datum mr_state_open(Datum state, uint64 stamp, Oid aggfnoid);

#endif							/* MR_VIEW_STATE_H */
