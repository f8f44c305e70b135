/*
 * view/aggregate.c
 *		Aggregates as states, outside of an Agg node: combining two, finishing one.
 *
 * Support functions are called as nodeAgg.c calls them: strictness, NULL states, a
 * context that AggCheckCallContext believes.  An Agg node of our own is not possible in
 * the reader (states are columns, one per row, not groups of rows) and too slow in the
 * merge; so a state's functions get an AggState that has nothing but a memory context.
 *
 * States of type internal are stored in their serialized form, as millrace.state, others
 * as they are.
 *
 * Security: finalize() can be called by anyone with anything, so it checks all types
 * against pg_aggregate, and EXECUTE as nodeAgg.c does.  A serialized state is trusted, as
 * in a parallel query, if its stamp is right (view/state.c); what judges a state of another
 * type is a function that SQL can call anyway.
 *
 * Memory: a combined state lives in the caller's context together with what was made on
 * the way; a finished one alone lives there, the rest is freed by the next call.
 */
#include "millrace.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_agg.h"
#include "parser/parse_coerce.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "view/aggregate.h"
#include "view/aggregate_info.h"
#include "view/split.h"
#include "view/state.h"

/* finalize()'s memory between calls */
typedef struct Finalizer
{
	AggregateInfo info;
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

/*
 * Catalogs
 */

static void
read_pg_proc(AggregateInfo *info)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(info->aggfnoid));
	Form_pg_proc form;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_FUNCTION),
				errmsg("aggregate with OID %u does not exist", info->aggfnoid));
	form = (Form_pg_proc) GETSTRUCT(tuple);
	if (form->prokind != PROKIND_AGGREGATE)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("%s is not an aggregate", format_procedure(info->aggfnoid)));
	info->owner = form->proowner;
	info->resulttype = form->prorettype;
	ReleaseSysCache(tuple);
}

static void
read_pg_aggregate(AggregateInfo *info)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(info->aggfnoid));
	Form_pg_aggregate form;
	Datum		initial;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", info->aggfnoid);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	if (form->aggkind != AGGKIND_NORMAL)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("ordered-set aggregate %s is not supported in a continuous view",
					   format_procedure(info->aggfnoid)));
	info->transfn = form->aggtransfn;
	info->combinefn = form->aggcombinefn;
	info->finalfn = form->aggfinalfn;
	info->serialfn = form->aggserialfn;
	info->deserialfn = form->aggdeserialfn;
	info->finalextra = form->aggfinalextra;
	info->finalmodify = form->aggfinalmodify != AGGMODIFY_READ_ONLY;
	info->transtype = form->aggtranstype;
	initial = SysCacheGetAttr(AGGFNOID, tuple, Anum_pg_aggregate_agginitval, &isnull);
	info->has_initial = !isnull;
	if (info->has_initial)
		info->initial = TextDatumGetCString(initial);
	ReleaseSysCache(tuple);
}

/* does a call of the aggregate's final function need to know the argument types? */
static bool
needs_arguments(const AggregateInfo *info)
{
	return info->finalextra || info->polymorphic;
}

/* put actual types in the place of polymorphic ones; argtypes must be known */
static void
resolve_types(AggregateInfo *info)
{
	Oid		   *declared;
	int			ndeclared;

	info->transtype = resolve_aggregate_transtype(info->aggfnoid, info->transtype,
												  info->argtypes, info->nargs);
	(void) get_func_signature(info->aggfnoid, &declared, &ndeclared);
	info->resulttype = enforce_generic_type_consistency(info->argtypes, declared, ndeclared,
														info->resulttype, false);
}

/* an internal state may hold values of any type that an argument can have */
static bool
has_polymorphic_argument(Oid aggfnoid)
{
	Oid		   *declared;
	int			ndeclared;

	(void) get_func_signature(aggfnoid, &declared, &ndeclared);
	for (int i = 0; i < ndeclared; i++)
		if (IsPolymorphicType(declared[i]) || declared[i] == ANYOID)
			return true;
	return false;
}

static void
read_aggregate(AggregateInfo *info, Oid aggfnoid)
{
	memset(info, 0, sizeof(AggregateInfo));
	info->aggfnoid = aggfnoid;
	read_pg_proc(info);
	read_pg_aggregate(info);
	info->polymorphic = IsPolymorphicType(info->transtype) ||
		IsPolymorphicType(info->resulttype) ||
		(info->transtype == INTERNALOID && has_polymorphic_argument(aggfnoid));
}

static void
set_state_type(AggregateInfo *info)
{
	info->statetype = info->transtype == INTERNALOID ? mr_state_type() : info->transtype;
}

/*
 * Do the aggregate's states tell the types of their values by name, and do its functions check
 * them?  Those that collect values do.
 */
static bool
names_types(const AggregateInfo *info)
{
	return OidIsValid(info->deserialfn) &&
		get_func_namespace(info->deserialfn) == mr_catalog_schema_oid() &&
		strcmp(get_func_name(info->deserialfn), "collection_read") == 0;
}

/*
 * Of serialized states; once the types are resolved.  User-defined types that the states name
 * themselves are left out, since their OIDs do not outlive a dump.
 */
static uint64
state_stamp(const AggregateInfo *info)
{
	Oid			functions[] = {info->transfn, info->deserialfn, info->finalfn};
	Oid			types[FUNC_MAX_ARGS];
	const bool	named = names_types(info);

	for (int i = 0; i < info->nargs; i++)
		types[i] = named && info->argtypes[i] >= FirstNormalObjectId ? InvalidOid : info->argtypes[i];
	return mr_state_stamp(functions, lengthof(functions), types,
						  info->polymorphic ? info->nargs : 0);
}

static void
read_aggref(AggregateInfo *info, const Aggref *aggref)
{
	ListCell   *lc;

	read_aggregate(info, aggref->aggfnoid);
	foreach(lc, aggref->aggargtypes)
		info->argtypes[info->nargs++] = lfirst_oid(lc);
	if (info->polymorphic)
		resolve_types(info);
	info->resulttype = aggref->aggtype;
	set_state_type(info);
}

/* the aggregate's owner must be allowed to use what it is made of, as in nodeAgg.c */
static void
init_support(FmgrInfo *finfo, Oid funcid, const AggregateInfo *info, MemoryContext context)
{
	AclResult	result = mr_function_execute(funcid, info->owner);

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, get_func_name(funcid));
	fmgr_info_cxt(funcid, finfo, context);
}

/* an AggState with a context and nothing else */
static AggState *
make_aggstate(ExprContext *context)
{
	AggState   *aggstate = makeNode(AggState);

	aggstate->curaggcontext = context;
	aggstate->tmpcontext = context;
	aggstate->ss.ps.ps_ExprContext = context;
	return aggstate;
}

/*
 * Combining
 */

static void
refuse_uncombinable(const Aggref *aggref)
{
	const char *name = get_func_name(aggref->aggfnoid);
	const char *full = format_procedure(aggref->aggfnoid);

	if (name != NULL && (strcmp(name, "array_agg") == 0 || strcmp(name, "json_agg") == 0 || strcmp(name, "jsonb_agg") == 0))
		mr_refuse(aggref->location,
				  errmsg("aggregate %s of arrays is not supported in a continuous view", full),
				  errhint("Collect them as jsonb, as in %s(to_jsonb(x)).", name));
	if (name != NULL && (strstr(name, "json") != NULL || strcmp(name, "xmlagg") == 0))
		mr_refuse(aggref->location,
				  errmsg("aggregate %s is not supported in a continuous view", full),
				  errdetail("The aggregate has no combine function."),
				  errhint("Create a view without the aggregate, whose rows are appended, and aggregate when selecting from it."));
	mr_refuse(aggref->location,
			  errmsg("aggregate %s is not supported in a continuous view", full),
			  errdetail("The aggregate has no combine function."),
			  errhint("Use an aggregate with a combine function (CREATE AGGREGATE ... (COMBINEFUNC = ...)), or group by the value as well and aggregate when selecting from the view."));
}

/* a serialized state cannot hold what its type alone does not describe */
static void
check_argument_types(const AggregateInfo *info, const Aggref *aggref)
{
	if (info->transtype != INTERNALOID || !info->polymorphic)
		return;
	for (int i = 0; i < info->nargs; i++)
		if (info->argtypes[i] == RECORDOID || info->argtypes[i] == RECORDARRAYOID)
			mr_refuse(aggref->location,
					  errmsg("argument of type %s of aggregate %s is not supported in a continuous view",
							 format_type_be(info->argtypes[i]), format_procedure(info->aggfnoid)),
					  errhint("Cast it to a composite type that was created, or use jsonb_build_array()."));
}

Oid
mr_aggregate_state_type(const Aggref *aggref)
{
	AggregateInfo info;

	read_aggref(&info, aggref);
	if (!OidIsValid(info.combinefn))
		refuse_uncombinable(aggref);
	if (info.transtype == INTERNALOID &&
		(!OidIsValid(info.serialfn) || !OidIsValid(info.deserialfn)))
		mr_refuse(aggref->location,
				  errmsg("aggregate %s is not supported in a continuous view",
						 format_procedure(aggref->aggfnoid)),
				  errdetail("Its state is of type internal, and it has no serialization functions."),
				  errhint("Use an aggregate with serialization functions (CREATE AGGREGATE ... (SERIALFUNC = ..., DESERIALFUNC = ...))."));
	check_argument_types(&info, aggref);
	return info.statetype;
}

Oid
mr_aggregate_partial_type(const Aggref *aggref)
{
	AggregateInfo info;

	read_aggref(&info, aggref);
	return info.transtype == INTERNALOID ? BYTEAOID : info.transtype;
}

/* find the functions of an aggregate whose info is there */
void
mr_aggregate_init(MrAggregate *agg, Oid collation)
{
	AggregateInfo *info = &agg->info;
	Expr	   *expr;

	agg->collation = collation;
	get_typlenbyval(info->statetype, &agg->statelen, &agg->statebyval);

	init_support(&agg->combine, info->combinefn, info, CurrentMemoryContext);
	build_aggregate_transfn_expr(&info->transtype, 1, 0, false, info->transtype,
								 agg->collation, info->combinefn, InvalidOid, &expr, NULL);
	fmgr_info_set_expr((Node *) expr, &agg->combine);
	if (info->transtype == INTERNALOID)
	{
		init_support(&agg->serialize, info->serialfn, info, CurrentMemoryContext);
		init_support(&agg->deserialize, info->deserialfn, info, CurrentMemoryContext);
		agg->stamp = state_stamp(info);
	}
	agg->context = makeNode(ExprContext);
	agg->aggstate = make_aggstate(agg->context);
}

MrAggregate *
mr_aggregate_create(const Aggref *aggref)
{
	MrAggregate *agg = palloc0(sizeof(MrAggregate));

	(void) mr_aggregate_state_type(aggref);
	read_aggref(&agg->info, aggref);
	mr_aggregate_init(agg, aggref->inputcollid);
	return agg;
}

/* a serialized state as its functions want it, not NULL */
static Datum
deserialize_state(const AggregateInfo *info, FmgrInfo *deserialize, AggState *aggstate,
				  uint64 stamp, Datum state)
{
	LOCAL_FCINFO(fcinfo, 2);
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, deserialize, 2, InvalidOid, (Node *) aggstate, NULL);
	fcinfo->args[0].value = mr_state_open(state, stamp, info->aggfnoid);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = (Datum) 0;
	fcinfo->args[1].isnull = false;
	result = FunctionCallInvoke(fcinfo);
	if (fcinfo->isnull)
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("deserialization function %s returned null",
					   format_procedure(deserialize->fn_oid)));
	return result;
}

/* a stored state as the combine function wants it; a copy, for it may write on the first */
Datum
mr_aggregate_load_state(MrAggregate *agg, Datum state)
{
	if (agg->info.transtype != INTERNALOID)
		return datumCopy(state, agg->statebyval, agg->statelen);
	return deserialize_state(&agg->info, &agg->deserialize, agg->aggstate, agg->stamp, state);
}

/* state as it is stored */
Datum
mr_aggregate_store_state(MrAggregate *agg, Datum state, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 1);

	if (agg->info.transtype != INTERNALOID)
	{
		/* flat, and not in memory of the arguments */
		return *isnull ? (Datum) 0 : datumCopy(state, agg->statebyval, agg->statelen);
	}
	/* of two nulls, combine functions of some minor releases make this */
	if (DatumGetPointer(state) == NULL)
		*isnull = true;
	if (*isnull && agg->serialize.fn_strict)
		return (Datum) 0;
	InitFunctionCallInfoData(*fcinfo, &agg->serialize, 1, InvalidOid,
							 (Node *) agg->aggstate, NULL);
	fcinfo->args[0].value = state;
	fcinfo->args[0].isnull = *isnull;
	state = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return *isnull ? (Datum) 0 : mr_state_seal(state, agg->stamp);
}

bool
mr_aggregate_is_sealed(const MrAggregate *agg)
{
	return agg->info.transtype == INTERNALOID;
}

Datum
mr_aggregate_seal(const MrAggregate *agg, Datum partial)
{
	Assert(mr_aggregate_is_sealed(agg));
	return mr_state_seal(partial, agg->stamp);
}

/* what functions asked to be called when their memory goes away */
static void
run_callbacks(ExprContext *context)
{
	ExprContext_CB *callback;

	while ((callback = context->ecxt_callbacks) != NULL)
	{
		context->ecxt_callbacks = callback->next;
		callback->function(callback->arg);
	}
}

static Datum
call_combine(MrAggregate *agg, Datum a, bool a_null, Datum b, bool b_null, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 2);
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, &agg->combine, 2, agg->collation,
							 (Node *) agg->aggstate, NULL);
	fcinfo->args[0].value = a_null ? (Datum) 0 : mr_aggregate_load_state(agg, a);
	fcinfo->args[0].isnull = a_null;
	if (b_null || agg->info.transtype != INTERNALOID)
		fcinfo->args[1].value = b_null ? (Datum) 0 : b;
	else
		fcinfo->args[1].value = mr_aggregate_load_state(agg, b);
	fcinfo->args[1].isnull = b_null;
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return result;
}

Datum
mr_aggregate_combine(MrAggregate *agg, Datum a, bool a_null, Datum b, bool b_null,
					 bool *isnull)
{
	Datum		result;

	if (agg->combine.fn_strict && (a_null || b_null))
	{
		/* a strict function starts with the first state that there is */
		*isnull = a_null && b_null;
		if (*isnull)
			return (Datum) 0;
		return datumCopy(a_null ? b : a, agg->statebyval, agg->statelen);
	}
	agg->context->ecxt_per_tuple_memory = CurrentMemoryContext;
	agg->context->ecxt_per_query_memory = CurrentMemoryContext;
	result = call_combine(agg, a, a_null, b, b_null, isnull);
	result = mr_aggregate_store_state(agg, result, isnull);
	run_callbacks(agg->context);
	return result;
}

/* the transition value that there is before any row, in the current memory context */
Datum
mr_aggregate_initial_value(const MrAggregate *agg, bool *isnull)
{
	Oid			input;
	Oid			ioparam;

	*isnull = !agg->info.has_initial;
	if (*isnull)
		return (Datum) 0;
	getTypeInputInfo(agg->info.transtype, &input, &ioparam);
	return OidInputFunctionCall(input, agg->info.initial, ioparam, -1);
}

Datum
mr_aggregate_initial(MrAggregate *agg, bool *isnull)
{
	Datum		state = mr_aggregate_initial_value(agg, isnull);

	agg->context->ecxt_per_tuple_memory = CurrentMemoryContext;
	agg->context->ecxt_per_query_memory = CurrentMemoryContext;
	return mr_aggregate_store_state(agg, state, isnull);
}

/*
 * Finishing: the expression
 */

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
nulls_of_arguments(const AggregateInfo *info, Oid collation)
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
	AggregateInfo info;
	List	   *args;

	read_aggref(&info, aggref);
	if (!OidIsValid(info.finalfn))
	{
		if (exprType((Node *) state_expr) == aggref->aggtype)
			return state_expr;
		return (Expr *) makeRelabelType(state_expr, aggref->aggtype, -1,
										aggref->aggcollid, COERCE_IMPLICIT_CAST);
	}
	args = list_make3(aggregate_const(aggref->aggfnoid), state_expr,
					  null_of_type(aggref->aggtype, aggref->aggcollid));
	if (needs_arguments(&info))
		args = list_concat(args, nulls_of_arguments(&info, InvalidOid));
	return (Expr *) makeFuncExpr(finalize_function(list_length(args) > 3), aggref->aggtype,
								 args, aggref->aggcollid, aggref->inputcollid,
								 COERCE_EXPLICIT_CALL);
}

/*
 * Finishing: the function
 */

void
mr_aggregate_check_state_type(const AggregateInfo *info, Oid state)
{
	if (state != info->statetype)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("state of aggregate %s is of type %s, not %s",
					   format_procedure(info->aggfnoid),
					   format_type_be(info->statetype), format_type_be(state)),
				errhint("If a continuous view holds it, the aggregate has other states than when the view was created: drop the view and create it again."));
}

static void
check_result_type(const AggregateInfo *info, Oid result)
{
	if (result != info->resulttype)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("result of aggregate %s is of type %s, not %s",
					   format_procedure(info->aggfnoid),
					   format_type_be(info->resulttype), format_type_be(result)));
}

/* argument types of the aggregate, from the call's own arguments from first on */
static void
take_argument_types(AggregateInfo *info, FunctionCallInfo fcinfo, int first)
{
	Oid		   *declared;
	int			ndeclared;

	(void) get_func_signature(info->aggfnoid, &declared, &ndeclared);
	for (int i = first; i < PG_NARGS(); i++)
	{
		Oid			type = get_fn_expr_argtype(fcinfo->flinfo, i);

		if (!OidIsValid(type))
			elog(ERROR, "could not determine the argument types of aggregate %u", info->aggfnoid);
		info->argtypes[info->nargs++] = type;
	}
	if (!needs_arguments(info))
		return;
	if (info->nargs < ndeclared || get_fn_expr_variadic(fcinfo->flinfo) ||
		!can_coerce_type(ndeclared, info->argtypes, declared, COERCION_IMPLICIT))
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("%s() of aggregate %s needs nulls of the types of its arguments",
					   get_func_name(fcinfo->flinfo->fn_oid), format_procedure(info->aggfnoid)));
	resolve_types(info);
}

static void
init_final_function(Finalizer *finalizer, Oid collation, MemoryContext context)
{
	AggregateInfo *info = &finalizer->info;
	Expr	   *expr;

	if (OidIsValid(info->finalfn))
	{
		init_support(&finalizer->finalfn, info->finalfn, info, context);
		build_aggregate_finalfn_expr(info->argtypes,
									 1 + (info->finalextra ? info->nargs : 0),
									 info->transtype, info->resulttype, collation,
									 info->finalfn, &expr);
		fmgr_info_set_expr((Node *) expr, &finalizer->finalfn);
	}
	if (info->transtype != INTERNALOID)
		return;
	if (!OidIsValid(info->deserialfn) || !OidIsValid(info->finalfn))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("aggregate %s has no stored states", format_procedure(info->aggfnoid)));
	init_support(&finalizer->deserialize, info->deserialfn, info, context);
	finalizer->stamp = state_stamp(info);
}

/*
 * What an SQL call of ours is about: the aggregate, which the current user must be allowed
 * to use, for the argument types that the call's own arguments from first on have.
 */
void
mr_aggregate_read_call(AggregateInfo *info, FunctionCallInfo fcinfo, Oid aggfnoid, int first)
{
	AclResult	acl;

	read_aggregate(info, aggfnoid);
	acl = mr_function_execute(aggfnoid, GetUserId());
	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_AGGREGATE, get_func_name(aggfnoid));
	take_argument_types(info, fcinfo, first);
	set_state_type(info);
}

/* find and check everything, once per call site */
static Finalizer *
create_finalizer(FunctionCallInfo fcinfo, Oid aggfnoid)
{
	MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	Finalizer  *finalizer = palloc0(sizeof(Finalizer));
	AggregateInfo *info = &finalizer->info;

	mr_aggregate_read_call(info, fcinfo, aggfnoid, 3);
	mr_aggregate_check_state_type(info, get_fn_expr_argtype(fcinfo->flinfo, 1));
	check_result_type(info, get_fn_expr_argtype(fcinfo->flinfo, 2));
	get_typlenbyval(info->statetype, &finalizer->statelen, &finalizer->statebyval);
	get_typlenbyval(info->resulttype, &finalizer->resultlen, &finalizer->resultbyval);
	init_final_function(finalizer, PG_GET_COLLATION(), fcinfo->flinfo->fn_mcxt);
	finalizer->context = CreateStandaloneExprContext();
	finalizer->aggstate = make_aggstate(finalizer->context);
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
	if (!state_null && finalizer->info.transtype == INTERNALOID)
		state = deserialize_state(&finalizer->info, &finalizer->deserialize,
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

/*
 * Merging: the expression
 */

Aggref *
mr_aggregate_merge_expr(const Aggref *aggref, Expr *state_expr)
{
	Oid			types[] = {REGPROCEDUREOID, ANYELEMENTOID, ANYOID};
	List	   *name = list_make2(makeString(MR_SCHEMA), makeString("merge_states"));
	Oid			type = exprType((Node *) state_expr);
	Aggref	   *result = makeNode(Aggref);
	AggregateInfo info;
	List	   *args = NIL;
	ListCell   *lc;

	read_aggref(&info, aggref);
	args = list_make2(aggregate_const(aggref->aggfnoid), state_expr);

	/* where the state itself does not, they tell the collation, too */
	if (needs_arguments(&info) || (OidIsValid(aggref->inputcollid) && !type_is_collatable(type)))
		args = list_concat(args, nulls_of_arguments(&info, aggref->inputcollid));
	result->aggfnoid = LookupFuncName(name, list_length(args) > 2 ? 3 : 2, types, false);
	result->aggtype = type;
	result->aggcollid = exprCollation((Node *) state_expr);
	result->inputcollid = aggref->inputcollid;
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

Node *
mr_aggregate_merge_over_window(WindowFunc *merge)
{
	CoalesceExpr *coalesce;
	AggregateInfo info;
	MrAggregate agg;
	Datum		value;
	bool		isnull;

	read_aggregate(&info, DatumGetObjectId(linitial_node(Const, merge->args)->constvalue));
	info.transtype = merge->wintype;
	agg.info = info;
	value = mr_aggregate_initial_value(&agg, &isnull);
	if (isnull)
		return (Node *) merge;
	coalesce = makeNode(CoalesceExpr);
	coalesce->coalescetype = merge->wintype;
	coalesce->coalescecollid = merge->wincollid;
	coalesce->args = list_make2(merge, makeConst(merge->wintype, -1, merge->wincollid,
												 get_typlen(merge->wintype), value, false,
												 get_typbyval(merge->wintype)));
	coalesce->location = -1;
	return (Node *) coalesce;
}
