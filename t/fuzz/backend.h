/*
 * t/fuzz/backend.h
 *		What the decoders need of a server, for a program without one.
 */
#ifndef MR_FUZZ_BACKEND_H
#define MR_FUZZ_BACKEND_H

/* what is allocated meanwhile is not freed by backend_free_all() */
extern bool backend_keep;

extern void backend_free_all(void);

#endif							/* MR_FUZZ_BACKEND_H */
