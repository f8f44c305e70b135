/*
 * valgrind.h - nothing is running under valgrind; see memcheck.h beside this.
 */
#ifndef MILLRACE_ASAN_VALGRIND_H
#define MILLRACE_ASAN_VALGRIND_H

#define RUNNING_ON_VALGRIND					0
#define VALGRIND_COUNT_ERRORS				0
#define VALGRIND_PRINTF(...)				((void) 0)
#define VALGRIND_PRINTF_BACKTRACE(...)		((void) 0)

#endif
