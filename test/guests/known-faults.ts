import { Rflags, STATUS_FLAGS, Vector } from '@trapdoor/core'
import { type Probe, Selector } from './probe.ts'
import { type ProbeRecord, Slot, withWords } from './record.ts'

/** A way in which QEMU 7.2 is known to differ from the manuals. */
export interface KnownFault {
  readonly id: string
  readonly fault: string
  /** Where its source does so. */
  readonly source: string
  /** What the manual says instead. */
  readonly manual: string
  /** What comes out of the probe because of the fault; undefined where it does not show. */
  readonly expected: (probe: Probe, ours: ProbeRecord) => ProbeRecord | undefined
}

/** Exceptions that are no faults, whose frames have RF as it is. */
const NO_FAULTS: ReadonlySet<number> = new Set([Vector.DB, Vector.BP, Vector.OF, Vector.DF])
const IN_IDT = 2
/** The error code of vector 255: what is more is none, as INT pushes no error code whatever the vector is. */
const LAST_GATE = 0xff * 8 + IN_IDT

function isException(record: ProbeRecord): boolean {
  return record[Slot.Vector]! < 32
}

/** All that probes show. */
export const KNOWN_FAULTS: readonly KnownFault[] = [
  {
    id: 'qemu-no-resume-flag',
    fault: 'RF is clear in the frame of a fault',
    source: 'target/i386/tcg/seg_helper.c, do_interrupt64() and do_interrupt_protected()',
    manual: 'SDM Vol. 3, 18.3.1.1: the value pushed for RF is 1 for any fault but #DB',
    expected: (_probe, ours) =>
      isException(ours) && !NO_FAULTS.has(ours[Slot.Vector]!)
        ? withWords(ours, new Map([[Slot.Flags, ours[Slot.Flags]! & ~Rflags.RF]]))
        : undefined,
  },
  {
    id: 'qemu-interrupt-stack-clears-ss',
    fault: 'a gate with an interrupt stack clears SS, though the level stays',
    source: 'target/i386/tcg/seg_helper.c, do_interrupt64(): new_stack where ist is not 0',
    manual: 'SDM Vol. 2, INT n, INTRA-PRIVILEGE-LEVEL-INTERRUPT: only RSP comes from the TSS',
    expected: ({ mode }, ours) =>
      mode !== 'protected' && ours[Slot.Vector] === Vector.UD && (ours[Slot.Cs]! & 3) === 0
        ? withWords(ours, new Map([[Slot.SsNow, 0]]))
        : undefined,
  },
  {
    id: 'qemu-gate-index',
    fault:
      'in IA-32e mode the error code of a gate that the user may not call has the vector times 16',
    source:
      'target/i386/tcg/seg_helper.c, do_interrupt64(): raise_exception_err(…, intno * 16 + 2)',
    manual:
      'SDM Vol. 3, 6.13: bits 15 to 3 of an error code with IDT set are the index of the gate',
    expected: ({ mode, name }, ours) => {
      const code = ours[Slot.ErrorCode]!
      const isGate = ours[Slot.Vector] === Vector.GP && (code & 7) === IN_IDT && code <= LAST_GATE
      return mode !== 'protected' && name.startsWith('int ') && isGate
        ? withWords(ours, new Map([[Slot.ErrorCode, (code - IN_IDT) * 2 + IN_IDT]]))
        : undefined
    },
  },
  {
    id: 'qemu-iret-absent-stack',
    fault: 'IRET to a stack segment that is not there is #NP',
    source: 'target/i386/tcg/seg_helper.c, helper_ret_protected(): EXCP0B_NOSEG',
    manual: 'SDM Vol. 2, IRET: IF the SS segment is not present THEN #SS(selector)',
    expected: ({ name }, ours) =>
      /^(iret|retf)/.test(name) &&
      ours[Slot.Vector] === Vector.SS &&
      ours[Slot.ErrorCode] === Selector.AbsentData
        ? withWords(ours, new Map([[Slot.Vector, Vector.NP]]))
        : undefined,
  },
  {
    id: 'qemu-syscall-status-flags',
    fault: 'SYSCALL clears the status flags and DF, whatever the mask is',
    source: 'target/i386/tcg/seg_helper.c, helper_syscall(): cpu_load_eflags(env, env->eflags, 0)',
    manual: 'SDM Vol. 2, SYSCALL: RFLAGS := RFLAGS AND NOT(IA32_FMASK)',
    expected: ({ name }, ours) =>
      name.startsWith('syscall') && !isException(ours)
        ? withWords(ours, new Map([[Slot.Flags, ours[Slot.Flags]! & ~(STATUS_FLAGS | Rflags.DF)]]))
        : undefined,
  },
  {
    id: 'qemu-privilege-before-register',
    fault:
      'a control register that there is not is #GP for the user, and so is XSETBV while CR4.OSXSAVE is clear',
    source: 'target/i386/tcg/translate.c, case 0x120, 0x122 and 0xd1: check_cpl0() comes first',
    manual: 'SDM Vol. 3, table 6-2: an invalid opcode comes before a general-protection exception',
    expected: ({ name, level }, ours) =>
      /^(mov cr[15]|xsetbv)/.test(name) && level === 3
        ? withWords(ours, new Map([[Slot.Vector, Vector.GP]]))
        : undefined,
  },
]

/** Faults of QEMU after which nothing can be compared: random probes choose no operands that show them. */
export const AVOIDED_FAULTS: readonly Omit<KnownFault, 'expected'>[] = [
  {
    id: 'qemu-five-levels',
    fault: 'CR4.LA57 can be changed in compatibility mode',
    source: 'target/i386/tcg/sysemu/misc_helper.c, helper_write_crN(): HF_CS64_MASK',
    manual: 'SDM Vol. 3, 2.5: LA57 cannot be modified in IA-32e mode',
  },
  {
    id: 'qemu-reserved-control-bits',
    fault: 'bits of CR4 are taken that CPUID does not tell of',
    source: 'target/i386/helper.c, cpu_x86_update_cr4()',
    manual: 'SDM Vol. 2, MOV to control registers: #GP(0)',
  },
  {
    id: 'qemu-reserved-root-bits',
    fault: 'bits of CR3 above MAXPHYADDR are taken',
    source: 'target/i386/tcg/sysemu/misc_helper.c, helper_write_crN()',
    manual: 'SDM Vol. 2, MOV to control registers: #GP(0)',
  },
  {
    id: 'qemu-null-stack',
    fault: 'a return from 64-bit mode to compatibility mode takes a null stack segment',
    source: 'target/i386/tcg/seg_helper.c, helper_ret_protected(): HF_LMA_MASK',
    manual: 'SDM Vol. 2, IRET and RET: a null SS is for 64-bit mode alone, else #GP(0)',
  },
  {
    id: 'qemu-not-write-through',
    fault: 'CR0.NW without CR0.CD is taken',
    source: 'target/i386/helper.c, cpu_x86_update_cr0()',
    manual: 'SDM Vol. 2, MOV to control registers: #GP(0)',
  },
  {
    id: 'qemu-table-address',
    fault: 'LGDT and LIDT take an address that is not canonical',
    source: 'target/i386/tcg/translate.c, LGDT and LIDT',
    manual: 'SDM Vol. 2, LGDT: #GP(0)',
  },
  {
    id: 'qemu-null-task',
    fault: 'LTR takes a null selector',
    source: 'target/i386/tcg/seg_helper.c, helper_ltr(): NULL selector case',
    manual: 'SDM Vol. 2, LTR: #GP(0)',
  },
  {
    id: 'qemu-model-specific',
    fault:
      'WRMSR looks neither at canonical addresses nor at reserved bits, RDMSR and WRMSR not at whether there is such a register, and IA32_SYSENTER_CS has 16 bits',
    source: 'target/i386/tcg/sysemu/misc_helper.c, helper_wrmsr() and helper_rdmsr()',
    manual: 'SDM Vol. 2, WRMSR: #GP(0)',
  },
  {
    id: 'qemu-system-enter-compatibility',
    fault: 'AMD’s processors have SYSENTER and SYSEXIT in compatibility mode',
    source: 'target/i386/tcg/translate.c, case 0x134 and 0x135: CODE64(s)',
    manual: 'APM Vol. 3, SYSENTER and SYSEXIT: #UD in long mode',
  },
  {
    id: 'qemu-task-priority',
    fault: 'MOV to CR8 takes more than 4 bits',
    source: 'target/i386/tcg/sysemu/misc_helper.c, helper_write_crN(): case 8',
    manual: 'SDM Vol. 2, MOV to control registers: #GP(0) for a reserved bit of CR8',
  },
  {
    id: 'qemu-extended-state',
    fault: 'no fault: QEMU has AVX, MPX and XGETBV with ECX = 1, which are not modelled',
    source: 'target/i386/cpu.c, TCG_7_0_EBX_FEATURES and TCG_XSAVE_FEATURES',
    manual: 'SDM Vol. 2, XSETBV: #GP(0) for a component that CPUID does not tell of',
  },
  {
    id: 'qemu-debug-status',
    fault: 'bit 12 of DR6 can be set',
    source: 'target/i386/tcg/sysemu/bpt_helper.c, helper_set_dr(): DR6_FIXED_1 alone',
    manual: 'SDM Vol. 3, figure 18-1: bit 12 is 0',
  },
]
