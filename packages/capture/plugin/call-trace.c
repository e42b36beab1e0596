/*
 * A plugin of QEMU's TCG that counts what one call does: instructions, loads, stores, and the pages that they touch.
 *
 * Arguments: begin=ADDRESS, the first instruction of the code that makes the call; end=ADDRESS, the instruction that the call returns to; out=FILE. Between the two all instructions
 * count that are outside of [begin, end]: those of the firmware, with SMM among them. A repeated string instruction counts once for each iteration, and once more where it finds
 * that there is none left. When the end is reached, a line "CALL …" and a line "PAGE …" for each page are appended to the file.
 *
 * Debian has no package with qemu-plugin.h, so what is needed of it is declared here: version 1 of the interface, as of QEMU 6.0 to 8.2 (docs/devel/tcg-plugins.rst).
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_hwaddr;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_R = 1, QEMU_PLUGIN_MEM_W, QEMU_PLUGIN_MEM_RW };
typedef void (*tb_callback)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*instruction_callback)(unsigned int, void *);
typedef void (*memory_callback)(unsigned int, qemu_plugin_meminfo_t, uint64_t, void *);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, tb_callback);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, instruction_callback, enum qemu_plugin_cb_flags, void *);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, memory_callback, enum qemu_plugin_cb_flags, enum qemu_plugin_mem_rw, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t);
struct qemu_plugin_hwaddr *qemu_plugin_get_hwaddr(qemu_plugin_meminfo_t, uint64_t);
bool qemu_plugin_hwaddr_is_io(const struct qemu_plugin_hwaddr *);
uint64_t qemu_plugin_hwaddr_phys_addr(const struct qemu_plugin_hwaddr *);
const char *qemu_plugin_hwaddr_device_name(const struct qemu_plugin_hwaddr *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

#define BUCKETS 4096

/* An instruction that was translated; told apart by its address. */
struct instruction {
	uint64_t address;
	uint32_t last_call;
	struct instruction *next;
};

struct page {
	uint64_t linear, physical, reads, writes, executions;
	bool is_device;
	const char *device;
	struct page *next;
};

static struct instruction *instructions[BUCKETS];
static struct page *pages[BUCKETS];
static uint64_t begin_address, end_address;
static FILE *out;
static bool is_counting;
static uint32_t call;
static uint64_t entry, executed, distinct, loads, stores, device_accesses;

static struct instruction *find_instruction(uint64_t address)
{
	struct instruction **place = &instructions[(address ^ address >> 12) % BUCKETS];
	while (*place && (*place)->address != address)
		place = &(*place)->next;
	if (!*place) {
		*place = calloc(1, sizeof **place);
		(*place)->address = address;
	}
	return *place;
}

static struct page *find_page(uint64_t linear, uint64_t physical, bool is_device, const char *device)
{
	struct page **place = &pages[(linear >> 12 ^ physical >> 12) % BUCKETS];
	while (*place && ((*place)->linear != linear || (*place)->physical != physical || (*place)->is_device != is_device))
		place = &(*place)->next;
	if (!*place) {
		*place = calloc(1, sizeof **place);
		(*place)->linear = linear;
		(*place)->physical = physical;
		(*place)->is_device = is_device;
		(*place)->device = device;
	}
	return *place;
}

static void begin_call(unsigned int cpu, void *data)
{
	is_counting = true;
	call++;
	entry = executed = distinct = loads = stores = device_accesses = 0;
}

static void end_call(unsigned int cpu, void *data)
{
	if (!is_counting)
		return;
	is_counting = false;
	fprintf(out, "CALL %" PRIu32 " ok entry=%" PRIx64 " insns=%" PRIu64 " distinct=%" PRIu64 " loads=%" PRIu64 " stores=%" PRIu64 " mmio=%" PRIu64 "\n",
		call, entry, executed, distinct, loads, stores, device_accesses);
	for (int bucket = 0; bucket < BUCKETS; bucket++) {
		while (pages[bucket]) {
			struct page *page = pages[bucket];
			fprintf(out, "PAGE %" PRIu32 " va=%" PRIx64 " pa=%" PRIx64 " r=%" PRIu64 " w=%" PRIu64 " x=%" PRIu64, call, page->linear,
				page->physical, page->reads, page->writes, page->executions);
			if (page->is_device)
				fprintf(out, " io=%s", page->device ? page->device : "");
			fputc('\n', out);
			pages[bucket] = page->next;
			free(page);
		}
	}
	fflush(out);
}

static void execute(unsigned int cpu, void *data)
{
	struct instruction *instruction = data;
	if (!is_counting)
		return;
	if (!executed++)
		entry = instruction->address;
	if (instruction->last_call != call) {
		instruction->last_call = call;
		distinct++;
	}
	/* Where code is in physical memory, version 1 does not tell of each execution. */
	find_page(instruction->address & ~0xfffull, 0, false, NULL)->executions++;
}

static void access_memory(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data)
{
	if (!is_counting)
		return;
	struct qemu_plugin_hwaddr *physical = qemu_plugin_get_hwaddr(info, address);
	bool is_device = physical && qemu_plugin_hwaddr_is_io(physical);
	struct page *page = find_page(address & ~0xfffull, physical ? qemu_plugin_hwaddr_phys_addr(physical) & ~0xfffull : 0, is_device,
				      is_device ? qemu_plugin_hwaddr_device_name(physical) : NULL);
	if (qemu_plugin_mem_is_store(info)) {
		page->writes++;
		stores++;
	} else {
		page->reads++;
		loads++;
	}
	if (is_device)
		device_accesses++;
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
	size_t count = qemu_plugin_tb_n_insns(block);
	for (size_t index = 0; index < count; index++) {
		struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, index);
		uint64_t address = qemu_plugin_insn_vaddr(instruction);
		if (address == begin_address) {
			qemu_plugin_register_vcpu_insn_exec_cb(instruction, begin_call, QEMU_PLUGIN_CB_NO_REGS, NULL);
		} else if (address == end_address) {
			qemu_plugin_register_vcpu_insn_exec_cb(instruction, end_call, QEMU_PLUGIN_CB_NO_REGS, NULL);
		} else if (address < begin_address || address > end_address) {
			qemu_plugin_register_vcpu_insn_exec_cb(instruction, execute, QEMU_PLUGIN_CB_NO_REGS, find_instruction(address));
			qemu_plugin_register_vcpu_mem_cb(instruction, access_memory, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, NULL);
		}
	}
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	for (int index = 0; index < argc; index++) {
		char *value = strchr(argv[index], '=');
		if (!value)
			return -1;
		if (!strncmp(argv[index], "begin=", 6))
			begin_address = strtoull(value + 1, NULL, 16);
		else if (!strncmp(argv[index], "end=", 4))
			end_address = strtoull(value + 1, NULL, 16);
		else if (!strncmp(argv[index], "out=", 4))
			out = fopen(value + 1, "w");
		else
			return -1;
	}
	if (!out || end_address <= begin_address)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	return 0;
}
