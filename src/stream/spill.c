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

void
mr_spill_truncate(MrSpill *spill, uint64 length)
{
	Assert(length <= mr_spill_length(spill));
	if (length >= spill->file_length)
		spill->tail_length = length - spill->file_length;
	else
	{
		spill->file_length = length;
		spill->tail_length = 0;
	}
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
	spill->file_length = 0;
	spill->tail_length = 0;
}
