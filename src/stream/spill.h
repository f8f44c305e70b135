/*
 * stream/spill.h
 *		A sequence of bytes of any length: written at the end, cut off there, read once
 *		from the beginning.
 */
#ifndef MR_STREAM_SPILL_H
#define MR_STREAM_SPILL_H

#include "millrace.h"

typedef struct MrSpill MrSpill;

/* Lives in the current context; at most until the end of the top transaction. */
extern MrSpill *mr_spill_create(void);
extern uint64 mr_spill_length(const MrSpill *spill);
extern void mr_spill_append(MrSpill *spill, const void *data, size_t len);

/* length: not more than there is.  Never throws and does no I/O. */
extern void mr_spill_truncate(MrSpill *spill, uint64 length);

/* After rewind, read; nothing may be appended any more. */
extern void mr_spill_rewind(MrSpill *spill);
extern void mr_spill_read(MrSpill *spill, void *data, size_t len);
extern uint64 mr_spill_position(const MrSpill *spill);

/* Must be called before the top transaction commits; when it aborts, that is done. */
extern void mr_spill_close(MrSpill *spill);

#endif							/* MR_STREAM_SPILL_H */
