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
export { highHalf, joinHalves, lowHalf } from './halves.ts'
export type { Rewind } from './rewind.ts'
export { CoreError, type CoreErrorCode, type ErrorDetail } from './error.ts'
export { GATE_SIZE, type GateCall, type GateFunction, GateRegistry } from './calls/call-gate.ts'
export { CR0_LONG_MODE, Cr0, Cr4, Efer } from './cpu/control.ts'
export { CR3_KEEP_TRANSLATIONS } from './cpu/control-registers.ts'
export { countersBetween, type CpuCounters, zeroCounters } from './cpu/counters.ts'
export {
  type AccessOrigin,
  Cpu,
  type PrivilegeLevel,
  MXCSR_AT_RESET,
  type TouchRecorder,
} from './cpu/cpu.ts'
export {
  type Access,
  BoundRangeExceeded,
  ControlProtection,
  CpuException,
  describePageFault,
  DescriptorFault,
  DeviceNotAvailable,
  DivideError,
  type FaultSite,
  GeneralProtection,
  InvalidOpcode,
  PageFault,
  PageFaultBit,
  SimdException,
  StackFault,
  TripleFault,
  X87Exception,
} from './cpu/exception.ts'
export type { CpuExecution, InstructionExecutor, RunEnd, RunLimits } from './cpu/executor.ts'
export { FCW_AT_INIT, FloatingPointState } from './cpu/floating-point-state.ts'
export { type CpuFeatures, supportedLinearBits } from './cpu/features.ts'
export { EXECUTOR_WORDS, GENERAL_WORDS, Gpr } from './cpu/general-registers.ts'
export { type ModelSpecificRegisters, MSRS_AT_RESET } from './cpu/model-specific.ts'
export { Rflags, STATUS_FLAGS } from './cpu/rflags.ts'
export {
  flatSegment,
  Segment,
  type SegmentNumber,
  type SegmentRegister,
  SegmentRights,
} from './cpu/segment-register.ts'
export {
  ARROW_LAKE,
  BROADWELL,
  BULLDOZER,
  CORE2,
  CPU_MODELS,
  type CpuModel,
  type CpuModelName,
  HASWELL,
  ICE_LAKE_SP,
  IVY_BRIDGE,
  K10,
  K8,
  LUNAR_LAKE,
  NEHALEM,
  NEHALEM_EX,
  QEMU_TCG,
  SANDY_BRIDGE,
  SAPPHIRE_RAPIDS,
  SILVERMONT,
  SKYLAKE,
  SKYLAKE_SP,
  VERMEER,
  WESTMERE,
  ZEN,
  ZEN3,
  ZEN4,
  ZEN5,
} from './cpu/models.ts'
export { deliverInterrupt, exceptionEvent, returnFromInterrupt } from './interrupt/delivery.ts'
export { type Delivery, type InterruptEvent, Vector } from './interrupt/event.ts'
export { interruptReturn } from './interrupt/return.ts'
export { type Descriptor, is64BitMode, isIa32e, readDescriptor } from './segmentation/descriptor.ts'
export { accessRights, isAccessible, segmentLimit } from './segmentation/access-rights.ts'
export { farCall, farJump, type FarPointer, farReturn } from './segmentation/far-transfer.ts'
export { ioPrivilegeLevel, loadFlags } from './segmentation/flags.ts'
export { isRealMode, loadSegmentRegister } from './segmentation/segment-load.ts'
export { isWithinLimit, type OperandBytes } from './segmentation/stack.ts'
export { systemCall, systemEnter, systemExit, systemReturn } from './segmentation/system-call.ts'
export {
  type DescriptorTable,
  loadLocalDescriptorTable,
  loadTaskRegister,
  type TaskRegister,
} from './segmentation/task-register.ts'
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
export type { ActiveCall } from './calls/function-calls.ts'
export { UNKNOWN_IMAGE } from './calls/machine-code.ts'
export { type HeldTranslation, Tlb, type TlbEntry } from './cpu/tlb.ts'
export { type Board, POWER_MANAGEMENT_BASE } from './devices/board.ts'
export { chipset, type ChipsetOptions } from './devices/chipset.ts'
export { type ClockTime, CMOS_REGISTERS, CmosClock, cmosRegisters } from './devices/cmos-clock.ts'
export { DEBUG_PORT, DebugPort } from './devices/debug-port.ts'
export {
  ApicBase,
  LOCAL_APIC_ADDRESS,
  LocalApic,
  type LocalApicOptions,
  X2APIC_MSRS,
} from './devices/local-apic.ts'
export { ParallelFlash, type ParallelFlashOptions } from './devices/parallel-flash.ts'
export { PciConfiguration } from './devices/pci-configuration.ts'
export { PM1_CONTROL, PowerManagement, SLEEP_ENABLE } from './devices/power-management.ts'
export { RESET_CONTROL_PORT, ResetControl } from './devices/reset-control.ts'
export { COM1, SerialPort } from './devices/serial-port.ts'
export {
  EventLog,
  type MachineEvent,
  type MachineEventBody,
  type StaleTranslation,
  type TranslationNow,
} from './machine/event-log.ts'
export { Machine, type MachineOptions } from './machine/machine.ts'
export { IoPorts, type PortDevice } from './machine/ports.ts'
export { EndlessCode } from './machine/endless-code.ts'
export { MachineReset } from './machine/reset.ts'
export { SystemManagementInterrupt } from './machine/system-management-interrupt.ts'
export { type DumpRun, loadDump } from './memory/dump.ts'
export {
  type CachingControls,
  decodePat,
  effectiveMemoryKind,
  MemoryKind,
  memoryKindAt,
  memoryKindName,
  type MtrrKind,
  mtrrKind,
  type MtrrRanges,
  type PageAttributeTable,
  PAT_AT_RESET,
  PAT_LINUX,
} from './memory/memory-type.ts'
export type { FrameObserver } from './memory/frame-observer.ts'
export type { MemoryDevice, MemoryDeviceHost } from './memory/memory-device.ts'
export { decodeMtrrs } from './memory/mtrr.ts'
export { type FrameOwner, OwnerMap } from './memory/owner-map.ts'
export { type TableChange, TableJournal } from './memory/table-journal.ts'
export { PhysicalMemory, type PhysicalMemoryOptions } from './memory/physical-memory.ts'
export {
  type CachedRange,
  type ConflictingMapping,
  findTypeConflicts,
  type LiveRoot,
  type TypeConflict,
} from './memory/type-conflicts.ts'
export { Entry, type PageFlags } from './paging/entry.ts'
export {
  inspectAddress,
  physicalAt,
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
export { contextFromRegisters, type PagingRegisters } from './paging/registers.ts'
export { PageWalker, type PathEntry, Rights, ROOT_IN_REGISTERS, WalkStatus } from './paging/walk.ts'
export {
  type DiffOptions,
  diffTables,
  type EntryContent,
  type EntryRun,
  type TableDifference,
  type TableRoot,
} from './survey/diff.ts'
export { type TableOwner, tableOwners, type TableReference } from './survey/owners.ts'
export { liveRoots } from './survey/live-roots.ts'
export {
  type AddressName,
  filterRanges,
  type JoinedRange,
  joinPageSizes,
  type MappedRange,
  type LinearWindow,
  lowerHalf,
  mappedRanges,
  mappedRangesOfAll,
  upperHalf,
  type MappingSurvey,
  type NamedRange,
  nameRanges,
  type RangeQuery,
  tableFrames,
} from './survey/ranges.ts'
export { copyEntries } from './tables/copy.ts'
export { type BuilderOptions, PageTableBuilder, type TableResult } from './tables/builder.ts'
export type { ChangeLeaf } from './tables/change.ts'
export type {
  AlreadyMapped,
  ApplyError,
  BadPageSize,
  ChangeError,
  MapError,
  MergeError,
  Misaligned,
  NoFrame,
  NotApplicable,
  NotMapped,
  NotMergeable,
  NotSplittable,
  OutOfRange,
  ProtectError,
  SplitError,
  TableError,
  UnmapError,
} from './tables/failure.ts'
export { type ChangedRange, type FlushObligation, NOTHING_TO_FLUSH } from './tables/flush.ts'
export type { AllocateTable, ReleaseTable } from './tables/frame-stock.ts'
export type { MapOptions } from './tables/mapping.ts'
export { type TableCountOptions, tablesNeeded } from './tables/table-count.ts'
export { PAGE_TABLE_FLAGS } from './tables/tree.ts'
