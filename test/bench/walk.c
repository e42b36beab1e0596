/*
 * The page walk of @trapdoor/core in C, as the yardstick of page-walk.ts: 4-level paging over flat memory with
 * reserved bits, rights, permission and accessed/dirty flags, MAXPHYADDR 46, EFER.NXE on.
 * Reads from stdin, as 64-bit little-endian words: bytes of memory, physical address of the root, number of workloads,
 * addresses in each, windows; then the memory; then the addresses of each workload.
 * Prints for each workload: nanoseconds a walk in the fastest window, and the sum of the frames.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define P 0x1ull
#define A 0x20ull
#define D 0x40ull
#define PS 0x80ull
#define ADDRESS 0x000ffffffffff000ull
/* Bits 51 to 46. */
#define BEYOND 0x000fc00000000000ull

static uint64_t *memory;
static uint64_t root;

static const uint64_t reserved[4] = {BEYOND | PS, BEYOND, BEYOND, BEYOND};
static const uint64_t leaf_reserved[4] = {0, 0x3fffe000ull, 0x1fe000ull, 0};
/* Bit n: rights n (1 writable, 2 user, 4 no-execute) allow a supervisor's read, write, execution with CR0.WP. */
static const uint8_t allowed[3] = {0xff, 0xaa, 0x0f};

/* The frame, or UINT64_MAX for a page fault. */
static inline uint64_t walk(uint64_t address, unsigned kind)
{
	uint64_t *path[4];
	uint64_t table = root, entry = 0;
	unsigned rights = 3;
	int depth, shift = 39;

	for (depth = 0;; depth++, shift -= 9) {
		uint64_t *at = memory + table / 8 + ((address >> shift) & 511);

		entry = *at;
		path[depth] = at;
		if (!(entry & P) || (entry & reserved[depth]))
			return UINT64_MAX;
		rights &= ((entry >> 1) & 3) | (rights & 4);
		rights |= (entry >> 63) << 2;
		if (depth == 3)
			break;
		if (depth > 0 && (entry & PS)) {
			if (entry & leaf_reserved[depth])
				return UINT64_MAX;
			break;
		}
		table = entry & ADDRESS;
	}
	if (!(allowed[kind] & (1u << rights)))
		return UINT64_MAX;
	for (int i = 0; i < depth; i++)
		if (!(*path[i] & A))
			*path[i] |= A;
	uint64_t flags = kind == 1 ? A | D : A;
	if ((entry & flags) != flags)
		*path[depth] |= flags;
	uint64_t size = (1ull << shift) - 1;
	return ((entry & ADDRESS & ~size) | (address & size)) >> 12;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static void read_words(uint64_t *words, uint64_t count)
{
	if (fread(words, 8, count, stdin) != count) {
		fputs("walk: input ended early\n", stderr);
		exit(1);
	}
}

int main(void)
{
	uint64_t header[5];

	read_words(header, 5);
	uint64_t bytes = header[0], workloads = header[2], count = header[3], windows = header[4];

	root = header[1];
	memory = malloc(bytes);
	uint64_t *addresses = malloc(count * 8);
	if (!memory || !addresses)
		return 1;
	read_words(memory, bytes / 8);
	for (uint64_t workload = 0; workload < workloads; workload++) {
		double fastest = 1e300;
		uint64_t sum = 0;

		read_words(addresses, count);
		for (uint64_t window = 0; window < windows; window++) {
			double start = now(), time;

			sum = 0;
			for (uint64_t i = 0; i < count; i++)
				sum += walk(addresses[i], i & 1);
			time = now() - start;
			if (time < fastest)
				fastest = time;
		}
		printf("%.3f %llu\n", fastest / (double)count, (unsigned long long)sum);
	}
	return 0;
}
