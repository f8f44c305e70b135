/*
 * compat.h
 *		The only place that knows PG_VERSION_NUM: 15 is home, 16 to 18 are followed.
 */
#ifndef MR_COMPAT_H
#define MR_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "millrace needs PostgreSQL 15 or later"
#endif

#endif							/* MR_COMPAT_H */
