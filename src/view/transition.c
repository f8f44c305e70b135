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
 * What they are told of where they are called is in support.c.
 */
#include "millrace.h"

#include "parser/parse_agg.h"
#include "utils/datum.h"
#include "utils/expandeddatum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "view/support.h"
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

/* the transition function with what it may ask of its call: types, collation, AggState */
static void
init_function(MrTransition *transition, const Aggref *aggref, MrAggregateInfo *info)
{
	Expr	   *expr;

	mr_support_init(&transition->function, info->transfn, info);
	build_aggregate_transfn_expr(info->argtypes, info->nargs, 0, aggref->aggvariadic, info->transtype,
								 aggref->inputcollid, info->transfn, InvalidOid, &expr, NULL);
	fmgr_info_set_expr((Node *) expr, &transition->function);
	transition->fcinfo = palloc(SizeForFunctionCallInfo(transition->nargs + 1));
	InitFunctionCallInfoData(*transition->fcinfo, &transition->function, transition->nargs + 1,
							 aggref->inputcollid, (Node *) mr_support_aggstate(transition->states), NULL);
}

MrTransition *
mr_transition_create(const Aggref *aggref, ExprContext *states)
{
	MrTransition *transition = palloc0(sizeof(MrTransition));
	MrAggregateInfo info;

	mr_aggregate_info_read(&info, aggref);
	mr_aggregate_info_check_execute(&info);
	transition->nargs = list_length(aggref->args);
	transition->counts = aggref->aggfnoid == F_COUNT_ || aggref->aggfnoid == F_COUNT_ANY;
	transition->states = states;
	get_typlenbyval(info.transtype, &transition->len, &transition->byval);
	init_function(transition, aggref, &info);
	transition->initial.value = mr_aggregate_info_initial(&info, &transition->initial.isnull);
	transition->initial.no_value = transition->initial.isnull;
	if (mr_aggregate_info_is_sealed(&info))
		mr_support_init(&transition->serialize, info.serialfn, &info);
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
