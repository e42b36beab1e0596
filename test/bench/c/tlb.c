/*
 * A hit in the TLB of @trapdoor/core in C: 256 direct-mapped slots with two tags, generations of the current context and of global translations,
 * the epoch of the page tables, and a permission table of 128 bits a kind of access. Everything that is asked for is held.
 */
#include "bench.h"

#define ACCESSES 32768
#define WINDOWS 300
#define BASE 0x7f0000000000ull
#define PAGES 200
#define SLOTS 256

struct tlb {
	double frame[SLOTS];
	uint32_t tag_low[SLOTS], tag_high[SLOTS], generation[SLOTS], flags[SLOTS], epoch[SLOTS];
	uint32_t current, global;
};

struct mmu {
	struct tlb tlb;
	uint32_t permissions[8 * 4];
	uint64_t hits;
	uint32_t *table_epoch;
};

static double __attribute__((noinline)) slow(struct mmu *mmu, uint64_t address, int kind)
{
	fprintf(stderr, "tlb: %llx is not held for %d\n", (unsigned long long)address, kind);
	(void)mmu;
	exit(1);
}

static inline double translate(struct mmu *mmu, uint64_t address, int kind)
{
	struct tlb *tlb = &mmu->tlb;
	uint32_t tag_low = (uint32_t)(address >> 12), tag_high = (uint32_t)(address >> 44), slot = tag_low & (SLOTS - 1);
	uint32_t generation = tlb->generation[slot];

	if (tlb->tag_low[slot] != tag_low || tlb->tag_high[slot] != tag_high ||
	    (generation != tlb->current && generation != tlb->global))
		return slow(mmu, address, kind);
	uint32_t flags = tlb->flags[slot], rights = flags & 0x7f;
	if (tlb->epoch[slot] != *mmu->table_epoch)
		return slow(mmu, address, kind);
	if (!(mmu->permissions[kind * 4 + (rights >> 5)] & (1u << (rights & 31))))
		return slow(mmu, address, kind);
	if (!(flags & 0x80) && ((0x92 >> kind) & 1))
		return slow(mmu, address, kind);
	mmu->hits++;
	return tlb->frame[slot];
}

static void measure(const char *name, struct mmu *mmu, const uint64_t *addresses)
{
	double fastest = 1e300, sum = 0;

	for (int window = 0; window < WINDOWS; window++) {
		double start = now(), time;

		sum = 0;
		for (int i = 0; i < ACCESSES; i++)
			sum += translate(mmu, addresses[i], i & 1);
		time = now() - start;
		if (time < fastest)
			fastest = time;
	}
	print_row(name, fastest / ACCESSES, (uint64_t)sum);
}

int main(void)
{
	static uint64_t addresses[2][ACCESSES];
	static struct mmu mmu;
	static uint32_t epoch;

	random_state = 1;
	for (int i = 0; i < ACCESSES; i++) {
		addresses[0][i] = BASE + (uint64_t)i * 64 % (PAGES * 4096);
		addresses[1][i] = BASE + random_below(PAGES * 4096.0);
	}
	mmu.table_epoch = &epoch;
	mmu.tlb.current = 2;
	mmu.tlb.global = 1;
	memset(mmu.permissions, 0xff, sizeof mmu.permissions);
	for (uint64_t page = 0; page < PAGES; page++) {
		uint64_t number = (BASE >> 12) + page, slot = number & (SLOTS - 1);

		mmu.tlb.tag_low[slot] = (uint32_t)number;
		mmu.tlb.tag_high[slot] = (uint32_t)(number >> 32);
		mmu.tlb.generation[slot] = 2;
		mmu.tlb.flags[slot] = 0x83 | 1u << 11;
		mmu.tlb.frame[slot] = (double)page;
	}
	measure("hit/4-level/sequential", &mmu, addresses[0]);
	measure("hit/4-level/random", &mmu, addresses[1]);
	measure("hit/5-level/sequential", &mmu, addresses[0]);
	measure("hit/5-level/random", &mmu, addresses[1]);
	return 0;
}
