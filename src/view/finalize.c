/*
 * view/finalize.c
 *		The function finalize(): what an aggregate's final function makes of a stored state.
 *
 * Security: it can be called by anyone with anything, so it checks all types against
 * pg_aggregate, and EXECUTE as nodeAgg.c does.  What it deserializes has the aggregate's stamp.
 *
 * Memory: what is made on the way is freed by the next call; the result alone lives in the
 * caller's context.
 */
#include "millrace.h"

#include "executor/executor.h"
#include "parser/parse_agg.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"

#include "view/support.h"

/* finalize()'s memory between calls */
typedef struct Finalizer
{
	MrAggregateInfo info;
	FmgrInfo	finalfn;
	FmgrInfo	deserialize;
	uint64		stamp;			/* of serialized states */
	int16		statelen;
	bool		statebyval;
	int16		resultlen;
	bool		resultbyval;
	ExprContext *context;		/* reset at each call */
	AggState   *aggstate;
} Finalizer;

PG_FUNCTION_INFO_V1(mr_finalize);

static void
check_result_type(const MrAggregateInfo *info, Oid result)
{
	if (result != info->resulttype)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("result of aggregate %s is of type %s, not %s",
					   format_procedure(info->aggfnoid),
					   format_type_be(info->resulttype), format_type_be(result)));
}

static void
init_functions(Finalizer *finalizer, Oid collation)
{
	MrAggregateInfo *info = &finalizer->info;
	Expr	   *expr;

	if (OidIsValid(info->finalfn))
	{
		mr_support_init(&finalizer->finalfn, info->finalfn, info);
		build_aggregate_finalfn_expr(info->argtypes,
									 1 + (info->finalextra ? info->nargs : 0),
									 info->transtype, info->resulttype, collation,
									 info->finalfn, &expr);
		fmgr_info_set_expr((Node *) expr, &finalizer->finalfn);
	}
	if (!mr_aggregate_info_is_sealed(info))
		return;
	if (!OidIsValid(info->deserialfn) || !OidIsValid(info->finalfn))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("aggregate %s has no stored states", format_procedure(info->aggfnoid)));
	mr_support_init(&finalizer->deserialize, info->deserialfn, info);
	finalizer->stamp = mr_aggregate_info_stamp(info);
}

/* find and check everything, once per call site */
static Finalizer *
create_finalizer(FunctionCallInfo fcinfo, Oid aggfnoid)
{
	MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	Finalizer  *finalizer = palloc0(sizeof(Finalizer));
	MrAggregateInfo *info = &finalizer->info;

	mr_aggregate_info_read_call(info, fcinfo, aggfnoid, 3);
	mr_aggregate_info_check_state(info, get_fn_expr_argtype(fcinfo->flinfo, 1));
	check_result_type(info, get_fn_expr_argtype(fcinfo->flinfo, 2));
	get_typlenbyval(info->statetype, &finalizer->statelen, &finalizer->statebyval);
	get_typlenbyval(info->resulttype, &finalizer->resultlen, &finalizer->resultbyval);
	init_functions(finalizer, PG_GET_COLLATION());
	finalizer->context = CreateStandaloneExprContext();
	finalizer->aggstate = mr_support_aggstate(finalizer->context);
	MemoryContextSwitchTo(old);
	return finalizer;
}

/* call the final function in the finalizer's memory */
static Datum
call_final(Finalizer *finalizer, Oid collation, Datum state, bool state_null, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, FUNC_MAX_ARGS);
	int			nargs = 1 + (finalizer->info.finalextra ? finalizer->info.nargs : 0);
	Datum		result;

	*isnull = true;
	if (finalizer->finalfn.fn_strict && (state_null || nargs > 1))
		return (Datum) 0;
	if (!state_null && mr_aggregate_info_is_sealed(&finalizer->info))
		state = mr_support_deserialize(&finalizer->info, &finalizer->deserialize,
									   finalizer->aggstate, finalizer->stamp, state);
	else if (!state_null && finalizer->info.finalmodify)
		state = datumCopy(state, finalizer->statebyval, finalizer->statelen);

	InitFunctionCallInfoData(*fcinfo, &finalizer->finalfn, nargs, collation,
							 (Node *) finalizer->aggstate, NULL);
	fcinfo->args[0].value = state_null ? (Datum) 0 : state;
	fcinfo->args[0].isnull = state_null;
	for (int i = 1; i < nargs; i++)
	{
		fcinfo->args[i].value = (Datum) 0;
		fcinfo->args[i].isnull = true;
	}
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return result;
}

/*
 * finalize(aggregate regprocedure, state "any", result anyelement, VARIADIC arguments "any")
 *
 * The third and following arguments are looked at for their types only.
 */
Datum
mr_finalize(PG_FUNCTION_ARGS)
{
	Finalizer  *finalizer = fcinfo->flinfo->fn_extra;
	MemoryContext old;
	Datum		result;
	bool		isnull;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (finalizer == NULL || finalizer->info.aggfnoid != PG_GETARG_OID(0))
	{
		finalizer = create_finalizer(fcinfo, PG_GETARG_OID(0));
		fcinfo->flinfo->fn_extra = finalizer;
	}
	if (!OidIsValid(finalizer->info.finalfn))
	{
		if (PG_ARGISNULL(1))
			PG_RETURN_NULL();
		PG_RETURN_DATUM(PG_GETARG_DATUM(1));
	}

	ReScanExprContext(finalizer->context);
	old = MemoryContextSwitchTo(finalizer->context->ecxt_per_tuple_memory);
	result = call_final(finalizer, PG_GET_COLLATION(), PG_GETARG_DATUM(1),
						PG_ARGISNULL(1), &isnull);
	MemoryContextSwitchTo(old);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(datumCopy(result, finalizer->resultbyval, finalizer->resultlen));
}
