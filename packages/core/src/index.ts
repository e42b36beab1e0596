export {
  formatAddress,
  isCanonical,
  type LinearAddressBits,
  PAGE_SHIFT,
  PAGE_SIZE,
  PAGE_SIZE_1G,
  PAGE_SIZE_2M,
  phys,
  PHYSICAL_ADDRESS_LIMIT,
  type PhysicalAddress,
  truncatePhys,
  truncateVirt,
  tryPhys,
  tryVirt,
  virt,
  type VirtualAddress,
} from './address.ts'
export { CoreError, type CoreErrorCode, type ErrorDetail } from './error.ts'
export { GATE_SIZE, type GateCall, type GateFunction, GateRegistry } from './cpu/call-gate.ts'
export { CR0_LONG_MODE, Cr0, Cr4, Efer } from './cpu/control.ts'
export { CR3_KEEP_TRANSLATIONS } from './cpu/control-registers.ts'
export { countersBetween, type CpuCounters, zeroCounters } from './cpu/counters.ts'
export { type AccessOrigin, type ActiveCall, Cpu, type TouchRecorder } from './cpu/cpu.ts'
export {
  type Access,
  CpuException,
  describePageFault,
  DescriptorFault,
  type FaultSite,
  GeneralProtection,
  InvalidOpcode,
  PageFault,
  PageFaultBit,
  StackFault,
  TripleFault,
} from './cpu/exception.ts'
export type { CpuFeatures } from './cpu/features.ts'
export { BROADWELL, NEHALEM } from './cpu/models.ts'
export {
  deliverInterrupt,
  type Delivery,
  type DescriptorTable,
  exceptionEvent,
  type InterruptEvent,
  loadTaskRegister,
  returnFromInterrupt,
  type TaskRegister,
  Vector,
} from './cpu/interrupt-delivery.ts'
export { AccessKind } from './cpu/permission.ts'
export {
  type CurrentTranslation,
  FAULT,
  Mmu,
  type MmuPolicy,
  type MmuRegisters,
  type StaleEntry,
  type StaleUse,
} from './cpu/mmu.ts'
export { type HeldTranslation, Tlb, type TlbEntry } from './cpu/tlb.ts'
export {
  EventLog,
  type MachineEvent,
  type MachineEventBody,
  type StaleTranslation,
  type TranslationNow,
} from './machine/event-log.ts'
export { Machine, type MachineOptions } from './machine/machine.ts'
export { CmosClock, IoPorts, type PortDevice } from './machine/ports.ts'
export { MachineReset, POWER_OFF_PORT, RESET_CONTROL_PORT } from './machine/reset.ts'
export {
  effectiveMemoryKind,
  MemoryKind,
  memoryKindName,
  type MtrrKind,
  mtrrKind,
  type MtrrRanges,
  type PageAttributeTable,
  PAT_AT_RESET,
  PAT_LINUX,
} from './memory/memory-type.ts'
export { type FrameOwner, OwnerMap } from './memory/owner-map.ts'
export { type TableChange, TableJournal } from './memory/table-journal.ts'
export { PhysicalMemory, type PhysicalMemoryOptions } from './memory/physical-memory.ts'
export {
  type AllocateTable,
  type ChangeLeaf,
  type MapOptions,
  PAGE_TABLE_FLAGS,
  PageTableBuilder,
} from './paging/builder.ts'
export { Entry, type PageFlags } from './paging/entry.ts'
export {
  inspectAddress,
  type Inspection,
  type TranslationContext,
  type WalkStep,
} from './paging/inspect.ts'
export {
  BITS_32,
  BITS_32_PSE,
  FIVE_LEVEL,
  FOUR_LEVEL,
  PAE,
  PAGING_OFF,
  type PagingLevel,
  type PagingMode,
  pagingMode,
} from './paging/mode.ts'
export { PdpteRegisters } from './paging/pdpte-registers.ts'
export { type MappedRange, mappedRanges, type MappingSurvey } from './paging/ranges.ts'
export { PageWalker, type PathEntry, Rights, ROOT_IN_REGISTERS, WalkStatus } from './paging/walk.ts'
