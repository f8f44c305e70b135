/*
 * view/aggregate_info.c
 *		What the catalogs say of an aggregate, resolved for one call's argument types.
 *
 * Which call is told by an Aggref of a view's query, or by a call of one of our SQL functions,
 * whose arguments then have the types of the aggregate's.  The latter can be made by anyone with
 * anything, so it is checked against pg_aggregate.
 */
#include "millrace.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parse_agg.h"
#include "parser/parse_coerce.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "view/aggregate_info.h"
#include "view/state.h"

static void
read_pg_proc(MrAggregateInfo *info)
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
	info->variadic = form->provariadic == ANYOID;
	info->resulttype = form->prorettype;
	ReleaseSysCache(tuple);
}

static void
read_pg_aggregate(MrAggregateInfo *info)
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

bool
mr_aggregate_info_needs_arguments(const MrAggregateInfo *info)
{
	return info->finalextra || info->polymorphic;
}

/* put actual types in the place of polymorphic ones; argtypes must be known */
static void
resolve_types(MrAggregateInfo *info)
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

void
mr_aggregate_info_read_alone(MrAggregateInfo *info, Oid aggfnoid)
{
	memset(info, 0, sizeof(MrAggregateInfo));
	info->aggfnoid = aggfnoid;
	read_pg_proc(info);
	read_pg_aggregate(info);
	info->polymorphic = IsPolymorphicType(info->transtype) ||
		IsPolymorphicType(info->resulttype) ||
		(info->transtype == INTERNALOID && has_polymorphic_argument(aggfnoid));
}

bool
mr_aggregate_info_is_sealed(const MrAggregateInfo *info)
{
	return info->transtype == INTERNALOID;
}

static void
set_state_type(MrAggregateInfo *info)
{
	info->statetype = mr_aggregate_info_is_sealed(info) ? mr_state_type() : info->transtype;
}

/*
 * Do the aggregate's states tell the types of their values by name, and do its functions check
 * them?  Those that collect values do.
 */
static bool
names_types(const MrAggregateInfo *info)
{
	return OidIsValid(info->deserialfn) &&
		get_func_namespace(info->deserialfn) == mr_catalog_schema_oid() &&
		strcmp(get_func_name(info->deserialfn), "collection_read") == 0;
}

/*
 * User-defined types that the states name themselves are left out, since their OIDs do not
 * outlive a dump.
 */
uint64
mr_aggregate_info_stamp(const MrAggregateInfo *info)
{
	Oid			functions[] = {info->transfn, info->deserialfn, info->finalfn};
	Oid			types[FUNC_MAX_ARGS];
	const bool	named = names_types(info);

	for (int i = 0; i < info->nargs; i++)
		types[i] = named && info->argtypes[i] >= FirstNormalObjectId ? InvalidOid : info->argtypes[i];
	return mr_state_stamp(functions, lengthof(functions), types,
						  info->polymorphic ? info->nargs : 0);
}

void
mr_aggregate_info_read(MrAggregateInfo *info, const Aggref *aggref)
{
	ListCell   *lc;

	mr_aggregate_info_read_alone(info, aggref->aggfnoid);
	foreach(lc, aggref->aggargtypes)
		info->argtypes[info->nargs++] = lfirst_oid(lc);
	if (info->polymorphic)
		resolve_types(info);
	info->resulttype = aggref->aggtype;
	set_state_type(info);
}

void
mr_aggregate_info_check_execute(const MrAggregateInfo *info)
{
	AclResult	acl = mr_function_execute(info->aggfnoid, GetUserId());

	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_AGGREGATE, get_func_name(info->aggfnoid));
	InvokeFunctionExecuteHook(info->aggfnoid);
}

/* argument types of the aggregate, from the call's own arguments from first on */
static void
take_argument_types(MrAggregateInfo *info, FunctionCallInfo fcinfo, int first)
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
	if (!mr_aggregate_info_needs_arguments(info))
		return;
	if (info->nargs < ndeclared || (info->nargs > ndeclared && !info->variadic) ||
		get_fn_expr_variadic(fcinfo->flinfo) ||
		!can_coerce_type(ndeclared, info->argtypes, declared, COERCION_IMPLICIT))
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("%s() of aggregate %s needs nulls of the types of its arguments",
					   get_func_name(fcinfo->flinfo->fn_oid), format_procedure(info->aggfnoid)));
	resolve_types(info);
}

void
mr_aggregate_info_read_call(MrAggregateInfo *info, FunctionCallInfo fcinfo, Oid aggfnoid, int first)
{
	mr_aggregate_info_read_alone(info, aggfnoid);
	mr_aggregate_info_check_execute(info);
	take_argument_types(info, fcinfo, first);
	set_state_type(info);
}

void
mr_aggregate_info_check_state(const MrAggregateInfo *info, Oid state)
{
	if (state != info->statetype)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("state of aggregate %s is of type %s, not %s",
					   format_procedure(info->aggfnoid),
					   format_type_be(info->statetype), format_type_be(state)),
				errhint("If a continuous view holds it, the aggregate has other states than when the view was created: drop the view and create it again."));
}

Datum
mr_aggregate_info_initial(const MrAggregateInfo *info, bool *isnull)
{
	Oid			input;
	Oid			ioparam;

	*isnull = !info->has_initial;
	if (*isnull)
		return (Datum) 0;
	getTypeInputInfo(info->transtype, &input, &ioparam);
	return OidInputFunctionCall(input, info->initial, ioparam, -1);
}
