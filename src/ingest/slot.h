/*
 * ingest/slot.h
 *		A worker and its slot in shared memory.
 */
#ifndef MR_INGEST_SLOT_H
#define MR_INGEST_SLOT_H

#include "shmem.h"

/* make this process the one of a slot, until it exits, and connect it to the slot's database */
extern void mr_slot_attach(int index);

/* end this process, to be started again after so long */
extern void mr_slot_give_place(long ms) pg_attribute_noreturn();

/* what others see; error NULL: the last one stays */
extern void mr_slot_set_state(MrWorkerSlot *slot, MrWorkerState state, const char *error);

/* retrying, for an error; view: the one whose error it is, or InvalidOid */
extern void mr_slot_set_trouble(MrWorkerSlot *slot, Oid view, const char *error);

/*
 * The same by who has no slot at hand, in a worker; since when stays where it says so already.
 * error NULL: what was noted last, if anything was, is over.
 */
extern void mr_slot_note_wait(Oid view, const char *error);

/* the state that it has when nothing is wrong */
extern MrWorkerState mr_slot_running_state(const MrWorkerSlot *slot);

/* was the worker told to look at the catalog again? */
extern bool mr_slot_take_reload(MrWorkerSlot *slot);

/* wait without a consumer to poll; a reload, which is taken, ends it early */
extern void mr_slot_nap(MrWorkerSlot *slot, long ms);

#endif							/* MR_INGEST_SLOT_H */
