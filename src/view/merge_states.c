/*
 * view/merge_states.c
 *		The aggregate merge_states(): stored states of one aggregate into one.
 *
 * It does in an Agg node what the combining half of a parallel aggregation does, with states
 * that were stored.  Its own state is internal: the transition value of the aggregate at
 * hand, in the node's memory.
 */
#include "millrace.h"

#include "catalog/pg_type.h"
#include "nodes/primnodes.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/regproc.h"

#include "view/aggregate_internal.h"
#include "view/transition.h"

typedef struct Merged
{
	MrAggregate *agg;
	MrTransitionState state;
} Merged;

PG_FUNCTION_INFO_V1(mr_merge_states_transition);
PG_FUNCTION_INFO_V1(mr_merge_states_final);

static MrAggregate *
create_merged(FunctionCallInfo fcinfo, Oid aggfnoid)
{
	MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	MrAggregate *agg = palloc0(sizeof(MrAggregate));

	mr_aggregate_info_read_call(&agg->info, fcinfo, aggfnoid, 3);
	mr_aggregate_info_check_state(&agg->info, get_fn_expr_argtype(fcinfo->flinfo, 2));
	if (!OidIsValid(agg->info.combinefn) ||
		(mr_aggregate_info_is_sealed(&agg->info) &&
		 (!OidIsValid(agg->info.serialfn) || !OidIsValid(agg->info.deserialfn))))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("aggregate %s has no stored states", format_procedure(aggfnoid)));
	mr_aggregate_init(agg, PG_GET_COLLATION());
	MemoryContextSwitchTo(old);
	return agg;
}

static Merged *
begin_merged(MrAggregate *agg, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	Merged	   *merged = palloc(sizeof(Merged));

	merged->agg = agg;
	merged->state.value = mr_aggregate_info_initial(&agg->info, &merged->state.isnull);
	merged->state.no_value = merged->state.isnull;
	MemoryContextSwitchTo(old);
	return merged;
}

static void
keep_value(Merged *merged, Datum value, bool isnull, MemoryContext context)
{
	const MrAggregate *agg = merged->agg;

	mr_transition_replace(&merged->state, value, isnull,
						  mr_aggregate_info_is_sealed(&agg->info) || agg->statebyval, agg->statelen, context);
	merged->state.no_value = false;
}

/* combine with one more state; node: the Agg or WindowAgg that we are called in */
static void
add_state(Merged *merged, Datum state, bool isnull, Node *node, MemoryContext context)
{
	MrAggregate *agg = merged->agg;

	LOCAL_FCINFO(fcinfo, 2);
	Datum		value;

	if (agg->combine.fn_strict)
	{
		if (isnull || (!merged->state.no_value && merged->state.isnull))
			return;
		if (merged->state.no_value)
		{
			/* a strict function starts with the first state that there is */
			keep_value(merged, state, false, context);
			return;
		}
	}
	if (!isnull && agg->deserialize.fn_oid != InvalidOid)
	{
		/*
		 * As in an Agg node, a function that asks is told the aggregate's
		 * memory: some make the state there, and combining may then take it
		 * as it is.
		 */
		mr_support_use_memory(agg->context, context);
		state = mr_aggregate_load(agg, state);
	}
	InitFunctionCallInfoData(*fcinfo, &agg->combine, 2, agg->collation, node, NULL);
	fcinfo->args[0].value = merged->state.value;
	fcinfo->args[0].isnull = merged->state.isnull;
	fcinfo->args[1].value = isnull ? (Datum) 0 : state;
	fcinfo->args[1].isnull = isnull;
	value = FunctionCallInvoke(fcinfo);
	keep_value(merged, value, fcinfo->isnull, context);
}

/* merge_states()'s transition: (internal, aggregate, state, arguments that only tell types) */
Datum
mr_merge_states_transition(PG_FUNCTION_ARGS)
{
	MrAggregate *agg = fcinfo->flinfo->fn_extra;
	Merged	   *merged = PG_ARGISNULL(0) ? NULL : (Merged *) PG_GETARG_POINTER(0);
	MemoryContext context;

	if (!AggCheckCallContext(fcinfo, &context))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("merge_states() can only be called as an aggregate"));
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("the aggregate of merge_states() must not be null"));
	if (agg == NULL)
		fcinfo->flinfo->fn_extra = agg = create_merged(fcinfo, PG_GETARG_OID(1));
	if (agg->info.aggfnoid != PG_GETARG_OID(1))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the aggregate of merge_states() must be a constant"));
	if (merged == NULL)
		merged = begin_merged(agg, context);
	add_state(merged, PG_GETARG_DATUM(2), PG_ARGISNULL(2), fcinfo->context, context);
	PG_RETURN_POINTER(merged);
}

/* the aggregate that a call of merge_states() names, where no row has told it */
static Oid
named_aggregate(FunctionCallInfo fcinfo)
{
	Aggref	   *aggref = AggGetAggref(fcinfo);
	Const	   *name = aggref == NULL ? NULL : (Const *) linitial_node(TargetEntry, aggref->args)->expr;

	if (name == NULL || !IsA(name, Const) || name->constisnull)
		return InvalidOid;
	return DatumGetObjectId(name->constvalue);
}

/* merge_states()'s final function: the stored state of all together */
Datum
mr_merge_states_final(PG_FUNCTION_ARGS)
{
	MrAggregate *agg = fcinfo->flinfo->fn_extra;
	Datum		result;
	bool		isnull;

	if (!AggCheckCallContext(fcinfo, NULL))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("merge_states() can only be called as an aggregate"));
	if (PG_ARGISNULL(0))
	{
		Oid			aggfnoid = named_aggregate(fcinfo);

		if (!OidIsValid(aggfnoid))
			PG_RETURN_NULL();
		if (agg == NULL)
			fcinfo->flinfo->fn_extra = agg = create_merged(fcinfo, aggfnoid);
		result = mr_aggregate_initial(agg, &isnull);
	}
	else
	{
		Merged	   *merged = (Merged *) PG_GETARG_POINTER(0);

		agg = merged->agg;
		mr_support_use_memory(agg->context, CurrentMemoryContext);
		isnull = merged->state.isnull;
		result = mr_aggregate_store(agg, merged->state.value, &isnull);
	}
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}
