/*
 * Executes single instructions on the host processor, in user mode. Cases come from standard input, results go to standard output in the same order and layout
 * (layout.ts has it too). It runs without a C library: an instruction may leave any register and any segment base as it likes.
 *
 * A case is put into the code page, its registers are loaded by IRETQ, and behind it stands a jump to what stores the registers again. Where the instruction itself
 * decides where to go on, it is stepped by RFLAGS.TF instead. A fault comes as a signal, whose context has the registers, the vector, the error code and CR2.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <asm/sigcontext.h>
#include <cpuid.h>
#include <linux/auxvec.h>
#include <linux/mman.h>
#include <linux/signal.h>
#include <stdint.h>
#include <sys/syscall.h>
/* After the signal types that it uses. */
#include <asm/ucontext.h>

enum { PAGE = 4096, REGION_PAGES = 3, WRITABLE_PAGES = 2, REGISTERS = 16 };
enum { RUN_FPU = 1 };
enum { CASE_STEP = 1, CASE_32 = 2 };
enum { COMPLETED = 0xff, DEBUG_TRAP = 1 };
enum { CODE_64 = 0x33, CODE_32 = 0x23, STACK = 0x2b };
enum { TF = 0x100, IF = 0x200 };
enum { HWCAP2_LEAF = 0xffffffff, HWCAP2_FSGSBASE = 2 };

#define WINDOW_LIMIT 4096
#define FXSAVE_BYTES 512

/* The places of code and of data: low ones that 32 bits reach, and high ones that lie across a multiple of 4 GiB. */
static const uint64_t code_regions[] = { 0x20000000, 0x6543fffef000 };
static const uint64_t data_regions[] = { 0x30000000, 0x6543fffff000 };
enum { REGIONS = 2, CODE_PAGES = 2 };

/* What a run begins with. */
struct run {
	uint32_t flags;
	uint32_t window_bytes;
};

/* Before the instruction, and after it. */
struct record {
	uint64_t registers[REGISTERS];
	uint64_t rip;
	uint64_t rflags;
	uint64_t window; /* address; after: CR2 */
	uint8_t code[16];
	uint8_t length; /* after: the vector, or COMPLETED */
	uint8_t flags;  /* after: whether something outside of the window was written */
	uint16_t reserved;
	uint32_t error_code;
	uint64_t fs_base;
	uint64_t gs_base;
} __attribute__((packed));

_Static_assert(sizeof(struct record) == 192, "the layout of layout.ts");

/* What the assembly below reads and writes. */
uint64_t in_registers[REGISTERS], out_registers[REGISTERS];
uint64_t return_frame[5];
uint64_t out_rflags, host_rsp, use_fpu;
uint8_t in_fpu[FXSAVE_BYTES] __attribute__((aligned(64)));
uint8_t out_fpu[FXSAVE_BYTES] __attribute__((aligned(64)));
void enter_case(void);
void leave_case(void);
void resume(void);
void restore_signal(void);

static uint64_t out_rip, out_cr2, out_error_code;
static uint8_t out_vector;

static uint8_t signal_stack[1 << 16] __attribute__((aligned(64)));
static uint8_t pattern[REGIONS][REGION_PAGES * PAGE] __attribute__((aligned(8)));
static uint8_t record_bytes[sizeof(struct record) + WINDOW_LIMIT + FXSAVE_BYTES] __attribute__((aligned(64)));
static uint8_t input[1 << 16], output[1 << 16];
static uint64_t fs_base, gs_base;
static int has_base_instructions;
static uint64_t input_at, input_end, output_at;

__asm__(".text\n"
	".globl enter_case, leave_case, resume, restore_signal, _start\n"
	"enter_case:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	mov %rsp, host_rsp(%rip)\n"
	"	cmpq $0, use_fpu(%rip)\n"
	"	je 1f\n"
	"	fxrstor64 in_fpu(%rip)\n"
	"1:	mov in_registers+0(%rip), %rax\n"
	"	mov in_registers+8(%rip), %rcx\n"
	"	mov in_registers+16(%rip), %rdx\n"
	"	mov in_registers+24(%rip), %rbx\n"
	"	mov in_registers+40(%rip), %rbp\n"
	"	mov in_registers+48(%rip), %rsi\n"
	"	mov in_registers+56(%rip), %rdi\n"
	"	mov in_registers+64(%rip), %r8\n"
	"	mov in_registers+72(%rip), %r9\n"
	"	mov in_registers+80(%rip), %r10\n"
	"	mov in_registers+88(%rip), %r11\n"
	"	mov in_registers+96(%rip), %r12\n"
	"	mov in_registers+104(%rip), %r13\n"
	"	mov in_registers+112(%rip), %r14\n"
	"	mov in_registers+120(%rip), %r15\n"
	"	lea return_frame(%rip), %rsp\n"
	"	iretq\n"
	"leave_case:\n"
	"	mov %rax, out_registers+0(%rip)\n"
	"	mov %rcx, out_registers+8(%rip)\n"
	"	mov %rdx, out_registers+16(%rip)\n"
	"	mov %rbx, out_registers+24(%rip)\n"
	"	mov %rsp, out_registers+32(%rip)\n"
	"	mov %rbp, out_registers+40(%rip)\n"
	"	mov %rsi, out_registers+48(%rip)\n"
	"	mov %rdi, out_registers+56(%rip)\n"
	"	mov %r8, out_registers+64(%rip)\n"
	"	mov %r9, out_registers+72(%rip)\n"
	"	mov %r10, out_registers+80(%rip)\n"
	"	mov %r11, out_registers+88(%rip)\n"
	"	mov %r12, out_registers+96(%rip)\n"
	"	mov %r13, out_registers+104(%rip)\n"
	"	mov %r14, out_registers+112(%rip)\n"
	"	mov %r15, out_registers+120(%rip)\n"
	"	mov host_rsp(%rip), %rsp\n"
	"	pushfq\n"
	"	popq out_rflags(%rip)\n"
	"	pushq $0x202\n"
	"	popfq\n"
	"	cmpq $0, use_fpu(%rip)\n"
	"	je resume\n"
	"	fxsave64 out_fpu(%rip)\n"
	"resume:\n"
	/* A return from a signal leaves NT as it is, and the next IRETQ would not have it. */
	"	pushq $0x202\n"
	"	popfq\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n"
	"restore_signal:\n"
	"	mov $15, %eax\n" /* rt_sigreturn */
	"	syscall\n"
	"_start:\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call start\n"
	"	ud2\n");

static long call_kernel(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return result;
}

static void end(int code)
{
	for (;;)
		call_kernel(SYS_exit_group, code, 0, 0, 0, 0, 0);
}

static void copy(void *to, const void *from, uint64_t bytes)
{
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

/* Fills a buffer from standard input. False at its end; a piece of a record is an error. */
static int read_all(void *to, uint64_t bytes)
{
	uint64_t done = 0;
	while (done < bytes) {
		if (input_at == input_end) {
			long got = call_kernel(SYS_read, 0, (long)input, sizeof input, 0, 0, 0);
			if (got < 0 || (got == 0 && done > 0))
				end(3);
			if (got == 0)
				return 0;
			input_at = 0;
			input_end = (uint64_t)got;
		}
		uint64_t count = input_end - input_at < bytes - done ? input_end - input_at : bytes - done;
		copy((uint8_t *)to + done, input + input_at, count);
		input_at += count;
		done += count;
	}
	return 1;
}

static void flush(void)
{
	for (uint64_t done = 0; done < output_at;) {
		long put = call_kernel(SYS_write, 1, (long)(output + done), (long)(output_at - done), 0, 0, 0);
		if (put <= 0)
			end(3);
		done += (uint64_t)put;
	}
	output_at = 0;
}

static void write_all(const void *from, uint64_t bytes)
{
	if (output_at + bytes > sizeof output)
		flush();
	copy(output + output_at, from, bytes);
	output_at += bytes;
}

static void map(uint64_t address, uint64_t bytes, int protection)
{
	long flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE;
	if (call_kernel(SYS_mmap, (long)address, (long)bytes, protection, flags, -1, 0) != (long)address)
		end(4);
}

/* What lies in data where no window is: each word tells its address. */
static void make_regions(void)
{
	for (int region = 0; region < REGIONS; region++) {
		map(code_regions[region], CODE_PAGES * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
		map(data_regions[region], REGION_PAGES * PAGE, PROT_READ | PROT_WRITE);
		for (uint64_t at = 0; at < REGION_PAGES * PAGE; at += 8)
			*(uint64_t *)(pattern[region] + at) = (data_regions[region] + at) * 0x9e3779b97f4a7c15;
		copy((void *)data_regions[region], pattern[region], REGION_PAGES * PAGE);
		uint64_t end_of_writable = data_regions[region] + WRITABLE_PAGES * PAGE;
		call_kernel(SYS_mprotect, (long)end_of_writable, (REGION_PAGES - WRITABLE_PAGES) * PAGE, PROT_READ, 0, 0, 0);
	}
}

static void on_signal(int number, siginfo_t *info, struct ucontext *context)
{
	struct sigcontext *machine = &context->uc_mcontext;
	(void)number;
	(void)info;
	const uint64_t registers[REGISTERS] = {
		machine->rax, machine->rcx, machine->rdx, machine->rbx, machine->rsp, machine->rbp, machine->rsi, machine->rdi,
		machine->r8, machine->r9, machine->r10, machine->r11, machine->r12, machine->r13, machine->r14, machine->r15,
	};
	copy(out_registers, registers, sizeof registers);
	out_rip = machine->rip;
	out_rflags = machine->eflags;
	out_vector = (uint8_t)machine->trapno;
	out_error_code = machine->err;
	out_cr2 = machine->cr2;
	copy(out_fpu, (void *)machine->fpstate, FXSAVE_BYTES);
	machine->rip = (uint64_t)resume;
	machine->rsp = host_rsp;
	machine->eflags = IF | 2;
	machine->cs = CODE_64;
	machine->ss = STACK;
}

static void take_signals(void)
{
	static const int numbers[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP };
	const stack_t stack = { .ss_sp = signal_stack, .ss_size = sizeof signal_stack };
	struct sigaction action = {
		.sa_handler = (__sighandler_t)(void *)on_signal,
		.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTORER,
		.sa_restorer = restore_signal,
	};
	call_kernel(SYS_sigaltstack, (long)&stack, 0, 0, 0, 0, 0);
	for (unsigned at = 0; at < sizeof numbers / sizeof *numbers; at++)
		call_kernel(SYS_rt_sigaction, numbers[at], (long)&action, 0, 8, 0, 0);
}

/* Behind the instruction: a jump to leave_case, which changes no register and no flag. */
static void place_code(const struct record *record)
{
	uint8_t *at = (uint8_t *)record->rip;
	copy(at, record->code, record->length);
	at += record->length;
	if (record->flags & CASE_32) {
		*at = 0xea; /* JMP ptr16:32 */
		*(uint32_t *)(at + 1) = (uint32_t)(uint64_t)leave_case;
		*(uint16_t *)(at + 5) = CODE_64;
	} else {
		*(uint16_t *)at = 0x25ff; /* JMP [RIP + 0] */
		*(uint32_t *)(at + 2) = 0;
		*(uint64_t *)(at + 6) = (uint64_t)leave_case;
	}
}

/* The part of a window that lies in pages of its region, from where it begins on. */
static uint64_t mapped_bytes(uint64_t offset, uint64_t bytes, uint64_t pages)
{
	uint64_t limit = pages * PAGE;
	if (offset >= limit)
		return 0;
	return offset + bytes > limit ? limit - offset : bytes;
}

static uint8_t put_pattern_back(int region)
{
	const uint64_t *is = (const uint64_t *)data_regions[region];
	const uint64_t *was = (const uint64_t *)pattern[region];
	uint64_t differing = 0;
	for (unsigned at = 0; at < WRITABLE_PAGES * PAGE / 8; at++)
		differing |= is[at] ^ was[at];
	if (differing != 0)
		copy((void *)data_regions[region], pattern[region], WRITABLE_PAGES * PAGE);
	return differing != 0;
}

static void set_segment_base(int which, uint64_t *is, uint64_t base)
{
	if (*is == base)
		return;
	*is = base;
	call_kernel(SYS_arch_prctl, which, (long)base, 0, 0, 0, 0);
}

/* What an instruction may have changed by itself, where there are instructions to see it. */
static void look_at_segment_bases(struct record *record)
{
	if (has_base_instructions) {
		__asm__ volatile("rdfsbase %0" : "=r"(fs_base));
		__asm__ volatile("rdgsbase %0" : "=r"(gs_base));
	}
	record->fs_base = fs_base;
	record->gs_base = gs_base;
}

static void run_case(const struct run *run)
{
	struct record *record = (struct record *)record_bytes;
	uint8_t *window = record_bytes + sizeof *record;
	uint8_t *fpu = window + run->window_bytes;
	const int region = record->window >= data_regions[1] - PAGE;
	const uint64_t offset = record->window - data_regions[region];
	const uint64_t writable = mapped_bytes(offset, run->window_bytes, WRITABLE_PAGES);
	const uint64_t readable = mapped_bytes(offset, run->window_bytes, REGION_PAGES);
	copy((void *)record->window, window, writable);
	place_code(record);
	copy(in_registers, record->registers, sizeof in_registers);
	use_fpu = run->flags & RUN_FPU;
	if (use_fpu)
		copy(in_fpu, fpu, FXSAVE_BYTES);
	set_segment_base(ARCH_SET_FS, &fs_base, record->fs_base);
	set_segment_base(ARCH_SET_GS, &gs_base, record->gs_base);
	const int stepping = (record->flags & CASE_STEP) != 0;
	return_frame[0] = record->rip;
	return_frame[1] = record->flags & CASE_32 ? CODE_32 : CODE_64;
	return_frame[2] = record->rflags | (stepping ? TF : 0);
	return_frame[3] = record->registers[4];
	return_frame[4] = STACK;
	out_vector = COMPLETED;
	out_rip = record->rip + record->length;
	out_cr2 = 0;
	out_error_code = 0;
	enter_case();
	if (stepping && out_vector == DEBUG_TRAP)
		out_vector = COMPLETED;
	copy(record->registers, out_registers, sizeof out_registers);
	record->rip = out_rip;
	record->rflags = out_rflags & ~(uint64_t)TF;
	copy(window, (void *)record->window, readable);
	copy((void *)record->window, pattern[region] + offset, writable);
	record->window = out_cr2;
	record->length = out_vector;
	record->flags = put_pattern_back(region);
	record->error_code = (uint32_t)out_error_code;
	look_at_segment_bases(record);
	if (use_fpu)
		copy(fpu, out_fpu, FXSAVE_BYTES);
}

/* CPUID, for who wants to know what this processor lacks: leaf, subleaf, EAX, EBX, ECX, EDX. Then, in EAX of a leaf that there is not, what the kernel lets processes have (AT_HWCAP2). */
static uint64_t auxiliary(const uint64_t *stack, uint64_t type)
{
	const uint64_t *at = stack + 1 + *stack + 1;
	while (*at++ != 0)
		;
	for (; at[0] != AT_NULL; at += 2)
		if (at[0] == type)
			return at[1];
	return 0;
}

static void tell_features(const uint64_t *stack)
{
	static const uint32_t leaves[][2] = { { 0, 0 }, { 1, 0 }, { 7, 0 }, { 7, 1 }, { 0xd, 1 }, { 0x80000001, 0 }, { 0x80000008, 0 } };
	for (unsigned at = 0; at < sizeof leaves / sizeof *leaves; at++) {
		uint32_t words[6] = { leaves[at][0], leaves[at][1] };
		__cpuid_count(words[0], words[1], words[2], words[3], words[4], words[5]);
		write_all(words, sizeof words);
	}
	const uint32_t words[6] = { HWCAP2_LEAF, 0, (uint32_t)auxiliary(stack, AT_HWCAP2) };
	write_all(words, sizeof words);
	flush();
}

void start(const uint64_t *stack)
{
	struct run run;
	if (*stack > 1) {
		tell_features(stack);
		end(0);
	}
	has_base_instructions = (auxiliary(stack, AT_HWCAP2) & HWCAP2_FSGSBASE) != 0;
	make_regions();
	take_signals();
	/* Data segments that 32-bit code can use. */
	__asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(STACK));
	if (!read_all(&run, sizeof run) || run.window_bytes > WINDOW_LIMIT)
		end(3);
	const uint64_t bytes = sizeof(struct record) + run.window_bytes + (run.flags & RUN_FPU ? FXSAVE_BYTES : 0);
	while (read_all(record_bytes, bytes)) {
		run_case(&run);
		write_all(record_bytes, bytes);
	}
	flush();
	end(0);
}
