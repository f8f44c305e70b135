/*
 * ingest/groups.h
 *		The groups of a batch: a hash table of keys and aggregate states.
 */
#ifndef MR_INGEST_GROUPS_H
#define MR_INGEST_GROUPS_H

#include "view/analyze.h"
#include "view/transition.h"

#define MR_GROUPS_BLOCK		256 /* rows at a time */

typedef struct MrGroups MrGroups;
typedef struct MrGroup MrGroup;

/* can groups be found by these columns (the keys of a view)? */
extern bool mr_groups_possible(const List *columns);

/*
 * An empty table, with a memory context of its own below the current one, which states'
 * per-tuple memory becomes.  columns: of MrMatrelColumn *, keys first; transitions: those of
 * the columns that are states, in their order.
 */
extern MrGroups *mr_groups_create(const List *columns, int nkeys, MrTransition **transitions,
								  ExprContext *states);

/*
 * The groups of n (<= MR_GROUPS_BLOCK) rows, made where there was none: keys[key][row].
 * copy[key]: a key that is a pointer does not live as long as the groups.
 */
extern void mr_groups_find(MrGroups *groups, int n, Datum *const *keys, bool *const *isnull,
						   const bool *copy, MrGroup **found);

/* without keys there is one group */
extern MrGroup *mr_groups_only(MrGroups *groups);

/* the state of an aggregate, by its place among the transitions */
extern MrTransitionState *mr_groups_state(MrGroup *group, int i);

extern Size mr_groups_memory(const MrGroups *groups);

/* forget all groups */
extern void mr_groups_reset(MrGroups *groups);

/*
 * One by one in the order of the keys, as the matrel's index has it, into a virtual slot:
 * keys, and states as they are stored.  The slot's pointers live until the current context
 * is reset.  False at the end.  _sort returns how many there are.
 */
extern uint64 mr_groups_sort(MrGroups *groups);
extern bool mr_groups_next(MrGroups *groups, TupleTableSlot *slot);

#endif							/* MR_INGEST_GROUPS_H */
