import type { Architecture } from '@trapdoor/uefi'

/** How a case can end, worst first. */
export const OUTCOMES = ['fault', 'corrupt', 'hang', 'degraded', 'refused', 'ok'] as const

/**
 * How a case ended: `fault` (the machine is dead), `corrupt` (it went on with somebody's memory overwritten), `hang`,
 * `degraded` (it survived; services are lost or wrong), `refused` (the kernel declined, as it says it would), `ok`.
 */
export type Outcome = (typeof OUTCOMES)[number]

/** One run of a matrix. Everything printed or drawn is a function of it. Addresses are hex strings with `0x`. */
export interface Results {
  schemaVersion: 1
  tool: { name: 'trapdoor'; version: string }
  seed: number
  memoryMaps: MemoryMapSummary[]
  /** What the names in the case ids stand for, in the order of the matrix. */
  legend: Legend
  cases: CaseResult[]
  /** How many cases ended in each way. */
  totals: Record<Outcome, number>
}

/** The quirks, strategies and scenarios that a run used. */
export interface Legend {
  quirks: { id: string; name: string; title: string }[]
  strategies: { name: string; title: string }[]
  scenarios: { name: string; title: string }[]
}

/** A machine's memory map, as far as a reader of the results needs it. */
export interface MemoryMapSummary {
  /** First part of the case ids, such as "lenovo-x240". */
  id: string
  /** Where it was read from; null for one made in memory. */
  file: string | null
  /** What the machine's firmware is built for; x64 where it is left out. */
  architecture?: Architecture['name'] | undefined
  /** Text form that it was read from, a `MapFormat` of intake. */
  format: string
  descriptors: number
  /** Descriptors with the RUNTIME attribute. */
  runtimeDescriptors: number
  bytesOfRam: number
  /** What the reader found odd. */
  warnings: string[]
}

/** What became of one cell of the matrix. */
export interface CaseResult {
  /** `map/firmware/strategy/scenario`, see `caseId`. */
  id: string
  /** Id of a {@link MemoryMapSummary}. */
  memoryMap: string
  /** Ids in the order in which they tap; empty for a firmware without quirks. */
  quirks: string[]
  /** The strategy's name, with the options that differ from the defaults: `name:option=value,…`. */
  strategy: string
  kernel: {
    profile: string
    commandLine: string
    /** Names of the strategies that the case's kernels chose, each once: not always {@link strategy}, as the command line chooses, too. */
    ran: string[]
  }
  scenario: string
  seed: number
  outcome: Outcome
  /** One line: what ended or degraded it. */
  reason: string
  findings: Finding[]
  services: ServiceResult[]
  /** Null when no kernel came far enough to call. */
  cost: StrategyCost | null
}

/** What one runtime service answered. */
export interface ServiceResult {
  name: string
  /** EFI status by name, or what happened instead. */
  status: string
  ok: boolean
  /** Which kernel called, such as "second kernel". */
  kernel: string
}

/** What a strategy costs. Counts per call are means over the calls of the case. */
export interface StrategyCost {
  /** 4 KiB pages of page tables that the kernel took while it set up the runtime services, large pages that it split included. */
  tablePages: number
  /** Bytes mapped for the firmware while it runs: the supervisor's in the low half, and where it was told that its regions are. A page that is mapped twice counts twice. */
  mappedBytes: number
  /** Bytes that are both writable and executable in the tables that firmware runs under, the kernel's own included. */
  writableExecutableBytes: number
  /** Whether linear address 0 is mapped while firmware runs. */
  pageZeroMapped: boolean
  /** Bytes of boot-services memory mapped for the firmware while it runs, each physical byte once. */
  bootServicesBytes: number
  /** Physical bytes that are mapped with more than one effective memory type in all live page tables. */
  conflictingTypeBytes: number
  perCall: {
    cr3Writes: number
    /** Flushes of all translations, global ones too. */
    globalFlushes: number
    tlbMisses: number
    /** Page-table entries read. */
    walkReferences: number
  }
  /** What so many calls in a row cost, where the scenario asks for it. */
  price: {
    times: number
    cr3Writes: number
    globalFlushes: number
    tlbMisses: number
    walkReferences: number
  } | null
}

/** How much a finding matters. */
export type Severity = 'error' | 'warning' | 'info'

/** What a rule saw, with everything needed to understand it. */
export interface Finding {
  /** Id of the rule, such as "H9". */
  rule: string
  severity: Severity
  /** What it is worth: `ok` for a remark, which did no harm this time. Why a case ended as it did say the findings of its own outcome. */
  outcome: Outcome
  title: string
  message: string
  /** Which kernel ran, such as "second kernel". */
  kernel: string
  phase: string
  /** The runtime service under way, if one was. */
  service: string | null
  /** Who touched memory: an image's name, or "kernel". */
  actor: string
  access: FindingAccess | null
  /** Where in real firmware the instruction stood that raised an exception: its linear address, and the image and its offset there, such as "0xffff88001f9e1060 (PcRtc+0x1060)". */
  instruction?: string | undefined
  /** The translation of the address, from the root down to the entry that ended it. */
  walk: FindingWalkStep[]
  physical: FindingPhysical | null
  explanation: string
  advice: string
  sources: string[]
  /** The command that runs exactly this case again. */
  reproduce: string
}

/** A memory access that went wrong. */
export interface FindingAccess {
  kind: 'read' | 'write' | 'execute'
  /** Linear address, hex. */
  address: string
  /** The page-fault error code in words; null when nothing faulted. */
  errorCode: string | null
}

/** One page-table entry that the walk read. */
export interface FindingWalkStep {
  /** The SDM's name of the entry, such as "PDE". */
  entry: string
  /** Physical address of the table, hex. */
  table: string
  /** 0 to 511. */
  index: number
  /** The entry, hex. */
  value: string
}

/** Where the access went. */
export interface FindingPhysical {
  /** Hex. */
  address: string
  /** The EFI descriptor that covers it. */
  descriptor: string | null
  /** Who owns the frame. */
  owner: string | null
}

/** How many cases ended in each way. */
export function countOutcomes(cases: readonly CaseResult[]): Record<Outcome, number> {
  const totals = { fault: 0, corrupt: 0, hang: 0, degraded: 0, refused: 0, ok: 0 }
  for (const { outcome } of cases) totals[outcome]++
  return totals
}
