/*
 * groups.c
 *		The groups of a batch: a hash table of keys and aggregate states.
 *
 * What an Agg node's hash table is for the executor, made for rows that come in blocks:
 * hashes of a block are computed first, the table's entries are fetched into the CPU's
 * cache while the next ones are still being computed, and with hundreds of thousands of
 * groups that is what counts.  Keys whose equality is that of their bytes (integers,
 * timestamps, text under a deterministic collation …) are hashed and compared without a
 * function call, all others by their type's own functions.
 *
 * Whoever writes messages chooses the keys, and must not be able to choose some that all
 * hash alike: a table's hashes begin with a random number of its own, and each key is mixed
 * in by a mixer of all 64 bits.  What cannot be helped is a type's own hash function that
 * gives different keys the same hash whatever the seed: the server's fold 64 bits to 32 in
 * intervals, and in arrays, ranges and rows of integers or times.
 *
 * Memory: groups, with all that states and copied keys point to, live in one context.  A
 * key that points into the batch stays there.  The table itself is an array of hashes and
 * pointers, at most three quarters full, linear probing.
 */
#include "millrace.h"

#include "access/stratnum.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "executor/executor.h"
#include "ingest/groups.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/sortsupport.h"
#include "utils/typcache.h"

#define FIRST_ENTRIES	1024	/* a power of two */
#define CHUNK_BYTES		(64 * 1024)
#define NULL_HASH		UINT64CONST(0x5bd1e995)
#define BESIDE			2		/* leading keys that are sorted without a look
								 * at their groups, if they are values */

typedef enum KeyKind
{
	KEY_BY_VALUE,				/* equal when the Datums are */
	KEY_BYTES,					/* a varlena, equal when the bytes are */
	KEY_BY_FUNCTION
} KeyKind;

/* how keys are compared */
typedef enum KeyOrder
{
	ORDER_SIGNED,				/* as signed integers of 64 bits */
	ORDER_INT32,
	ORDER_BY_FUNCTION
} KeyOrder;

typedef struct Key
{
	KeyKind		kind;
	bool		byval;
	int16		len;
	Oid			collation;
	FmgrInfo	hash;			/* KEY_BY_FUNCTION */
	FmgrInfo	equal;
	KeyOrder	order;
	SortSupportData sort;
} Key;

typedef struct Entry
{
	uint64		hash;
	MrGroup    *group;			/* NULL: free */
} Entry;

/* a group on its way into order, with what it is compared by first beside it */
typedef struct Sorted
{
	Datum		keys[BESIDE];
	MrGroup    *group;
} Sorted;

struct MrGroups
{
	int			nkeys;
	Key		   *keys;
	uint64		seed;			/* of the hashes */
	int			ncolumns;
	int			nstates;
	MrTransition **transitions;
	ExprContext *states;
	MemoryContext life;
	MemoryContext context;		/* of the groups and all that they point to */
	Size		group_size;
	char	   *chunk;			/* where the next groups go */
	Size		chunk_left;
	Entry	   *entries;
	uint64		mask;			/* number of entries - 1 */
	int64		ngroups;
	int			nbeside;		/* so many of them can be: by value, no nulls */
	Sorted	   *sorted;
	int64		next;
};

/* ---------- keys ---------- */

/* types whose "=" is true exactly when their bytes are the same */
static bool
is_bitwise(Oid type, Oid collation)
{
	switch (type)
	{
		case BOOLOID:
		case CHAROID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case DATEOID:
		case TIMEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
		case CASHOID:
		case BYTEAOID:
			return true;
		case TEXTOID:
		case VARCHAROID:
			return get_collation_isdeterministic(collation);
		default:
			return false;
	}
}

static TypeCacheEntry *
key_type(Oid type)
{
	return lookup_type_cache(type, TYPECACHE_LT_OPR | TYPECACHE_EQ_OPR_FINFO |
							 TYPECACHE_HASH_EXTENDED_PROC_FINFO);
}

bool
mr_groups_possible(const List *columns)
{
	ListCell   *lc;

	foreach(lc, columns)
	{
		const MrMatrelColumn *column = lfirst(lc);

		if (column->aggref == NULL &&
			!OidIsValid(key_type(column->type)->hash_extended_proc_finfo.fn_oid))
			return false;
	}
	return true;
}

static void
init_key(MrGroups *groups, Key *key, const MrMatrelColumn *column)
{
	TypeCacheEntry *type = key_type(column->type);
	bool		bitwise = is_bitwise(getBaseType(column->type), column->collation);

	key->byval = type->typbyval;
	key->len = type->typlen;
	key->collation = column->collation;
	key->kind = !bitwise ? KEY_BY_FUNCTION :
		type->typbyval ? KEY_BY_VALUE : KEY_BYTES;
	if (key->kind == KEY_BY_FUNCTION)
	{
		fmgr_info_copy(&key->hash, &type->hash_extended_proc_finfo, groups->life);
		fmgr_info_copy(&key->equal, &type->eq_opr_finfo, groups->life);
	}
	key->sort.ssup_cxt = groups->life;
	key->sort.ssup_collation = column->collation;
	PrepareSortSupportFromOrderingOp(type->lt_opr, &key->sort);
	key->order = key->sort.comparator == ssup_datum_signed_cmp ? ORDER_SIGNED :
		key->sort.comparator == ssup_datum_int32_cmp ? ORDER_INT32 : ORDER_BY_FUNCTION;
}

static uint64
hash_key(Key *key, Datum value, uint64 seed)
{
	switch (key->kind)
	{
		case KEY_BY_VALUE:
			return (uint64) value;
		case KEY_BYTES:
			return hash_bytes_extended((unsigned char *) VARDATA_ANY(DatumGetPointer(value)),
									   VARSIZE_ANY_EXHDR(DatumGetPointer(value)), seed);
		case KEY_BY_FUNCTION:
			break;
	}
	return DatumGetUInt64(FunctionCall2Coll(&key->hash, key->collation, value, UInt64GetDatum(seed)));
}

static bool
equal_keys(Key *key, Datum a, Datum b)
{
	Size		len;

	switch (key->kind)
	{
		case KEY_BY_VALUE:
			return a == b;
		case KEY_BYTES:
			len = VARSIZE_ANY_EXHDR(DatumGetPointer(a));
			return len == VARSIZE_ANY_EXHDR(DatumGetPointer(b)) &&
				memcmp(VARDATA_ANY(DatumGetPointer(a)), VARDATA_ANY(DatumGetPointer(b)), len) == 0;
		case KEY_BY_FUNCTION:
			break;
	}
	return DatumGetBool(FunctionCall2Coll(&key->equal, key->collation, a, b));
}

/* ---------- groups ---------- */

/* a group is its states, its keys, and which of them are null */
static inline MrTransitionState *
group_states(MrGroup *group)
{
	return (MrTransitionState *) group;
}

static inline Datum *
group_keys(const MrGroups *groups, MrGroup *group)
{
	return (Datum *) (group_states(group) + groups->nstates);
}

static inline bool *
group_nulls(const MrGroups *groups, MrGroup *group)
{
	return (bool *) (group_keys(groups, group) + groups->nkeys);
}

MrTransitionState *
mr_groups_state(MrGroup *group, int i)
{
	return &group_states(group)[i];
}

Size
mr_groups_memory(const MrGroups *groups)
{
	return MemoryContextMemAllocated(groups->context, true);
}

static void
make_table(MrGroups *groups, uint64 size)
{
	groups->entries = MemoryContextAllocExtended(groups->context, size * sizeof(Entry),
												 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	groups->mask = size - 1;
}

static void
begin_empty(MrGroups *groups)
{
	groups->chunk_left = 0;
	groups->ngroups = 0;
	groups->sorted = NULL;
	groups->nbeside = 0;
	while (groups->nbeside < Min(groups->nkeys, BESIDE) && groups->keys[groups->nbeside].byval)
		groups->nbeside++;
	make_table(groups, FIRST_ENTRIES);
}

MrGroups *
mr_groups_create(const List *columns, int nkeys, MrTransition **transitions, ExprContext *states)
{
	MrGroups   *groups = palloc0(sizeof(MrGroups));

	groups->life = CurrentMemoryContext;
	groups->context = AllocSetContextCreate(CurrentMemoryContext, "millrace groups",
											ALLOCSET_DEFAULT_SIZES);
	groups->states = states;
	states->ecxt_per_tuple_memory = groups->context;
	states->ecxt_per_query_memory = groups->life;
	groups->nkeys = nkeys;
	groups->ncolumns = list_length(columns);
	groups->nstates = groups->ncolumns - nkeys;
	groups->transitions = transitions;
	groups->seed = pg_prng_uint64(&pg_global_prng_state);
	groups->keys = palloc0(sizeof(Key) * (nkeys + 1));
	for (int i = 0; i < nkeys; i++)
		init_key(groups, &groups->keys[i], list_nth(columns, i));
	groups->group_size = MAXALIGN(sizeof(MrTransitionState) * groups->nstates +
								  (sizeof(Datum) + sizeof(bool)) * nkeys);
	begin_empty(groups);
	return groups;
}

void
mr_groups_reset(MrGroups *groups)
{
	ReScanExprContext(groups->states);
	begin_empty(groups);
}

static MrGroup *
make_group(MrGroups *groups)
{
	MrGroup    *group;

	if (groups->chunk_left < groups->group_size)
	{
		groups->chunk_left = Max(CHUNK_BYTES, groups->group_size);
		groups->chunk = MemoryContextAlloc(groups->context, groups->chunk_left);
	}
	group = (MrGroup *) groups->chunk;
	groups->chunk += groups->group_size;
	groups->chunk_left -= groups->group_size;
	groups->ngroups++;
	for (int i = 0; i < groups->nstates; i++)
		mr_transition_init(groups->transitions[i], &group_states(group)[i]);
	return group;
}

MrGroup *
mr_groups_only(MrGroups *groups)
{
	if (groups->entries[0].group == NULL)
		groups->entries[0].group = make_group(groups);
	return groups->entries[0].group;
}

static void
grow_table(MrGroups *groups)
{
	Entry	   *old = groups->entries;
	uint64		nold = groups->mask + 1;

	make_table(groups, nold * 2);
	for (uint64 i = 0; i < nold; i++)
	{
		uint64		at = old[i].hash & groups->mask;

		if (old[i].group == NULL)
			continue;
		while (groups->entries[at].group != NULL)
			at = (at + 1) & groups->mask;
		groups->entries[at] = old[i];
	}
	pfree(old);
}

/* ---------- finding ---------- */

static void
hash_block(MrGroups *groups, int n, Datum *const *keys, bool *const *isnull, uint64 *hashes)
{
	for (int row = 0; row < n; row++)
		hashes[row] = groups->seed;
	for (int k = 0; k < groups->nkeys; k++)
		for (int row = 0; row < n; row++)
		{
			uint64		hash = isnull[k][row] ? NULL_HASH :
			hash_key(&groups->keys[k], keys[k][row], groups->seed);

			hashes[row] = mr_hash_mix(hashes[row] ^ hash);
		}
	for (int row = 0; row < n; row++)
		__builtin_prefetch(&groups->entries[hashes[row] & groups->mask]);
}

static bool
same_keys(MrGroups *groups, MrGroup *group, Datum *const *keys, bool *const *isnull, int row)
{
	const Datum *values = group_keys(groups, group);
	const bool *nulls = group_nulls(groups, group);

	for (int k = 0; k < groups->nkeys; k++)
		if (nulls[k] != isnull[k][row] ||
			(!nulls[k] && !equal_keys(&groups->keys[k], values[k], keys[k][row])))
			return false;
	return true;
}

static void
set_keys(MrGroups *groups, MrGroup *group, Datum *const *keys, bool *const *isnull,
		 const bool *copy, int row)
{
	Datum	   *values = group_keys(groups, group);
	bool	   *nulls = group_nulls(groups, group);
	MemoryContext old = MemoryContextSwitchTo(groups->context);

	for (int k = 0; k < groups->nkeys; k++)
	{
		nulls[k] = isnull[k][row];
		values[k] = keys[k][row];
		if (nulls[k] && k < groups->nbeside)
			groups->nbeside = k;
		if (copy[k] && !nulls[k])
			values[k] = datumCopy(values[k], groups->keys[k].byval, groups->keys[k].len);
	}
	MemoryContextSwitchTo(old);
}

static MrGroup *
find_group(MrGroups *groups, uint64 hash, Datum *const *keys, bool *const *isnull,
		   const bool *copy, int row)
{
	uint64		at = hash & groups->mask;
	Entry	   *entry;

	for (;; at = (at + 1) & groups->mask)
	{
		entry = &groups->entries[at];
		if (entry->group == NULL)
			break;
		if (entry->hash == hash && same_keys(groups, entry->group, keys, isnull, row))
			return entry->group;
	}
	entry->group = make_group(groups);
	entry->hash = hash;
	set_keys(groups, entry->group, keys, isnull, copy, row);
	return entry->group;
}

void
mr_groups_find(MrGroups *groups, int n, Datum *const *keys, bool *const *isnull,
			   const bool *copy, MrGroup **found)
{
	uint64		hashes[MR_GROUPS_BLOCK];

	while (groups->ngroups + n > (int64) (groups->mask / 4 * 3))
		grow_table(groups);
	hash_block(groups, n, keys, isnull, hashes);
	for (int row = 0; row < n; row++)
		__builtin_prefetch(groups->entries[hashes[row] & groups->mask].group);
	for (int row = 0; row < n; row++)
		found[row] = find_group(groups, hashes[row], keys, isnull, copy, row);
}

/* ---------- in order ---------- */

static int
compare_key(MrGroups *groups, int k, MrGroup *a, MrGroup *b)
{
	return ApplySortComparator(group_keys(groups, a)[k], group_nulls(groups, a)[k],
							   group_keys(groups, b)[k], group_nulls(groups, b)[k],
							   &groups->keys[k].sort);
}

/* a key that lies beside its group; what core's comparators do, without a call */
static inline int
compare_beside(Key *key, Datum a, Datum b)
{
	switch (key->order)
	{
		case ORDER_SIGNED:
			return ((int64) a > (int64) b) - ((int64) a < (int64) b);
		case ORDER_INT32:
			return (DatumGetInt32(a) > DatumGetInt32(b)) - (DatumGetInt32(a) < DatumGetInt32(b));
		case ORDER_BY_FUNCTION:
			break;
	}
	return key->sort.comparator(a, b, &key->sort);
}

static inline int
compare_groups(const Sorted *a, const Sorted *b, MrGroups *groups)
{
	for (int k = 0; k < groups->nkeys; k++)
	{
		int			result = k < groups->nbeside ?
		compare_beside(&groups->keys[k], a->keys[k], b->keys[k]) :
		compare_key(groups, k, a->group, b->group);

		if (result != 0)
			return result;
	}
	return 0;
}

#define ST_SORT sort_groups
#define ST_ELEMENT_TYPE Sorted
#define ST_COMPARE(a, b, arg) compare_groups(a, b, arg)
#define ST_COMPARE_ARG_TYPE MrGroups
#define ST_CHECK_FOR_INTERRUPTS
#define ST_SCOPE static
#define ST_DEFINE
#include "miscadmin.h"
#include "lib/sort_template.h"

uint64
mr_groups_sort(MrGroups *groups)
{
	int64		n = 0;

	groups->next = 0;
	groups->sorted = MemoryContextAllocHuge(groups->context, sizeof(Sorted) * Max(groups->ngroups, 1));
	for (uint64 at = 0; at <= groups->mask; at++)
	{
		MrGroup    *group = groups->entries[at].group;

		if (group == NULL)
			continue;
		groups->sorted[n].group = group;
		for (int k = 0; k < groups->nbeside; k++)
			groups->sorted[n].keys[k] = group_keys(groups, group)[k];
		n++;
	}
	Assert(n == groups->ngroups);
	if (groups->nkeys > 0)
		sort_groups(groups->sorted, n, groups);
	return n;
}

bool
mr_groups_next(MrGroups *groups, TupleTableSlot *slot)
{
	MrGroup    *group;

	ExecClearTuple(slot);
	if (groups->next == groups->ngroups)
		return false;
	group = groups->sorted[groups->next++].group;
	if (groups->next + 1 < groups->ngroups)
		__builtin_prefetch(groups->sorted[groups->next + 1].group);
	for (int k = 0; k < groups->nkeys; k++)
	{
		slot->tts_values[k] = group_keys(groups, group)[k];
		slot->tts_isnull[k] = group_nulls(groups, group)[k];
	}
	for (int i = 0; i < groups->nstates; i++)
		slot->tts_values[groups->nkeys + i] =
			mr_transition_stored(groups->transitions[i], &group_states(group)[i],
								 &slot->tts_isnull[groups->nkeys + i]);
	ExecStoreVirtualTuple(slot);
	return true;
}
