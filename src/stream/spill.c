/*
 * stream/spill.c
 *		A sequence of bytes of any length: written at the end, cut off there, read once
 *		from the beginning.
 *
 * The last few megabytes are in memory, what is before them in a temporary file, which
 * temp_file_limit and temp_tablespaces apply to.  The file belongs to the top transaction's
 * resource owner, whatever subtransaction creates it, because a subtransaction that ends
 * must not take with it what was written before.  Nothing is ever left to be written: what a
 * failed write had in hand must not fail once more when the file is closed, for then the messages
 * may be committed.  So it is no BufFile; the tail is buffer enough, and reading has a small one.
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
#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/wait_event.h"

#define INITIAL_TAIL	4096
#define MAX_TAIL		(4 * 1024 * 1024)
#define READ_BUFFER		(64 * 1024)

/* Bytes in one call to the file. */
#define MAX_IO			(1024 * 1024 * 1024)

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
	File		file;			/* -1: none needed yet */
	uint64		file_length;	/* bytes of the sequence in the file; it may
								 * be longer */
	char	   *tail;			/* the bytes behind these */
	size_t		tail_length;
	size_t		tail_size;
	uint64		read_at;
	char	   *buffer;			/* bytes of the file; NULL: none read yet */
	uint64		buffer_at;
	size_t		buffer_length;
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
	spill->file = -1;
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
	ResourceOwner old_owner = CurrentResourceOwner;

	PrepareTempTablespaces();
	CurrentResourceOwner = TopTransactionResourceOwner;
	PG_TRY();
	{
		spill->file = OpenTemporaryFile(false);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = old_owner;
	}
	PG_END_TRY();
}

/* Move bytes to the end of the file.  If that fails, the sequence is as before. */
static void
write_file(MrSpill *spill, const char *data, size_t len)
{
	size_t		done = 0;

	if (spill->file < 0)
		create_file(spill);
	spill->buffer_length = 0;
	while (done < len)
	{
		int			n;

		errno = 0;
		n = FileWrite(spill->file, unconstify(char *, data + done), Min(len - done, MAX_IO),
					  spill->file_length + done, WAIT_EVENT_BUFFILE_WRITE);
		if (n <= 0)
		{
			/* the kernel does not say why it has written less */
			errno = errno == 0 ? ENOSPC : errno;
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not write to temporary file: %m")));
		}
		done += n;
	}
	spill->file_length += len;
}

/* All of them must be there. */
static void
read_file(MrSpill *spill, char *data, size_t len, uint64 offset)
{
	while (len > 0)
	{
		int			n = FileRead(spill->file, data, Min(len, MAX_IO), offset, WAIT_EVENT_BUFFILE_READ);

		if (n < 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read from temporary file: %m")));
		if (n == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("could not read from temporary file: it ends too early")));
		data += n;
		len -= n;
		offset += n;
	}
}

/* The same, through the buffer. */
static void
read_buffered(MrSpill *spill, char *data, size_t len, uint64 offset)
{
	while (len > 0)
	{
		size_t		there = 0;

		if (offset >= spill->buffer_at && offset < spill->buffer_at + spill->buffer_length)
			there = Min(len, spill->buffer_at + spill->buffer_length - offset);
		if (there == 0)
		{
			if (spill->buffer == NULL)
				spill->buffer = MemoryContextAlloc(spill->context, READ_BUFFER);
			spill->buffer_length = 0;
			spill->buffer_at = offset;
			there = Min(READ_BUFFER, spill->file_length - offset);
			read_file(spill, spill->buffer, there, offset);
			spill->buffer_length = there;
			continue;
		}
		memcpy(data, spill->buffer + (offset - spill->buffer_at), there);
		data += there;
		len -= there;
		offset += there;
	}
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
}

void
mr_spill_read(MrSpill *spill, void *data, size_t len)
{
	size_t		from_file = 0;

	Assert(spill->read_at + len <= mr_spill_length(spill));
	if (spill->read_at < spill->file_length)
	{
		from_file = Min(len, spill->file_length - spill->read_at);
		if (from_file < READ_BUFFER)
			read_buffered(spill, data, from_file, spill->read_at);
		else
			read_file(spill, data, from_file, spill->read_at);
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
	if (spill->file >= 0)
		FileClose(spill->file);
	spill->file = -1;
	spill->buffer_length = 0;
	mr_spill_clear(spill);
}
