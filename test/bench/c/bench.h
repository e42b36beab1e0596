/*
 * What the C programs of the benchmark share: the clock, the pseudo-random numbers that the TypeScript side draws too, and the
 * line that a row is printed as: name, nanoseconds of one operation in the fastest window, checksum.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define P 0x1ull
#define RW 0x2ull
#define US 0x4ull
#define A 0x20ull
#define D 0x40ull
#define PS 0x80ull
#define ADDRESS 0x000ffffffffff000ull

static inline double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static uint32_t random_state;

/* A number below limit: the generator of random.ts. */
static inline uint64_t random_below(double limit)
{
	random_state = random_state * 1664525u + 1013904223u;
	return (uint64_t)(random_state / 4294967296.0 * limit);
}

static inline void print_row(const char *name, double nanoseconds, uint64_t checksum)
{
	printf("%s %.4f %llu\n", name, nanoseconds, (unsigned long long)checksum);
}
