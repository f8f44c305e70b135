/*
 * view/grouping_sets.c
 *		GROUPING SETS, ROLLUP and CUBE.
 *
 * A batch computes all sets, with GROUPING() of all group columns as one more key column,
 * "_set": it tells a group whose column is NULL from a total, and the matrel holds the groups
 * of all sets side by side.  The columns that a set does not contain are null in it, so that
 * the reader has nothing to restore: expressions over them are evaluated over nulls, as in
 * PostgreSQL, and GROUPING() is a few bits of "_set".
 *
 * ROLLUP, CUBE and products of several clauses are expanded by the parser's own function.  A
 * set that comes out several times is kept once; the reader repeats its rows.
 *
 * With sets each entry of GROUP BY has a column of its own, and an output column is matched
 * with it by the parser's reference, not by what it looks like: SELECT g AS a, g AS b ... GROUP
 * BY ROLLUP (a, b) has two.
 */
#include "millrace.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_agg.h"
#include "parser/parse_oper.h"
#include "utils/fmgroids.h"

#include "view/grouping_sets.h"

/* ---------- the sets ---------- */

/* place of a reference in GROUP BY, which is that of its column */
static int
group_column(const Query *level, Index ref)
{
	ListCell   *lc;

	foreach(lc, level->groupClause)
	{
		if (lfirst_node(SortGroupClause, lc)->tleSortGroupRef == ref)
			return foreach_current_index(lc);
	}
	elog(ERROR, "could not find group column %u", ref);
	return -1;					/* not reached */
}

/* the bit that GROUPING() of n columns has for one of them */
static int32
column_bit(int n, int column)
{
	return 1 << (n - 1 - column);
}

/* GROUPING() of all group columns in a set */
static int32
set_number(const Query *level, const List *refs)
{
	int			n = list_length(level->groupClause);
	int32		result = (int32) ((UINT64CONST(1) << n) - 1);
	ListCell   *lc;

	foreach(lc, refs)
		result &= ~column_bit(n, group_column(level, lfirst_int(lc)));
	return result;
}

static MrGroupingSet *
find_set(List *sets, int32 number)
{
	ListCell   *lc;

	foreach(lc, sets)
	{
		MrGroupingSet *set = lfirst(lc);

		if (set->number == number)
			return set;
	}
	return NULL;
}

void
mr_grouping_sets_find(MrSplit *split)
{
	const Query *level = split->level;
	List	   *sets = NIL;
	MrGroupingSet *set;
	ListCell   *lc;

	if (level->groupingSets == NIL)
		return;
	foreach(lc, expand_grouping_sets(level->groupingSets, level->groupDistinct, -1))
	{
		int32		number = set_number(level, lfirst(lc));

		if ((set = find_set(sets, number)) == NULL)
		{
			set = palloc0(sizeof(MrGroupingSet));
			set->number = number;
			set->is_empty = lfirst(lc) == NIL;
			sets = lappend(sets, set);
		}
		set->copies++;
	}
	/* one set of all columns is what GROUP BY alone does */
	if (list_length(sets) == 1)
	{
		set = linitial(sets);
		if (set->number == 0 && set->copies == 1)
			return;
	}
	split->analysis.sets = sets;
}

int
mr_grouping_sets_entry_column(const MrSplit *split, const TargetEntry *tle)
{
	ListCell   *lc;

	if (split->analysis.sets == NIL || tle->ressortgroupref == 0)
		return -1;
	foreach(lc, split->level->groupClause)
	{
		if (lfirst_node(SortGroupClause, lc)->tleSortGroupRef == tle->ressortgroupref)
			return foreach_current_index(lc);
	}
	return -1;
}

/* ---------- the batch's half ---------- */

/* the references of the group columns that a set contains; keys beyond them are in all */
static List *
set_references(const MrSplit *split, const Query *partial, const MrGroupingSet *set)
{
	int			n = list_length(split->level->groupClause);
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, partial->groupClause)
	{
		int			column = foreach_current_index(lc);

		if (column >= n || (set->number & column_bit(n, column)) == 0)
			result = lappend_int(result, lfirst_node(SortGroupClause, lc)->tleSortGroupRef);
	}
	return result;
}

static Expr *
grouping_of_all(const MrSplit *split, const Query *partial)
{
	GroupingFunc *result = makeNode(GroupingFunc);

	for (int i = 0; i < list_length(split->level->groupClause); i++)
	{
		TargetEntry *tle = list_nth_node(TargetEntry, partial->targetList, i);

		result->args = lappend(result->args, copyObject(tle->expr));
		result->refs = lappend_int(result->refs, tle->ressortgroupref);
	}
	result->location = -1;
	return (Expr *) result;
}

static Expr *
int_const(int32 value)
{
	return (Expr *) makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(value), false, true);
}

void
mr_grouping_sets_fill(Query *partial, const MrSplit *split)
{
	TargetEntry *number = list_nth_node(TargetEntry, partial->targetList, split->analysis.set_column);
	List	   *content = NIL;
	ListCell   *lc;

	/* GROUP BY (), (): one set, of which the reader makes several */
	if (split->level->groupClause == NIL)
	{
		number->expr = int_const(0);
		return;
	}
	number->expr = grouping_of_all(split, partial);
	foreach(lc, split->analysis.sets)
	{
		List	   *references = set_references(split, partial, lfirst(lc));

		content = lappend(content, makeGroupingSet(references == NIL ? GROUPING_SET_EMPTY : GROUPING_SET_SIMPLE,
												   references, -1));
	}
	partial->groupingSets = list_make1(makeGroupingSet(GROUPING_SET_SETS, content, -1));
}

/* ---------- readers ---------- */

static Expr *
operation(const char *name, Expr *left, Expr *right)
{
	ParseState *pstate = make_parsestate(NULL);
	List	   *qualified = list_make2(makeString("pg_catalog"), makeString(pstrdup(name)));

	return make_op(pstate, qualified, (Node *) left, (Node *) right, NULL, -1);
}

/* do the function's arguments follow each other in GROUP BY? */
static bool
is_run(const Query *level, const List *refs)
{
	ListCell   *lc;

	foreach(lc, refs)
	{
		if (group_column(level, lfirst_int(lc)) !=
			group_column(level, linitial_int(refs)) + foreach_current_index(lc))
			return false;
	}
	return true;
}

/* so many bits of the number of the set, from one up */
static Expr *
bits(Var *set, int total, int first, int n)
{
	Expr	   *result = (Expr *) copyObject(set);

	if (first > 0)
		result = operation(">>", result, int_const(first));
	if (first + n < total)
		result = operation("&", result, int_const((int32) ((UINT64CONST(1) << n) - 1)));
	return result;
}

/* of arguments in any order, each for itself */
static Expr *
scattered_bits(const Query *level, const List *refs, Var *set)
{
	int			total = list_length(level->groupClause);
	int			shift = list_length(refs);
	Expr	   *result = NULL;
	ListCell   *lc;

	foreach(lc, refs)
	{
		Expr	   *bit = bits(set, total, total - 1 - group_column(level, lfirst_int(lc)), 1);

		if (--shift > 0)
			bit = operation("<<", bit, int_const(shift));
		result = result == NULL ? bit : operation("|", result, bit);
	}
	return result;
}

Expr *
mr_grouping_sets_function(const MrSplit *split, const GroupingFunc *function, Var *set)
{
	const Query *level = split->level;
	int			total = list_length(level->groupClause);
	int			n = list_length(function->refs);

	if (set == NULL)
		return int_const(0);
	if (!is_run(level, function->refs))
		return scattered_bits(level, function->refs, set);
	return bits(set, total, total - n - group_column(level, linitial_int(function->refs)), n);
}

/* CASE WHEN _set = ... THEN ... ELSE 1 END */
Expr *
mr_grouping_sets_copies(const MrSplit *split, Var *set)
{
	CaseExpr   *number = makeNode(CaseExpr);
	FuncExpr   *result;
	ListCell   *lc;

	foreach(lc, split->analysis.sets)
	{
		const MrGroupingSet *declared = lfirst(lc);
		CaseWhen   *when = makeNode(CaseWhen);

		if (declared->copies == 1)
			continue;
		when->expr = operation("=", (Expr *) copyObject(set), int_const(declared->number));
		when->result = int_const(declared->copies);
		when->location = -1;
		number->args = lappend(number->args, when);
	}
	if (number->args == NIL)
		return NULL;
	number->casetype = INT4OID;
	number->defresult = int_const(1);
	number->location = -1;
	result = makeFuncExpr(F_GENERATE_SERIES_INT4_INT4, INT4OID, list_make2(int_const(1), number),
						  InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	result->funcretset = true;
	return (Expr *) result;
}
