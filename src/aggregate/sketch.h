/*
 * aggregate/sketch.h
 *		Sketches as types of their own: input and output, numbers of variable length.
 */
#ifndef MR_AGGREGATE_SKETCH_H
#define MR_AGGREGATE_SKETCH_H

#include "millrace.h"

#include "aggregate/value.h"
#include "fmgr.h"
#include "lib/stringinfo.h"

/* ERROR when bytes are not a sketch of the type at hand */
typedef void (*MrSketchCheck) (const bytea *bytes);

/* a type's input function: hexadecimal, as bytea's */
extern Datum mr_sketch_in(FunctionCallInfo fcinfo, MrSketchCheck check);

/* a type's receive function */
extern Datum mr_sketch_recv(FunctionCallInfo fcinfo, MrSketchCheck check);

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
