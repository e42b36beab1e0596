/*
 * Bulk building of identity maps in C: the largest pages that are allowed, each table filled in one loop. In flat memory the tables of the last run are built over; in sparse
 * memory (regions of 512 frames) each frame is new. The checksum is the number of tables.
 */
#include "bench.h"

#define GIB (1ull << 30)
#define FLAT_BYTES (1ull << 28)

struct region {
	uint64_t *frames[512];
};

static uint64_t *flat;
static struct region *regions[1 << 15];
static uint64_t next_frame;

static inline uint64_t *locate(uint64_t frame, int sparse)
{
	return sparse ? regions[frame >> 9]->frames[frame & 511] : flat + frame * 512;
}

static uint64_t new_table(int sparse)
{
	uint64_t frame = next_frame++;

	if (sparse) {
		if (!regions[frame >> 9])
			regions[frame >> 9] = calloc(1, sizeof(struct region));
		regions[frame >> 9]->frames[frame & 511] = calloc(512, 8);
	} else {
		memset(flat + frame * 512, 0, 4096);
	}
	return frame;
}

static void drop_all(void)
{
	for (int r = 0; r < 1 << 15; r++) {
		if (!regions[r])
			continue;
		for (int f = 0; f < 512; f++)
			free(regions[r]->frames[f]);
		free(regions[r]);
		regions[r] = NULL;
	}
}

/* Maps bytes from 0 with pages of 1 << page_shift; a table that has an entry already is an error, as in core. */
static uint64_t build(uint64_t bytes, int page_shift, int sparse)
{
	next_frame = 1;
	uint64_t root = new_table(sparse);
	uint64_t flags = P | RW | A | D | (page_shift > 12 ? PS : 0);

	for (uint64_t address = 0; address < bytes;) {
		uint64_t frame = root;

		for (int shift = 39; shift > page_shift; shift -= 9) {
			uint64_t *at = locate(frame, sparse) + ((address >> shift) & 511);

			if (!(*at & P))
				*at = new_table(sparse) << 12 | P | RW | US | A | D;
			frame = (*at & ADDRESS) >> 12;
		}
		uint64_t *table = locate(frame, sparse), first = (address >> page_shift) & 511;
		uint64_t count = (bytes - address) >> page_shift;

		if (count > 512 - first)
			count = 512 - first;
		for (uint64_t i = first; i < first + count; i++, address += 1ull << page_shift) {
			if (table[i] & P)
				exit(1);
			table[i] = address | flags;
		}
	}
	return next_frame - 1;
}

static void measure(const char *name, uint64_t bytes, int page_shift, int windows, int sparse)
{
	double fastest = 1e300;
	uint64_t tables = 0;

	for (int window = 0; window < windows; window++) {
		double start = now(), time;

		tables = build(bytes, page_shift, sparse);
		time = now() - start;
		if (time < fastest)
			fastest = time;
		if (sparse)
			drop_all();
	}
	print_row(name, fastest, tables);
}

int main(void)
{
	flat = calloc(FLAT_BYTES / 8, 8);
	measure("flat/64GiB-4K", 64 * GIB, 12, 20, 0);
	measure("flat/64GiB-2M", 64 * GIB, 21, 2000, 0);
	measure("flat/64GiB-1G", 64 * GIB, 30, 20000, 0);
	measure("flat/64TiB-1G", 65536 * GIB, 30, 2000, 0);
	measure("sparse/64GiB-4K", 64 * GIB, 12, 2, 1);
	measure("sparse/64GiB-2M", 64 * GIB, 21, 200, 1);
	measure("sparse/64GiB-1G", 64 * GIB, 30, 2000, 1);
	measure("sparse/64TiB-1G", 65536 * GIB, 30, 200, 1);
	return 0;
}
