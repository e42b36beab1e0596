/*
 * Forks of sparse memory in C, as @trapdoor/core makes them: the directory of regions (512 frames each) is copied, and what is shared is copied when it is written: first the region's
 * list of frames, then the frame. Regions above 64 GiB stand in a short list.
 */
#include "bench.h"

#define NEAR_FRAMES (1ull << 24)
#define WRITES 1000

struct region {
	uint64_t *frames[512];
	uint8_t owned[512];
	const void *holder;
};

struct memory {
	struct region **near;
	uint64_t count;
	struct region *far[4];
	uint64_t far_number[4];
	int far_count;
};

static struct region *own_region(struct memory *m, uint64_t frame)
{
	uint64_t number = frame >> 9;
	struct region **at = NULL;

	if (frame < NEAR_FRAMES) {
		if (number >= m->count) {
			m->near = realloc(m->near, (number + 1) * sizeof *m->near);
			memset(m->near + m->count, 0, (number + 1 - m->count) * sizeof *m->near);
			m->count = number + 1;
		}
		at = m->near + number;
	} else {
		for (int i = 0; i < m->far_count; i++)
			if (m->far_number[i] == number)
				at = m->far + i;
		if (!at) {
			m->far_number[m->far_count] = number;
			at = m->far + m->far_count++;
			*at = NULL;
		}
	}
	if (*at && (*at)->holder == m)
		return *at;
	struct region *copy = calloc(1, sizeof *copy);
	if (*at)
		memcpy(copy->frames, (*at)->frames, sizeof copy->frames);
	copy->holder = m;
	return *at = copy;
}

static void write32(struct memory *m, uint64_t frame, uint32_t value)
{
	struct region *region = own_region(m, frame);
	int i = frame & 511;

	if (!region->frames[i] || !region->owned[i]) {
		uint64_t *copy = calloc(512, 8);

		if (region->frames[i])
			memcpy(copy, region->frames[i], 4096);
		region->frames[i] = copy;
		region->owned[i] = 1;
	}
	*(uint32_t *)region->frames[i] = value;
}

static uint32_t read32(const struct memory *m, uint64_t frame)
{
	return *(uint32_t *)m->near[frame >> 9]->frames[frame & 511];
}

static void fork_memory(struct memory *child, const struct memory *parent)
{
	*child = *parent;
	child->near = malloc(parent->count * sizeof *child->near);
	memcpy(child->near, parent->near, parent->count * sizeof *child->near);
}

static void drop(struct memory *m)
{
	for (uint64_t r = 0; r < m->count; r++) {
		if (!m->near[r] || m->near[r]->holder != m)
			continue;
		for (int f = 0; f < 512; f++)
			if (m->near[r]->owned[f])
				free(m->near[r]->frames[f]);
		free(m->near[r]);
	}
	free(m->near);
}

static void measure(const char *name, uint64_t touched, uint64_t highest)
{
	struct memory m = {0};
	char row[64];
	double fastest = 1e300;
	uint64_t sum = 0;

	for (uint64_t frame = 0; frame < touched - 1; frame++)
		write32(&m, frame, (uint32_t)frame);
	write32(&m, highest - 1, 1);
	for (int window = 0; window < 200; window++) {
		struct memory child;
		double start = now(), time;

		fork_memory(&child, &m);
		sum = read32(&child, 5);
		time = now() - start;
		if (time < fastest)
			fastest = time;
		free(child.near);
	}
	snprintf(row, sizeof row, "fork/%s", name);
	print_row(row, fastest, sum);
	fastest = 1e300;
	for (int window = 0; window < 50; window++) {
		struct memory child;
		double start = now(), time;

		fork_memory(&child, &m);
		for (uint64_t frame = 0; frame < WRITES; frame++)
			write32(&child, frame, 7);
		sum = read32(&child, 5) + read32(&m, 5);
		time = now() - start;
		if (time < fastest)
			fastest = time;
		drop(&child);
	}
	snprintf(row, sizeof row, "fork-and-write/%s", name);
	print_row(row, fastest, sum);
	drop(&m);
}

int main(void)
{
	measure("16MiB-of-16GiB", 16 * 256, 4ull << 20);
	measure("256MiB-of-16GiB", 256 * 256, 4ull << 20);
	measure("1GiB-of-16GiB", 1024 * 256, 4ull << 20);
	measure("1GiB-of-1TiB", 1024 * 256, 1ull << 28);
	measure("1GiB-of-4PiB", 1024 * 256, 1ull << 40);
	return 0;
}
