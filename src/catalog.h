/*
 * catalog.h
 *		Reading and writing millrace's own tables: what all parts of it share.
 *
 * Everything here runs in the caller's transaction, sees what is committed at the call,
 * and acts with the extension owner's rights whoever calls.
 */
#ifndef MR_CATALOG_H
#define MR_CATALOG_H

#include "millrace.h"

#include "executor/spi.h"

/*
 * A stretch of catalog access: extension owner's rights, a search_path of pg_catalog only,
 * SPI connected.  Results that outlive it are allocated in "caller".
 */
typedef struct MrCatalogScope
{
	MemoryContext caller;
	Oid			userid;
	int			sec_context;
	int			guc_level;
} MrCatalogScope;

extern void mr_catalog_begin(MrCatalogScope *scope);
extern void mr_catalog_end(MrCatalogScope *scope);

/*
 * Run one statement inside a scope; returns the SPI code and leaves SPI_tuptable and
 * SPI_processed.  sql must be a string literal: its plan is cached by address.  nulls as in
 * SPI_execute_plan, NULL: none.  A statement that only reads sees the latest snapshot.
 */
extern int	mr_catalog_run(const char *sql, bool read_only, int nargs, const Oid *types,
						   const Datum *values, const char *nulls);

/* one statement in a scope of its own, for those whose rows do not matter; how many there were */
extern int	mr_catalog_run_alone(const char *sql, int nargs, const Oid *types,
								 const Datum *values, const char *nulls);

/*
 * A query, as in _run, in a scope of its own, of one column of type oid or text.  _oids: that
 * of all rows.  _oid, _string: that of the first row; InvalidOid, NULL when there is none.
 */
extern List *mr_catalog_oids(const char *sql, int nargs, const Oid *types, const Datum *values);
extern Oid	mr_catalog_oid(const char *sql, int nargs, const Oid *types, const Datum *values);
extern char *mr_catalog_string(const char *sql, int nargs, const Oid *types, const Datum *values);

/*
 * Columns (from 1) of the rows (from 0) of the last statement, inside its scope.  _value throws
 * for null.  _text: a copy in a context; NULL for null.
 */
extern Datum mr_catalog_column(uint64 row, int col, bool *isnull);
extern Datum mr_catalog_value(uint64 row, int col);
extern char *mr_catalog_text(uint64 row, int col, MemoryContext context);

/* all columns of all rows, which are int8, row by row, in the scope's caller */
extern int64 *mr_catalog_int8_rows(const MrCatalogScope *scope, int ncolumns, int *nrows);

/* int8[] */
extern Datum mr_catalog_int8_array(const int64 *values, int n);

/*
 * Before rows of one of our tables are read or locked that will be written in this transaction: otherwise a
 * REINDEX could lock the table between the two, and wait for the index that we have read.
 */
extern void mr_catalog_lock_to_write(const char *table);

/*
 * A heavyweight lock on a row of one of our tables, until the end of the transaction: it queues, and
 * costs no WAL.  The second does not wait: false when somebody has what conflicts.
 */
extern void mr_catalog_lock_object(const char *table, Oid id, LOCKMODE mode);
extern bool mr_catalog_try_lock_object(const char *table, Oid id, LOCKMODE mode);

/* InvalidOid when the extension is not in this database */
extern Oid	mr_catalog_extension_oid(void);
extern Oid	mr_catalog_schema_oid(void);
extern Oid	mr_catalog_owner(void);

/* of a row, by its alias: does what it says of numbers hold in this database? */
#define MR_CATALOG_AT_HOME(row) \
	"millrace.is_home(" row ".home_cluster, " row ".home_database, " row ".home_extension)"

/* what is_home() knows this database by: int8, oid, oid; needs access/xlog.h and miscadmin.h */
#define MR_CATALOG_HERE \
	Int64GetDatum((int64) GetSystemIdentifier()), ObjectIdGetDatum(MyDatabaseId), \
	ObjectIdGetDatum(mr_catalog_extension_oid())

/*
 * Wake the processes that watch this database's catalog; takes effect when the current
 * transaction commits.
 */
extern void mr_catalog_changed(void);

#endif							/* MR_CATALOG_H */
