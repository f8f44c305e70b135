/*
 * aggregate/sketch.h
 *		Sketches as types of their own: input and output, what their aggregates have in common.
 */
#ifndef MR_AGGREGATE_SKETCH_H
#define MR_AGGREGATE_SKETCH_H

#include "millrace.h"

#include "aggregate/value.h"
#include "fmgr.h"
#include "lib/stringinfo.h"

/* one of them */
typedef struct MrSketchKind
{
	/*
	 * in the current context, and modifiable; ERROR when it is not a sketch
	 * of this kind
	 */
	void	   *(*read) (const bytea *bytes);
	bytea	   *(*write) (const void *sketch);

	/*
	 * what came to another one comes to this one, too; NULL: to a new one in
	 * context
	 */
	void	   *(*merge) (void *into, const void *from, MemoryContext context);

	/* a value comes, of which the hash is all that matters; NULL: others do */
	void		(*add_hash) (void *sketch, uint64 hash);

	/*
	 * ERROR when it is not a sketch of this kind, without the memory that
	 * reading it would take; NULL: read does not take more than the bytes
	 */
	void		(*check) (const bytea *bytes);
} MrSketchKind;

/* a type's input function: hexadecimal, as bytea's; and receive function */
extern Datum mr_sketch_in(FunctionCallInfo fcinfo, const MrSketchKind *kind);
extern Datum mr_sketch_recv(FunctionCallInfo fcinfo, const MrSketchKind *kind);

/*
 * Support functions of its aggregates: (internal, sketch); (internal, internal); serial, and
 * final of those that give a sketch; deserial.
 */
extern Datum mr_sketch_union_transition(FunctionCallInfo fcinfo, const MrSketchKind *kind);
extern Datum mr_sketch_combine(FunctionCallInfo fcinfo, const MrSketchKind *kind);
extern Datum mr_sketch_write(FunctionCallInfo fcinfo, const MrSketchKind *kind);
extern Datum mr_sketch_read(FunctionCallInfo fcinfo, const MrSketchKind *kind);

/* (sketch, sketch); (sketch, value): a null value adds nothing */
extern Datum mr_sketch_union(FunctionCallInfo fcinfo, const MrSketchKind *kind);
extern Datum mr_sketch_add(FunctionCallInfo fcinfo, const MrSketchKind *kind);

/*
 * The first bytes: a letter for the type, and a version.  Reading checks them.
 */
extern void mr_sketch_begin(StringInfo out, char type);
extern void mr_sketch_open(StringInfo in, const bytea *bytes, char type);
extern bytea *mr_sketch_end(StringInfo out);

/* seven bits per byte, the low ones first */
extern void mr_write_number(StringInfo out, uint64 number);
extern uint64 mr_read_number(StringInfo in);

/* the type of an argument that is hashed, remembered by the call */
extern const MrValueType *mr_hashed_argument(FunctionCallInfo fcinfo, int arg);

/* another hash that is independent of the first one, and of others with another n */
static inline uint64
mr_hash_again(uint64 hash, uint32 n)
{
	hash += (n + UINT64CONST(1)) * UINT64CONST(0x9e3779b97f4a7c15);
	hash = (hash ^ (hash >> 30)) * UINT64CONST(0xbf58476d1ce4e5b9);
	hash = (hash ^ (hash >> 27)) * UINT64CONST(0x94d049bb133111eb);
	return hash ^ (hash >> 31);
}

#endif							/* MR_AGGREGATE_SKETCH_H */
