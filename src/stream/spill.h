/*
 * stream/spill.h
 *		A sequence of bytes of any length: written at the end, cut off there, read once
 *		from the beginning.  Follows subtransactions.
 */
#ifndef MR_STREAM_SPILL_H
#define MR_STREAM_SPILL_H

#include "millrace.h"

#include "access/xact.h"

typedef struct MrSpill MrSpill;

/* Lives in the current context; at most until the end of the top transaction. */
extern MrSpill *mr_spill_create(void);
extern uint64 mr_spill_length(const MrSpill *spill);

/*
 * An item is what is appended after _begin_item; it belongs to the current subtransaction.
 * _items: how many there are.
 */
extern void mr_spill_begin_item(MrSpill *spill);
extern void mr_spill_append(MrSpill *spill, const void *data, size_t len);
extern uint64 mr_spill_items(const MrSpill *spill);

/*
 * Empty it; and, for a SubXactCallback: the current subtransaction's items become its
 * parent's, or are cut off.  Neither throws or does I/O.
 */
extern void mr_spill_clear(MrSpill *spill);
extern void mr_spill_end_subtransaction(MrSpill *spill, SubXactEvent event);

/* After rewind, read; nothing may be appended any more. */
extern void mr_spill_rewind(MrSpill *spill);
extern void mr_spill_read(MrSpill *spill, void *data, size_t len);
extern uint64 mr_spill_position(const MrSpill *spill);

/* Must be called before the top transaction commits; when it aborts, that is done. */
extern void mr_spill_close(MrSpill *spill);

#endif							/* MR_STREAM_SPILL_H */
