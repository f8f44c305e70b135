/*
 * view/transition.c
 *		An aggregate's transitions outside of an Agg node.
 *
 * The transition functions are the server's or the user's own, called as nodeAgg.c calls
 * them (advance_transition_function and initialize_aggregate): strictness, a first value
 * that becomes the state, states that are changed in place or replaced.  What is left out
 * is the interpretation of expressions around them, which costs more than most of them.
 * count() alone is done without a call.
 *
 * Functions get an AggState that has nothing but a memory context, as in support.c.
 */
#include "millrace.h"

#include "access/htup_details.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "parser/parse_agg.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/expandeddatum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "view/transition.h"

struct MrTransition
{
	int			nargs;
	bool		counts;			/* is count(*) or count(x) */
	FmgrInfo	function;
	FmgrInfo	serialize;		/* fn_oid 0: the state is stored as it is */
	FunctionCallInfo fcinfo;
	int16		len;			/* of the transition type */
	bool		byval;
	MrTransitionState initial;
	ExprContext *states;
};

/* in whose name the aggregate's functions may be called, as in nodeAgg.c */
static Oid
check_privileges(Oid aggfnoid)
{
	AclResult	acl = mr_function_execute(aggfnoid, GetUserId());
	HeapTuple	tuple;
	Oid			owner;

	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_AGGREGATE, get_func_name(aggfnoid));
	InvokeFunctionExecuteHook(aggfnoid);
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(aggfnoid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", aggfnoid);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner;
}

static void
init_function(FmgrInfo *finfo, Oid funcid, Oid owner)
{
	AclResult	acl = mr_function_execute(funcid, owner);

	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_FUNCTION, get_func_name(funcid));
	InvokeFunctionExecuteHook(funcid);
	fmgr_info(funcid, finfo);
}

static void
init_initial_state(MrTransition *transition, const Aggref *aggref, HeapTuple tuple)
{
	Oid			input;
	Oid			ioparam;
	bool		isnull;
	Datum		initial = SysCacheGetAttr(AGGFNOID, tuple, Anum_pg_aggregate_agginitval, &isnull);

	transition->initial.isnull = isnull;
	transition->initial.no_value = isnull;
	if (isnull)
		return;
	getTypeInputInfo(aggref->aggtranstype, &input, &ioparam);
	transition->initial.value = OidInputFunctionCall(input, TextDatumGetCString(initial), ioparam, -1);
}

/* the transition function with what it may ask of its call: types, collation, AggState */
static void
init_transition(MrTransition *transition, const Aggref *aggref, Oid funcid, Oid owner)
{
	Oid			types[FUNC_MAX_ARGS];
	int			ntypes = get_aggregate_argtypes((Aggref *) aggref, types);
	AggState   *aggstate = makeNode(AggState);
	Expr	   *expr;

	init_function(&transition->function, funcid, owner);
	build_aggregate_transfn_expr(types, ntypes, 0, aggref->aggvariadic, aggref->aggtranstype,
								 aggref->inputcollid, funcid, InvalidOid, &expr, NULL);
	fmgr_info_set_expr((Node *) expr, &transition->function);
	aggstate->curaggcontext = transition->states;
	aggstate->tmpcontext = transition->states;
	aggstate->ss.ps.ps_ExprContext = transition->states;
	transition->fcinfo = palloc(SizeForFunctionCallInfo(transition->nargs + 1));
	InitFunctionCallInfoData(*transition->fcinfo, &transition->function, transition->nargs + 1,
							 aggref->inputcollid, (Node *) aggstate, NULL);
}

MrTransition *
mr_transition_create(const Aggref *aggref, ExprContext *states)
{
	MrTransition *transition = palloc0(sizeof(MrTransition));
	Oid			owner = check_privileges(aggref->aggfnoid);
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggref->aggfnoid));
	Form_pg_aggregate form;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggref->aggfnoid);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	transition->nargs = list_length(aggref->args);
	transition->counts = aggref->aggfnoid == F_COUNT_ || aggref->aggfnoid == F_COUNT_ANY;
	transition->states = states;
	get_typlenbyval(aggref->aggtranstype, &transition->len, &transition->byval);
	init_transition(transition, aggref, form->aggtransfn, owner);
	init_initial_state(transition, aggref, tuple);
	if (aggref->aggtranstype == INTERNALOID)
		init_function(&transition->serialize, form->aggserialfn, owner);
	ReleaseSysCache(tuple);
	return transition;
}

static Datum
copy_value(Datum value, bool byval, int16 len, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	Datum		result = datumCopy(value, byval, len);

	MemoryContextSwitchTo(old);
	return result;
}

static Datum
copy_state(const MrTransition *transition, Datum value)
{
	return copy_value(value, transition->byval, transition->len, transition->states->ecxt_per_tuple_memory);
}

void
mr_transition_init(const MrTransition *transition, MrTransitionState *state)
{
	*state = transition->initial;
	if (!state->isnull && !transition->byval)
		state->value = copy_state(transition, state->value);
}

static void
free_value(const MrTransitionState *state, int16 len)
{
	if (state->isnull)
		return;
	if (DatumIsReadWriteExpandedObject(state->value, false, len))
		DeleteExpandedObject(state->value);
	else
		pfree(DatumGetPointer(state->value));
}

void
mr_transition_replace(MrTransitionState *state, Datum value, bool isnull, bool byval, int16 len,
					  MemoryContext context)
{
	if (!byval && (isnull || state->isnull || DatumGetPointer(value) != DatumGetPointer(state->value)))
	{
		/* an expanded object that already lives there can stay what it is */
		if (isnull)
			value = (Datum) 0;
		else if (!DatumIsReadWriteExpandedObject(value, false, len) ||
				 MemoryContextGetParent(DatumGetEOHP(value)->eoh_context) != context)
			value = copy_value(value, byval, len, context);
		free_value(state, len);
	}
	state->value = value;
	state->isnull = isnull;
}

/* count(*), count(x): the only calls that are not worth making */
static void
count(const MrTransition *transition, MrTransitionState *state, bool *const *isnull, int row)
{
	if (transition->nargs == 0 || !isnull[0][row])
		state->value = Int64GetDatum(DatumGetInt64(state->value) + 1);
}

/* a strict function does not see nulls; false: the row is done */
static bool
pass_strict(const MrTransition *transition, MrTransitionState *state,
			Datum *const *values, bool *const *isnull, int row)
{
	for (int i = 0; i < transition->nargs; i++)
		if (isnull[i][row])
			return false;
	if (!state->no_value)
		return !state->isnull;
	state->value = copy_state(transition, values[0][row]);
	state->isnull = false;
	state->no_value = false;
	return false;
}

void
mr_transition_advance(MrTransition *transition, MrTransitionState *state,
					  Datum *const *values, bool *const *isnull, int row)
{
	FunctionCallInfo fcinfo = transition->fcinfo;
	Datum		result;

	if (transition->counts)
	{
		count(transition, state, isnull, row);
		return;
	}
	if (transition->function.fn_strict && !pass_strict(transition, state, values, isnull, row))
		return;
	fcinfo->args[0].value = state->value;
	fcinfo->args[0].isnull = state->isnull;
	for (int i = 0; i < transition->nargs; i++)
	{
		fcinfo->args[i + 1].value = values[i][row];
		fcinfo->args[i + 1].isnull = isnull[i][row];
	}
	fcinfo->isnull = false;
	result = FunctionCallInvoke(fcinfo);
	mr_transition_replace(state, result, fcinfo->isnull, transition->byval, transition->len,
						  transition->states->ecxt_per_tuple_memory);
	state->no_value = false;
}

Datum
mr_transition_stored(MrTransition *transition, const MrTransitionState *state, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		result;

	*isnull = state->isnull;
	if (!OidIsValid(transition->serialize.fn_oid))
		return *isnull ? (Datum) 0 : MakeExpandedObjectReadOnly(state->value, false, transition->len);
	if (*isnull && transition->serialize.fn_strict)
		return (Datum) 0;
	InitFunctionCallInfoData(*fcinfo, &transition->serialize, 1, InvalidOid,
							 transition->fcinfo->context, NULL);
	fcinfo->args[0].value = state->value;
	fcinfo->args[0].isnull = *isnull;
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return result;
}
