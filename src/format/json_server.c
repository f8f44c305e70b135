/*
 * json_server.c
 *		Values that only the server's own machinery can build from JSON.
 *
 * Scalars go through the type's input function.  Arrays and composites go through
 * json_to_record, called with a row type of the one column, so whatever json_populate_record
 * does with them is done here.
 *
 * json_to_record keeps what it knows of composite types between calls, and would not notice
 * that one was altered.  So that memory is a context of its own, emptied whenever another
 * transaction has begun.
 */
#include "postgres.h"

#include "format/json_server.h"
#include "format/json_text.h"
#include "format/reject.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "nodes/execnodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

struct MrServerType
{
	const MrColumn *column;
	Oid			type;
	int32		typmod;
	bool		nested;

	/* for scalars */
	FmgrInfo	input;
	Oid			ioparam;

	/* for arrays and composites */
	FmgrInfo	populate;
	MemoryContext populate_context; /* what populate keeps */
	TimestampTz transaction;	/* begin of the one it was kept in */
	TupleDesc	row;			/* its only column has our column's name */
	StringInfoData prefix;		/* {"name": */
};

static bool
is_nested(Oid type)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Form_pg_type form;
	bool		result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	form = (Form_pg_type) GETSTRUCT(tuple);
	result = form->typtype == TYPTYPE_COMPOSITE || IsTrueArrayType(form);
	ReleaseSysCache(tuple);
	return result;
}

static void
prepare_populate(MrServerType *server)
{
	const MrColumn *column = server->column;

	server->populate_context = AllocSetContextCreate(CurrentMemoryContext,
													 "millrace json_to_record",
													 ALLOCSET_SMALL_SIZES);
	fmgr_info_cxt(F_JSON_TO_RECORD, &server->populate, server->populate_context);

	server->row = CreateTemplateTupleDesc(1);
	TupleDescInitEntry(server->row, 1, column->name, server->type, server->typmod, 0);
	TupleDescInitEntryCollation(server->row, 1, column->collation);
	server->row = BlessTupleDesc(server->row);

	initStringInfo(&server->prefix);
	appendStringInfoChar(&server->prefix, '{');
	mr_json_append_string(&server->prefix, column->name, strlen(column->name));
	appendStringInfoChar(&server->prefix, ':');
}

/* forget what was kept in an earlier transaction */
static void
refresh_populate(MrServerType *server)
{
	TimestampTz now = GetCurrentTransactionStartTimestamp();

	if (server->transaction == now)
		return;
	server->populate.fn_extra = NULL;
	MemoryContextReset(server->populate_context);
	server->transaction = now;
}

MrServerType *
mr_server_type_create(const MrColumn *column, Oid type, int32 typmod)
{
	MrServerType *server = palloc0(sizeof(MrServerType));

	server->column = column;
	server->type = type;
	server->typmod = typmod;
	server->nested = is_nested(type);
	if (server->nested)
		prepare_populate(server);
	else
	{
		Oid			function;

		getTypeInputInfo(type, &function, &server->ioparam);
		fmgr_info_cxt(function, &server->input, CurrentMemoryContext);
	}
	return server;
}

bool
mr_server_type_is_nested(const MrServerType *server)
{
	return server->nested;
}

bool
mr_server_input(MrServerType *server, const char *text, size_t len,
				Datum *value, MrReject *reject)
{
	ErrorData  *error;

	if (mr_input_function_call(&server->input, pnstrdup(text, len), server->ioparam,
							   server->typmod, value, &error))
		return true;
	return mr_reject(reject, error->sqlerrcode, "%s", mr_clip_message(error->message));
}

Datum
mr_server_populate(MrServerType *server, const char *json, size_t len, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 1);
	ReturnSetInfo rsinfo = {.type = T_ReturnSetInfo};
	StringInfoData object;
	HeapTupleHeader header;
	Datum		row;

	refresh_populate(server);
	initStringInfo(&object);
	appendBinaryStringInfo(&object, server->prefix.data, server->prefix.len);
	appendBinaryStringInfo(&object, json, len);
	appendStringInfoChar(&object, '}');

	/* the row type is taken from where a query would say AS (...) */
	rsinfo.expectedDesc = server->row;
	InitFunctionCallInfoData(*fcinfo, &server->populate, 1, InvalidOid, NULL, (Node *) &rsinfo);
	fcinfo->args[0].value = PointerGetDatum(cstring_to_text_with_len(object.data, object.len));
	fcinfo->args[0].isnull = false;
	row = FunctionCallInvoke(fcinfo);
	header = DatumGetHeapTupleHeader(row);
	return GetAttributeByNum(header, 1, isnull);
}
