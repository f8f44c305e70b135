/*
 * view/aggregate.c
 *		Aggregates as states, outside of an Agg node: which can be kept as such, and combining
 *		two of them.
 *
 * States of type internal are stored in their serialized form, as millrace.state, others
 * as they are.  A serialized state is trusted, as in a parallel query, if its stamp is right
 * (view/state.c); what judges a state of another type is a function that SQL can call anyway.
 *
 * Combining does what nodeAgg.c does: strictness, NULL states, functions that write on their
 * first argument.
 *
 * Memory: a combined state lives in the caller's context together with what was made on
 * the way.
 */
#include "millrace.h"

#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "catalog_view.h"
#include "parser/parse_agg.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"

#include "view/aggregate_internal.h"
#include "view/split.h"
#include "view/state.h"

/* what to do instead depends on which of the server's own aggregates it is, or whether it is a user's */
static void
refuse_uncombinable(const Aggref *aggref)
{
	const char *full = format_procedure(aggref->aggfnoid);
	const char *name = "";

	if (get_func_namespace(aggref->aggfnoid) == PG_CATALOG_NAMESPACE)
		name = get_func_name(aggref->aggfnoid);
	if (strcmp(name, "array_agg") == 0 || strcmp(name, "json_agg") == 0 || strcmp(name, "jsonb_agg") == 0)
		mr_refuse(aggref->location,
				  errmsg("aggregate %s of arrays is not supported in a continuous view", full),
				  errhint("Collect them as jsonb, as in %s(to_jsonb(x)).", name));
	if (strstr(name, "json") != NULL || strcmp(name, "xmlagg") == 0)
		mr_refuse(aggref->location,
				  errmsg("aggregate %s is not supported in a continuous view", full),
				  errdetail("The aggregate has no combine function."),
				  errhint("Create a view without the aggregate, whose rows are appended, and aggregate when selecting from it."));
	mr_refuse(aggref->location,
			  errmsg("aggregate %s is not supported in a continuous view", full),
			  errdetail("The aggregate has no combine function."),
			  errhint("Use an aggregate with a combine function (CREATE AGGREGATE ... (COMBINEFUNC = ...)), or group by the value as well and aggregate when selecting from the view."));
}

/* rows of a relation to which columns can be added, or from which they can be dropped */
static bool
is_row_of_table(Oid type)
{
	Oid			base = getBaseType(type);
	Oid			element = get_element_type(base);
	Oid			relid = get_typ_typrelid(OidIsValid(element) ? getBaseType(element) : base);

	return OidIsValid(relid) && get_rel_relkind(relid) != RELKIND_COMPOSITE_TYPE && mr_catalog_view(relid) == NULL;
}

/* a serialized state cannot hold what its type alone does not describe, or what is another type tomorrow */
static void
check_argument_types(const MrAggregateInfo *info, const Aggref *aggref)
{
	if (!mr_aggregate_info_is_sealed(info) || !info->polymorphic)
		return;
	for (int i = 0; i < info->nargs; i++)
	{
		if (is_row_of_table(info->argtypes[i]))
			mr_refuse(aggref->location,
					  errmsg("argument of row type %s of aggregate %s is not supported in a continuous view",
							 format_type_be(info->argtypes[i]), format_procedure(info->aggfnoid)),
					  errdetail("Columns can be added to the table, but not to rows that are kept."),
					  errhint("Use to_jsonb(), or cast a ROW() of some columns to a composite type that was created."));
		if (info->argtypes[i] == RECORDOID || info->argtypes[i] == RECORDARRAYOID)
			mr_refuse(aggref->location,
					  errmsg("argument of type %s of aggregate %s is not supported in a continuous view",
							 format_type_be(info->argtypes[i]), format_procedure(info->aggfnoid)),
					  errhint("Cast it to a composite type that was created, or use jsonb_build_array()."));
	}
}

/* info of an aggregate whose states can be kept; ERROR 0A000 when they cannot */
static void
read_keepable(MrAggregateInfo *info, const Aggref *aggref)
{
	mr_aggregate_info_read(info, aggref);
	if (!OidIsValid(info->combinefn))
		refuse_uncombinable(aggref);
	if (mr_aggregate_info_is_sealed(info) &&
		(!OidIsValid(info->serialfn) || !OidIsValid(info->deserialfn)))
		mr_refuse(aggref->location,
				  errmsg("aggregate %s is not supported in a continuous view",
						 format_procedure(aggref->aggfnoid)),
				  errdetail("Its state is of type internal, and it has no serialization functions."),
				  errhint("Use an aggregate with serialization functions (CREATE AGGREGATE ... (SERIALFUNC = ..., DESERIALFUNC = ...))."));
	check_argument_types(info, aggref);
}

Oid
mr_aggregate_state_type(const Aggref *aggref)
{
	MrAggregateInfo info;

	read_keepable(&info, aggref);
	return info.statetype;
}

Oid
mr_aggregate_partial_type(const Aggref *aggref)
{
	MrAggregateInfo info;

	mr_aggregate_info_read(&info, aggref);
	return mr_aggregate_info_is_sealed(&info) ? BYTEAOID : info.transtype;
}

void
mr_aggregate_init(MrAggregate *agg, Oid collation)
{
	MrAggregateInfo *info = &agg->info;
	Expr	   *expr;

	agg->collation = collation;
	get_typlenbyval(info->statetype, &agg->statelen, &agg->statebyval);

	mr_support_init(&agg->combine, info->combinefn, info);
	build_aggregate_transfn_expr(&info->transtype, 1, 0, false, info->transtype,
								 agg->collation, info->combinefn, InvalidOid, &expr, NULL);
	fmgr_info_set_expr((Node *) expr, &agg->combine);
	if (mr_aggregate_info_is_sealed(info))
	{
		mr_support_init(&agg->serialize, info->serialfn, info);
		mr_support_init(&agg->deserialize, info->deserialfn, info);
		agg->stamp = mr_aggregate_info_stamp(info);
	}
	agg->context = makeNode(ExprContext);
	agg->aggstate = mr_support_aggstate(agg->context);
}

MrAggregate *
mr_aggregate_create(const Aggref *aggref)
{
	MrAggregate *agg = palloc0(sizeof(MrAggregate));

	read_keepable(&agg->info, aggref);
	mr_aggregate_init(agg, aggref->inputcollid);
	return agg;
}

Datum
mr_aggregate_load(MrAggregate *agg, Datum state)
{
	if (!mr_aggregate_info_is_sealed(&agg->info))
		return datumCopy(state, agg->statebyval, agg->statelen);
	return mr_support_deserialize(&agg->info, &agg->deserialize, agg->aggstate, agg->stamp, state);
}

Datum
mr_aggregate_store(MrAggregate *agg, Datum state, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 1);

	if (!mr_aggregate_info_is_sealed(&agg->info))
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
	return mr_aggregate_info_is_sealed(&agg->info);
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
	fcinfo->args[0].value = a_null ? (Datum) 0 : mr_aggregate_load(agg, a);
	fcinfo->args[0].isnull = a_null;
	if (b_null || !mr_aggregate_info_is_sealed(&agg->info))
		fcinfo->args[1].value = b_null ? (Datum) 0 : b;
	else
		fcinfo->args[1].value = mr_aggregate_load(agg, b);
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
	mr_support_use_memory(agg->context, CurrentMemoryContext);
	result = call_combine(agg, a, a_null, b, b_null, isnull);
	result = mr_aggregate_store(agg, result, isnull);
	run_callbacks(agg->context);
	return result;
}

Datum
mr_aggregate_initial(MrAggregate *agg, bool *isnull)
{
	Datum		state = mr_aggregate_info_initial(&agg->info, isnull);

	mr_support_use_memory(agg->context, CurrentMemoryContext);
	return mr_aggregate_store(agg, state, isnull);
}
