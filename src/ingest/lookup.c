/*
 * lookup.c
 *		Finding a batch's groups in the matrel, by its unique index.
 *
 * A batch's keys come in the order of the index.  Where many of the index's entries are
 * asked for, walking along its leaves from one key to the next costs a fraction of a descent
 * from the root for each; and once the walk has come to the end of the index, all keys that
 * follow are new and cost nothing at all, which is the usual case when a key begins with a
 * time.  Where few entries are asked for, a walk would read whole leaves for one of them:
 * then each key is looked up by itself, and walking is tried again after some time.
 *
 * A walk reads keys from the index and goes to the table only for the right one.  It cannot
 * see entries with NULLs (no row comparison is true of them); such keys are looked up.
 *
 * The rows that the caller writes meanwhile do not disturb: they belong to keys that have
 * been passed, and the snapshot does not see them.
 */
#include "millrace.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/relscan.h"
#include "catalog/pg_type.h"
#include "ingest/lookup.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/sortsupport.h"

#define WALK_STEPS		100		/* entries that a walk passes before a new
								 * descent is cheaper */
#define WALK_WORTH		8		/* keys that a descent should serve */
#define PENALTY_MIN		64		/* keys to look up singly after it did not */
#define PENALTY_MAX		4096

typedef struct LookupKey
{
	AttrNumber	column;			/* of the index, from 1 */
	bool		byval;
	int16		len;
	Oid			collation;
	FmgrInfo	equal;
	SortSupportData sort;
} LookupKey;

struct MrLookup
{
	int			nkeys;
	LookupKey	keys[INDEX_MAX_KEYS];
	IndexScanDesc single;
	/* walking */
	bool		can_walk;
	IndexScanDesc walk;
	MemoryContext position;		/* of the key that the walk began with */
	ScanKeyData members[INDEX_MAX_KEYS];	/* of the row comparison */
	bool		positioned;		/* at an entry: current, current_null */
	bool		exhausted;		/* no entry is left */
	int			served;			/* keys since the last descent */
	int			penalty;
	int			singly;			/* keys to look up before the next walk */
	Datum		current[INDEX_MAX_KEYS];
	bool		current_null[INDEX_MAX_KEYS];
};

/* is the index unique over exactly the keys? */
static bool
is_key_index(Relation index, int nkeys)
{
	Form_pg_index form = index->rd_index;

	return form->indisunique && form->indisvalid && form->indnkeyatts == nkeys &&
		index->rd_rel->relam == BTREE_AM_OID && RelationGetIndexPredicate(index) == NIL;
}

/* what compares a column of the index, from 1, with a value */
static Oid
operator_function(Relation index, int column, StrategyNumber strategy)
{
	Oid			type = index->rd_opcintype[column - 1];
	Oid			operator = get_opfamily_member(index->rd_opfamily[column - 1], type, type, strategy);

	if (!OidIsValid(operator))
		elog(ERROR, "missing operator %d of type %u in operator family %u", strategy, type,
			 index->rd_opfamily[column - 1]);
	return get_opcode(operator);
}

static bool
init_key(LookupKey *key, Relation rel, Relation index, int i)
{
	Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(rel), i);

	key->byval = attribute->attbyval;
	key->len = attribute->attlen;
	key->column = 0;
	for (int c = 0; c < index->rd_index->indnkeyatts; c++)
		if (index->rd_index->indkey.values[c] == i + 1)
			key->column = c + 1;
	if (key->column == 0)
		return false;
	key->collation = index->rd_indcollation[key->column - 1];
	fmgr_info(operator_function(index, key->column, BTEqualStrategyNumber), &key->equal);
	return true;
}

/* the index as the keys are sorted, and its entries as the keys are */
static bool
may_walk(const MrLookup *lookup, Relation rel, Relation index)
{
	for (int i = 0; i < lookup->nkeys; i++)
		if (lookup->keys[i].column != i + 1 || index->rd_indoption[i] != 0 ||
			TupleDescAttr(RelationGetDescr(index), i)->atttypid !=
			TupleDescAttr(RelationGetDescr(rel), i)->atttypid)
			return false;
	return true;
}

/* (a, b, ...) >= (..., ...), or a >= ..., and how to compare an entry with a key */
static void
prepare_walk(MrLookup *lookup, Relation index)
{
	for (int i = 0; i < lookup->nkeys; i++)
	{
		LookupKey  *key = &lookup->keys[i];

		ScanKeyEntryInitializeWithInfo(&lookup->members[i],
									   SK_ROW_MEMBER | (i == lookup->nkeys - 1 ? SK_ROW_END : 0),
									   i + 1, BTGreaterEqualStrategyNumber, InvalidOid, key->collation,
									   index_getprocinfo(index, i + 1, BTORDER_PROC), (Datum) 0);
		key->sort.ssup_cxt = CurrentMemoryContext;
		key->sort.ssup_collation = key->collation;
		key->sort.ssup_attno = i + 1;
		mr_compat_sort_support_from_index(index, &key->sort);
	}
	if (lookup->nkeys == 1)
		ScanKeyEntryInitialize(&lookup->members[0], 0, 1, BTGreaterEqualStrategyNumber, InvalidOid,
							   lookup->keys[0].collation,
							   operator_function(index, 1, BTGreaterEqualStrategyNumber), (Datum) 0);
}

MrLookup *
mr_lookup_begin(Relation rel, Relation index, int nkeys, Snapshot snapshot)
{
	MrLookup   *lookup;

	if (!is_key_index(index, nkeys))
		return NULL;
	lookup = palloc0(sizeof(MrLookup));
	lookup->nkeys = nkeys;
	for (int i = 0; i < nkeys; i++)
		if (!init_key(&lookup->keys[i], rel, index, i))
			return NULL;
	lookup->can_walk = may_walk(lookup, rel, index);
	if (lookup->can_walk)
		prepare_walk(lookup, index);
	lookup->penalty = PENALTY_MIN;
	lookup->single = mr_compat_index_beginscan(rel, index, snapshot, nkeys);
	lookup->walk = mr_compat_index_beginscan(rel, index, snapshot, 1);
	lookup->walk->xs_want_itup = true;
	lookup->position = AllocSetContextCreate(CurrentMemoryContext, "millrace lookup", ALLOCSET_SMALL_SIZES);
	return lookup;
}

void
mr_lookup_end(MrLookup *lookup)
{
	index_endscan(lookup->single);
	index_endscan(lookup->walk);
}

/* ---------- singly ---------- */

static bool
find_singly(MrLookup *lookup, TupleTableSlot *partial, TupleTableSlot *found)
{
	ScanKeyData keys[INDEX_MAX_KEYS];

	for (int i = 0; i < lookup->nkeys; i++)
	{
		LookupKey  *key = &lookup->keys[i];
		bool		isnull = partial->tts_isnull[i];

		ScanKeyEntryInitializeWithInfo(&keys[key->column - 1],
									   isnull ? SK_ISNULL | SK_SEARCHNULL : 0,
									   key->column, isnull ? InvalidStrategy : BTEqualStrategyNumber,
									   InvalidOid, key->collation, &key->equal,
									   isnull ? (Datum) 0 : partial->tts_values[i]);
	}
	index_rescan(lookup->single, keys, lookup->nkeys, NULL, 0);
	return index_getnext_slot(lookup->single, ForwardScanDirection, found);
}

/* ---------- walking ---------- */

/* to the next entry */
static void
step(MrLookup *lookup)
{
	lookup->exhausted = index_getnext_tid(lookup->walk, ForwardScanDirection) == NULL;
	if (lookup->exhausted)
		return;
	index_deform_tuple(lookup->walk->xs_itup, lookup->walk->xs_itupdesc, lookup->current,
					   lookup->current_null);
}

/* to the first entry at or after the key */
static void
descend(MrLookup *lookup, TupleTableSlot *partial)
{
	ScanKeyData key = {0};
	MemoryContext old;

	/* the scan looks at it whenever it comes to another page */
	MemoryContextReset(lookup->position);
	old = MemoryContextSwitchTo(lookup->position);
	for (int i = 0; i < lookup->nkeys; i++)
		lookup->members[i].sk_argument = datumCopy(partial->tts_values[i], lookup->keys[i].byval,
												   lookup->keys[i].len);
	MemoryContextSwitchTo(old);
	key.sk_flags = SK_ROW_HEADER;
	key.sk_attno = 1;
	key.sk_strategy = BTGreaterEqualStrategyNumber;
	key.sk_argument = PointerGetDatum(lookup->members);
	/* a row comparison has two members at least */
	index_rescan(lookup->walk, lookup->nkeys == 1 ? lookup->members : &key, 1, NULL, 0);
	lookup->positioned = true;
	lookup->served = 0;
	step(lookup);
}

/* current entry against the key */
static int
compare(MrLookup *lookup, TupleTableSlot *partial)
{
	for (int i = 0; i < lookup->nkeys; i++)
	{
		int			result = ApplySortComparator(lookup->current[i], lookup->current_null[i],
												 partial->tts_values[i], false,
												 &lookup->keys[i].sort);

		if (result != 0)
			return result;
	}
	return 0;
}

/* from the current entry; false when it is too far */
static bool
walk_to(MrLookup *lookup, TupleTableSlot *partial)
{
	for (int i = 0; i < WALK_STEPS; i++)
	{
		if (lookup->exhausted || compare(lookup, partial) >= 0)
			return true;
		step(lookup);
	}
	return false;
}

/* after a descent that served few keys, do without for a while */
static bool
was_worth_it(MrLookup *lookup)
{
	if (lookup->served >= WALK_WORTH)
	{
		lookup->penalty = PENALTY_MIN;
		return true;
	}
	lookup->positioned = false;
	lookup->singly = lookup->penalty;
	lookup->penalty = Min(lookup->penalty * 2, PENALTY_MAX);
	return false;
}

/* at the entry, or the first one behind; false: it has to be looked up singly */
static bool
go_to(MrLookup *lookup, TupleTableSlot *partial)
{
	if (lookup->positioned && !walk_to(lookup, partial))
	{
		if (!was_worth_it(lookup))
			return false;
		lookup->positioned = false;
	}
	if (!lookup->positioned)
		descend(lookup, partial);
	lookup->served++;
	return true;
}

static bool
has_null(const MrLookup *lookup, TupleTableSlot *partial)
{
	for (int i = 0; i < lookup->nkeys; i++)
		if (partial->tts_isnull[i])
			return true;
	return false;
}

bool
mr_lookup_find(MrLookup *lookup, TupleTableSlot *partial, TupleTableSlot *found)
{
	slot_getallattrs(partial);
	if (!lookup->can_walk || has_null(lookup, partial))
		return find_singly(lookup, partial, found);
	if (lookup->singly > 0)
	{
		lookup->singly--;
		return find_singly(lookup, partial, found);
	}
	if (!go_to(lookup, partial))
		return find_singly(lookup, partial, found);

	/*
	 * of several entries with the key, versions of one row, one is visible at
	 * most
	 */
	for (; !lookup->exhausted && compare(lookup, partial) == 0; step(lookup))
		if (index_fetch_heap(lookup->walk, found))
			return true;
	return false;
}
