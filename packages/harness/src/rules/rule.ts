import type { Cpu, FaultSite, TypeConflict } from '@trapdoor/core'
import type { Interruption, Kernel, KernelHooks, RuntimeCall } from '@trapdoor/kernel'
import type { MemoryDescriptor } from '@trapdoor/uefi'
import type { SyncHook } from 'tapable'
import type { RuleState } from '../case/rule-memory.ts'
import type { TableSurvey } from '../case/table-survey.ts'
import type { Outcome, Severity } from '../results/results.ts'

/** What a rule says; the harness adds who, where, the walk, and how to see it again. */
export interface FindingDraft {
  /** One line: what happened. */
  readonly message: string
  /** Why, in full sentences, for somebody who sees this for the first time. */
  readonly explanation: string
  /** The outcome that this is worth. Default `ok`: it did no harm this time. */
  readonly outcome?: Outcome
  /** Default: the rule's. */
  readonly severity?: Severity
  readonly call?: RuntimeCall
  /** The linear address that matters, and the root of the tables to show its walk in (default: the CR3 of the call's CPU). */
  readonly address?: bigint
  readonly root?: number
  readonly access?: 'read' | 'write' | 'execute'
  /** The physical address that matters, where no linear one leads to it. */
  readonly physical?: number
  /** Who did it; default the image that ran, else the kernel. */
  readonly actor?: string
}

/** What ended a machine, with all that a rule may want to know. */
export interface Death {
  readonly error: Error
  readonly site: FaultSite | undefined
  readonly cpu: Cpu
  /** The kernel that ran or was booting; undefined in the firmware or the boot loader. */
  readonly kernel: Kernel | undefined
  /** The runtime call that was under way on this CPU. */
  readonly call: RuntimeCall | undefined
  /** Image whose code ran, or undefined for the kernel's. */
  readonly image: string | undefined
  /** The interrupt that the kernel was handling on this CPU, or that it was being given. */
  readonly handling: Interruption | undefined
  /** Whether an earlier kernel of this machine has called SetVirtualAddressMap. */
  readonly convertedBefore: boolean
  /** The firmware's descriptor that covers a physical address, by the map that it reported. */
  readonly descriptorAt: (physical: number) => MemoryDescriptor | undefined
}

/** The page tables of a kernel at one moment. */
export interface TableInspection {
  readonly kernel: Kernel
  /** Every root of the kernel. */
  readonly surveys: readonly TableSurvey[]
  /** Memory that these tables, all of them alive, map with more than one effective type. */
  readonly conflicts: readonly TypeConflict[]
}

/** Hooks of a run: the kernel's, and the harness's own. One frozen object for all cases of the run. */
export interface RuleHooks extends KernelHooks {
  /** Kind: sync, sequential. When: a scenario looks through the page tables. Arguments: what is there. Return: nothing. */
  readonly tablesInspected: SyncHook<[TableInspection]>
}

/** What a rule gets once, for all cases. State of a case belongs where {@link RuleContext.perKernel} keeps it, or in a WeakMap by call. */
export interface RuleContext {
  readonly hooks: RuleHooks
  /** Reports a finding of this rule. One rule reports a kernel once; what it says again is counted. */
  readonly report: (kernel: Kernel, draft: FindingDraft) => void
  /** A place for what the rule knows of a kernel, made by `initial` when it is asked for. `copy` makes one that goes its own way. */
  readonly perKernel: <State>(state: RuleState<State>) => (kernel: Kernel) => State
  /** Asked when something ended a machine: `explain` returns a draft where this rule knows the cause, else undefined. The first rule that knows it is believed. */
  readonly diagnose: (explain: (death: Death) => FindingDraft | undefined) => void
}

/** Something that must never happen, and how to see that it did. */
export interface Rule {
  /** Such as "H9". */
  readonly id: string
  readonly title: string
  readonly severity: Severity
  /** What to do about it. */
  readonly advice: string
  readonly sources: readonly string[]
  /**
   * All that the rule knows from one event to the next is in {@link RuleContext.perKernel}, or belongs to a call. Where every rule says so, cases that begin alike run once up
   * to where they part. Default false.
   */
  readonly rewindable?: boolean
  /** Taps hooks. */
  watch(context: RuleContext): void
}
