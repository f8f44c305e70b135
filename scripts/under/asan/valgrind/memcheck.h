/*
 * memcheck.h - what PostgreSQL tells valgrind about its memory, told to
 * AddressSanitizer instead.
 *
 * AddressSanitizer knows malloc, but palloc hands out pieces of large blocks:
 * without help it takes a read behind a palloc'd chunk, or of one that was freed,
 * for a good one.  A server that is built with USE_VALGRIND marks its chunks and
 * pinned buffers by these macros; with this header in the place of valgrind's own
 * the marks become poisoned memory, and an instrumented extension that
 * touches it is reported.  What valgrind knows beyond that (is it initialized?)
 * AddressSanitizer does not.
 */
#ifndef MILLRACE_ASAN_MEMCHECK_H
#define MILLRACE_ASAN_MEMCHECK_H

#include <sanitizer/asan_interface.h>

#include "valgrind.h"

#define VALGRIND_MAKE_MEM_NOACCESS(addr, size)		ASAN_POISON_MEMORY_REGION(addr, size)
#define VALGRIND_MAKE_MEM_UNDEFINED(addr, size)		ASAN_UNPOISON_MEMORY_REGION(addr, size)
#define VALGRIND_MAKE_MEM_DEFINED(addr, size)		ASAN_UNPOISON_MEMORY_REGION(addr, size)
#define VALGRIND_CHECK_MEM_IS_DEFINED(addr, size)	((void) 0)
#define VALGRIND_GET_VBITS(addr, bits, size)		((void) 0)

/* Pools: a chunk that is freed was marked before, by wipe_mem(). */
#define VALGRIND_CREATE_MEMPOOL(pool, redzone, zeroed)	((void) 0)
#define VALGRIND_DESTROY_MEMPOOL(pool)				((void) 0)
#define VALGRIND_MEMPOOL_ALLOC(pool, addr, size)	ASAN_UNPOISON_MEMORY_REGION(addr, size)
#define VALGRIND_MEMPOOL_FREE(pool, addr)			((void) 0)
#define VALGRIND_MEMPOOL_CHANGE(pool, from, to, size)	ASAN_UNPOISON_MEMORY_REGION(to, size)

#endif
