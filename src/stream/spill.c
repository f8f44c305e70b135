/*
 * stream/spill.c
 *		A sequence of bytes of any length: written at the end, cut off there, read once
 *		from the beginning.
 *
 * The last few megabytes are in memory, what is before them in a temporary file, which
 * temp_file_limit and temp_tablespaces apply to.  The file belongs to the top transaction's
 * resource owner, whatever subtransaction creates it, because a subtransaction that ends
 * must not take with it what was written before.
 *
 * Subtransactions.  The length is remembered when a subtransaction writes for the first time;
 * if that aborts, the sequence is cut off there.  A mark that commits becomes its parent's.
 *
 * Cutting off only moves the ends: the file is not touched until it is written next, so
 * that it can be done while a subtransaction aborts.
 */
#include "millrace.h"

#include "stream/spill.h"

#include "commands/tablespace.h"
#include "storage/buffile.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#define INITIAL_TAIL	4096
#define MAX_TAIL		(4 * 1024 * 1024)

/* what there was when a subtransaction of that level began to write */
typedef struct Mark
{
	int			level;
	uint64		length;
	uint64		nitems;
} Mark;

struct MrSpill
{
	MemoryContext context;
	BufFile    *file;			/* NULL: none needed yet */
	uint64		file_length;	/* bytes of the sequence in the file; it may
								 * be longer */
	char	   *tail;			/* the bytes behind these */
	size_t		tail_length;
	size_t		tail_size;
	uint64		read_at;
	uint64		nitems;
	int			nmarks;			/* by level, ascending; none for the top
								 * transaction */
	int			marks_size;
	Mark	   *marks;
};


MrSpill *
mr_spill_create(void)
{
	MrSpill    *spill = palloc0(sizeof(MrSpill));

	spill->context = CurrentMemoryContext;
	spill->tail_size = INITIAL_TAIL;
	spill->tail = palloc(spill->tail_size);
	return spill;
}

uint64
mr_spill_length(const MrSpill *spill)
{
	return spill->file_length + spill->tail_length;
}

uint64
mr_spill_items(const MrSpill *spill)
{
	return spill->nitems;
}

static void
create_file(MrSpill *spill)
{
	MemoryContext old_context = MemoryContextSwitchTo(spill->context);
	ResourceOwner old_owner = CurrentResourceOwner;

	PrepareTempTablespaces();
	CurrentResourceOwner = TopTransactionResourceOwner;
	PG_TRY();
	{
		spill->file = BufFileCreateTemp(false);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = old_owner;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old_context);
}

static void
seek_file(MrSpill *spill, uint64 offset)
{
	/* segments are the file's own business: it steps over them */
	if (BufFileSeek(spill->file, 0, (off_t) offset, SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not seek in temporary file: %m")));
}

/* Move bytes to the end of the file.  If that fails, the sequence is as before. */
static void
write_file(MrSpill *spill, const void *data, size_t len)
{
	if (spill->file == NULL)
		create_file(spill);
	seek_file(spill, spill->file_length);
	BufFileWrite(spill->file, unconstify(void *, data), len);
	spill->file_length += len;
}

static void
flush_tail(MrSpill *spill)
{
	if (spill->tail_length == 0)
		return;
	write_file(spill, spill->tail, spill->tail_length);
	spill->tail_length = 0;
}

void
mr_spill_append(MrSpill *spill, const void *data, size_t len)
{
	if (spill->tail_length + len > spill->tail_size && spill->tail_size < MAX_TAIL)
	{
		while (spill->tail_length + len > spill->tail_size && spill->tail_size < MAX_TAIL)
			spill->tail_size *= 2;
		spill->tail = repalloc(spill->tail, spill->tail_size);
	}
	if (spill->tail_length + len > spill->tail_size)
		flush_tail(spill);
	if (len > spill->tail_size)
	{
		write_file(spill, data, len);
		return;
	}
	memcpy(spill->tail + spill->tail_length, data, len);
	spill->tail_length += len;
}

/* Before the current (sub)transaction writes: remember where it begins to. */
static void
mark_subtransaction(MrSpill *spill)
{
	int			level = GetCurrentTransactionNestLevel();

	if (level <= 1 || (spill->nmarks > 0 && spill->marks[spill->nmarks - 1].level >= level))
		return;
	if (spill->nmarks == spill->marks_size)
	{
		spill->marks_size = Max(spill->marks_size * 2, 8);
		spill->marks = spill->marks == NULL ?
			MemoryContextAlloc(spill->context, spill->marks_size * sizeof(Mark)) :
			repalloc(spill->marks, spill->marks_size * sizeof(Mark));
	}
	spill->marks[spill->nmarks].level = level;
	spill->marks[spill->nmarks].nitems = spill->nitems;
	spill->marks[spill->nmarks++].length = mr_spill_length(spill);
}

void
mr_spill_begin_item(MrSpill *spill)
{
	mark_subtransaction(spill);
	spill->nitems++;
}

static void
cut_off(MrSpill *spill, uint64 length, uint64 nitems)
{
	Assert(length <= mr_spill_length(spill));
	if (length >= spill->file_length)
		spill->tail_length = length - spill->file_length;
	else
	{
		spill->file_length = length;
		spill->tail_length = 0;
	}
	spill->nitems = nitems;
}

void
mr_spill_clear(MrSpill *spill)
{
	cut_off(spill, 0, 0);
	spill->nmarks = 0;
}

static void
commit_marks(MrSpill *spill, int level)
{
	Mark	   *last = spill->nmarks > 0 ? &spill->marks[spill->nmarks - 1] : NULL;

	if (last == NULL || last->level < level)
		return;
	if (level - 1 <= 1 || (spill->nmarks > 1 && last[-1].level >= level - 1))
		spill->nmarks--;
	else
		last->level = level - 1;
}

static void
abort_marks(MrSpill *spill, int level)
{
	while (spill->nmarks > 0 && spill->marks[spill->nmarks - 1].level >= level)
	{
		const Mark *mark = &spill->marks[--spill->nmarks];

		cut_off(spill, mark->length, mark->nitems);
	}
}

void
mr_spill_end_subtransaction(MrSpill *spill, SubXactEvent event)
{
	int			level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_COMMIT_SUB)
		commit_marks(spill, level);
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		abort_marks(spill, level);
}

void
mr_spill_rewind(MrSpill *spill)
{
	spill->read_at = 0;
	if (spill->file_length > 0)
		seek_file(spill, 0);
}

void
mr_spill_read(MrSpill *spill, void *data, size_t len)
{
	size_t		from_file = 0;

	Assert(spill->read_at + len <= mr_spill_length(spill));
	if (spill->read_at < spill->file_length)
	{
		from_file = Min(len, spill->file_length - spill->read_at);
		if (BufFileRead(spill->file, data, from_file) != from_file)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read from temporary file: %m")));
	}
	if (from_file < len)
		memcpy((char *) data + from_file,
			   spill->tail + (spill->read_at + from_file - spill->file_length),
			   len - from_file);
	spill->read_at += len;
}

uint64
mr_spill_position(const MrSpill *spill)
{
	return spill->read_at;
}

void
mr_spill_close(MrSpill *spill)
{
	if (spill->file != NULL)
		BufFileClose(spill->file);
	spill->file = NULL;
	mr_spill_clear(spill);
}
