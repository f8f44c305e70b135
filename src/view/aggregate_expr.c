/*
 * view/aggregate_expr.c
 *		Expressions over stored states: calls of millrace.finalize() and merge_states().
 *
 * A call names its aggregate by a constant.  What the functions have to know of types beyond
 * that is told by arguments that are null: they are looked at for their types, and collations,
 * only (finalize.c, merge_states.c).
 */
#include "millrace.h"

#include "catalog.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_func.h"
#include "utils/lsyscache.h"

#include "view/aggregate_expr.h"
#include "view/aggregate_info.h"

static Oid
finalize_function(bool with_arguments)
{
	Oid			types[] = {REGPROCEDUREOID, ANYOID, ANYELEMENTOID, ANYOID};
	List	   *name = list_make2(makeString(MR_SCHEMA), makeString("finalize"));

	return LookupFuncName(name, with_arguments ? 4 : 3, types, false);
}

static Expr *
null_of_type(Oid type, Oid collation)
{
	Const	   *null = makeNullConst(type, -1, get_typcollation(type));
	CollateExpr *collate;

	if (!OidIsValid(collation) || collation == null->constcollid)
		return (Expr *) null;
	collate = makeNode(CollateExpr);
	collate->arg = (Expr *) null;
	collate->collOid = collation;
	collate->location = -1;
	return (Expr *) collate;
}

static Const *
aggregate_const(Oid aggfnoid)
{
	return makeConst(REGPROCEDUREOID, -1, InvalidOid, sizeof(Oid), ObjectIdGetDatum(aggfnoid),
					 false, true);
}

static List *
nulls_of_arguments(const MrAggregateInfo *info, Oid collation)
{
	List	   *result = NIL;

	for (int i = 0; i < info->nargs; i++)
		result = lappend(result, null_of_type(info->argtypes[i],
											  type_is_collatable(info->argtypes[i]) ? collation : InvalidOid));
	return result;
}

Expr *
mr_aggregate_finalize_expr(const Aggref *aggref, Expr *state_expr)
{
	MrAggregateInfo info;
	List	   *args;

	mr_aggregate_info_read(&info, aggref);
	if (!OidIsValid(info.finalfn))
	{
		if (exprType((Node *) state_expr) == aggref->aggtype)
			return state_expr;
		return (Expr *) makeRelabelType(state_expr, aggref->aggtype, -1,
										aggref->aggcollid, COERCE_IMPLICIT_CAST);
	}
	args = list_make3(aggregate_const(aggref->aggfnoid), state_expr,
					  null_of_type(aggref->aggtype, aggref->aggcollid));

	/* they tell the collation where neither the state nor the result does */
	if (OidIsValid(aggref->inputcollid) && !type_is_collatable(info.statetype) && !type_is_collatable(aggref->aggtype))
		args = list_concat(args, nulls_of_arguments(&info, aggref->inputcollid));
	else if (mr_aggregate_info_needs_arguments(&info))
		args = list_concat(args, nulls_of_arguments(&info, InvalidOid));
	return (Expr *) makeFuncExpr(finalize_function(list_length(args) > 3), aggref->aggtype,
								 args, aggref->aggcollid, aggref->inputcollid,
								 COERCE_EXPLICIT_CALL);
}

static Oid
merge_function(bool with_arguments)
{
	Oid			types[] = {REGPROCEDUREOID, ANYELEMENTOID, ANYOID};
	List	   *name = list_make2(makeString(MR_SCHEMA), makeString("merge_states"));

	return LookupFuncName(name, with_arguments ? 3 : 2, types, false);
}

/* an ordinary aggregate's call, with nothing but arguments; its types are still to be set */
static Aggref *
make_call(Oid aggfnoid, List *args)
{
	Aggref	   *result = makeNode(Aggref);
	ListCell   *lc;

	result->aggfnoid = aggfnoid;
	foreach(lc, args)
	{
		result->aggargtypes = lappend_oid(result->aggargtypes, exprType(lfirst(lc)));
		result->args = lappend(result->args, makeTargetEntry(lfirst(lc), foreach_current_index(lc) + 1,
															 NULL, false));
	}
	result->aggkind = AGGKIND_NORMAL;
	result->aggsplit = AGGSPLIT_SIMPLE;
	result->aggno = -1;
	result->aggtransno = -1;
	result->location = -1;
	return result;
}

Aggref *
mr_aggregate_merge_expr(const Aggref *aggref, Expr *state_expr)
{
	Oid			type = exprType((Node *) state_expr);
	List	   *args = list_make2(aggregate_const(aggref->aggfnoid), state_expr);
	MrAggregateInfo info;
	Aggref	   *result;

	mr_aggregate_info_read(&info, aggref);
	/* where the state itself does not, they tell the collation, too */
	if (mr_aggregate_info_needs_arguments(&info) || (OidIsValid(aggref->inputcollid) && !type_is_collatable(type)))
		args = list_concat(args, nulls_of_arguments(&info, aggref->inputcollid));
	result = make_call(merge_function(list_length(args) > 2), args);
	result->aggtype = type;
	result->aggcollid = exprCollation((Node *) state_expr);
	result->inputcollid = aggref->inputcollid;
	return result;
}

Node *
mr_aggregate_merge_over_window(WindowFunc *merge)
{
	CoalesceExpr *coalesce;
	MrAggregateInfo info;
	Datum		value;
	bool		isnull;
	int16		len;
	bool		byval;

	mr_aggregate_info_read_alone(&info, DatumGetObjectId(linitial_node(Const, merge->args)->constvalue));
	info.transtype = merge->wintype;
	value = mr_aggregate_info_initial(&info, &isnull);
	if (isnull)
		return (Node *) merge;
	coalesce = makeNode(CoalesceExpr);
	coalesce->coalescetype = merge->wintype;
	coalesce->coalescecollid = merge->wincollid;
	get_typlenbyval(merge->wintype, &len, &byval);
	coalesce->args = list_make2(merge, makeConst(merge->wintype, -1, merge->wincollid, len, value, false, byval));
	coalesce->location = -1;
	return (Node *) coalesce;
}
