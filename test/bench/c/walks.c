/*
 * The page walk of @trapdoor/core in C: one loop over levels that are data, for 4 and 5 of them, with reserved bits, rights, protection key,
 * permission and accessed/dirty flags, MAXPHYADDR 46, EFER.NXE on; over flat memory, and over a directory of regions of 512 frames.
 * Maps 4 GiB at 0x7f0000000000 with 4 KiB pages, and the same with 2 MiB pages at 0x7e0000000000.
 */
#include "bench.h"

#define ADDRESSES 32768
#define WINDOWS 300
#define BASE_4K 0x7f0000000000ull
#define BASE_2M 0x7e0000000000ull
#define BYTES (4ull << 30)
#define FLAT_BYTES (64ull << 20)
#define BEYOND 0x000fc00000000000ull

struct level {
	uint64_t pointer_flags, leaf_bit, reserved, leaf_reserved, within;
	int shift;
};

struct walker {
	const struct level *levels;
	int depth;
	unsigned rights;
	uint64_t root, leaf, common, frame;
};

struct region {
	uint64_t *frames[512];
};

static uint64_t *flat;
static struct region *regions[1 << 15];
static uint64_t zero_frame[512];
static uint64_t next_frame;
/* Bit n: rights n (1 writable, 2 user, 4 no-execute) allow a supervisor's read, write, execution with CR0.WP. */
static const uint8_t allowed[3] = {0xff, 0xaa, 0x0f};

static inline __attribute__((always_inline)) uint64_t *locate(uint64_t table, int sparse)
{
	if (!sparse)
		return table < FLAT_BYTES ? flat + table / 8 : zero_frame;
	uint64_t frame = table >> 12;
	struct region *region = frame < (1 << 24) ? regions[frame >> 9] : NULL;
	uint64_t *words = region ? region->frames[frame & 511] : NULL;
	return words ? words : zero_frame;
}

static inline __attribute__((always_inline)) int walk(struct walker *w, uint64_t address, int sparse)
{
	const struct level *level = w->levels;
	uint64_t table = w->root, common = ~0ull, no_execute = 0, entry;

	for (;; level++) {
		entry = locate(table, sparse)[(address >> level->shift) & 511];
		common &= entry;
		no_execute |= entry;
		if ((entry & level->pointer_flags) != P || (entry & level->reserved))
			break;
		table = entry & ADDRESS;
	}
	w->depth = (int)(level - w->levels);
	w->leaf = entry;
	w->common = common;
	if (!(entry & P))
		return 1;
	if (!(entry & level->leaf_bit) || (entry & (level->reserved | level->leaf_reserved)))
		return 2;
	w->rights = ((common >> 1) & 3) | (no_execute >> 63) << 2 | ((entry >> 56) & 0x78);
	w->frame = ((entry & ADDRESS & ~level->within) | (address & level->within)) >> 12;
	return 0;
}

static inline __attribute__((always_inline)) void mark_used(struct walker *w, uint64_t address, int write, int sparse)
{
	if ((!write || (w->leaf & D)) && (w->common & A))
		return;
	uint64_t table = w->root;
	for (int depth = 0; depth <= w->depth; depth++) {
		uint64_t *at = locate(table, sparse) + ((address >> w->levels[depth].shift) & 511);

		*at |= depth == w->depth && write ? A | D : A;
		table = *at & ADDRESS;
	}
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
	return frame << 12;
}

static uint64_t build(const struct level *levels, int count, int sparse)
{
	next_frame = 1;
	uint64_t root = new_table(sparse);

	for (uint64_t offset = 0; offset < 2 * BYTES;) {
		int large = offset >= BYTES;
		uint64_t target = large ? offset - BYTES : offset;
		uint64_t address = (large ? BASE_2M : BASE_4K) + target, table = root;
		int leaf = large ? count - 2 : count - 1;

		for (int depth = 0; depth < leaf; depth++) {
			uint64_t *at = locate(table, sparse) + ((address >> levels[depth].shift) & 511);

			if (!(*at & P))
				*at = new_table(sparse) | P | RW | US | A | D;
			table = *at & ADDRESS;
		}
		locate(table, sparse)[(address >> levels[leaf].shift) & 511] = target | P | RW | A | D | (large ? PS : 0);
		offset += large ? 1 << 21 : 1 << 12;
	}
	return root;
}

static inline __attribute__((always_inline)) void measure(const char *name, struct walker *w, const uint64_t *addresses, int sparse)
{
	double fastest = 1e300;
	uint64_t sum = 0;

	for (int window = 0; window < WINDOWS; window++) {
		double start = now(), time;

		sum = 0;
		for (int i = 0; i < ADDRESSES; i++) {
			int kind = i & 1;

			if (walk(w, addresses[i], sparse) || !(allowed[kind] & (1u << (w->rights & 7))))
				exit(1);
			mark_used(w, addresses[i], kind == 1, sparse);
			sum += w->frame;
		}
		time = now() - start;
		if (time < fastest)
			fastest = time;
	}
	print_row(name, fastest / ADDRESSES, sum);
}

int main(void)
{
	static uint64_t addresses[4][ADDRESSES];
	static const char *patterns[4] = {"sequential", "local", "random", "random-2M"};
	static struct level levels[5];

	for (int depth = 0; depth < 5; depth++) {
		int shift = 48 - 9 * depth;
		uint64_t leaf_bit = depth < 2 ? 0 : depth == 4 ? P : PS;

		levels[depth] = (struct level){
			.pointer_flags = depth == 4 ? 0 : P | PS,
			.leaf_bit = leaf_bit,
			.reserved = BEYOND,
			.leaf_reserved = depth == 2 ? 0x3fffe000ull : depth == 3 ? 0x1fe000ull : 0,
			.within = (1ull << shift) - 1,
			.shift = shift,
		};
	}
	random_state = 1;
	for (int i = 0; i < ADDRESSES; i++) {
		addresses[0][i] = BASE_4K + (uint64_t)i * 64;
		addresses[1][i] = BASE_4K + random_below(8388608.0);
		addresses[2][i] = BASE_4K + random_below(4294967296.0);
		addresses[3][i] = BASE_2M + random_below(4294967296.0);
	}
	flat = calloc(FLAT_BYTES / 8, 8);
	for (int count = 4; count <= 5; count++)
		for (int sparse = 0; sparse < 2; sparse++) {
			struct walker w = {.levels = levels + 5 - count};

			w.root = build(w.levels, count, sparse);
			for (int pattern = 0; pattern < 4; pattern++) {
				char name[64];

				snprintf(name, sizeof name, "%s/%d-level/%s", sparse ? "sparse" : "flat", count, patterns[pattern]);
				if (sparse)
					measure(name, &w, addresses[pattern], 1);
				else
					measure(name, &w, addresses[pattern], 0);
			}
		}
	return 0;
}
