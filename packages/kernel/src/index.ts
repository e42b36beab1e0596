export { type CommandLine, type CrashKernelRequest, parseCommandLine } from './boot/command-line.ts'
export {
  BOOT_PARAMS_BYTES,
  type BootParams,
  decodeBootParams,
  type EfiInfo,
  encodeBootParams,
} from './boot/boot-params.ts'
export {
  type ByteRange,
  type HandOff,
  type LoaderHabits,
  loadKernel,
  type RealImage,
} from './boot/loader.ts'
export { type Injections } from './boot/injections.ts'
export {
  bootKernel,
  type BootOptions,
  bootToRuntimeServices,
  finishBoot,
} from './boot/start-kernel.ts'
export { type CallPath, RuntimeCall, type Touch } from './efi/runtime-call.ts'
export { restoreXmm } from './efi/save-xmm.ts'
export { deleteDummyVariable, efivarInit, type VariableName } from './efi/efivars.ts'
export { isServiceOf2635, isServiceOfRevision } from './efi/runtime-version.ts'
export { EfiServices, type PreparedCall, type ServiceResult } from './efi/services.ts'
export {
  createStrategy,
  type EfiHandOver,
  firmwareArchitectureOf,
  type Hardening,
  layoutOf,
  type PageTableStrategy,
  type StrategyChoice,
  type StrategyDefinition,
  type StrategyOption,
  StrategyRefusal,
} from './efi/strategy.ts'
export { InitialPageTable, type LowAlias, PagingOff, SwapperAlias } from './efi/early/paging-off.ts'
export {
  aliasLowHalf,
  aliasLowHalfByTables,
  PgdSwap,
  restoreLowHalf,
  rootEntriesOfRam,
  setRuntimeCodeExecutable,
} from './efi/early/pgd-swap.ts'
export { efiMemType } from './efi/mem-type.ts'
export { callersLock } from './efi/callers-lock.ts'
export { callPhysical } from './efi/physical-call.ts'
export { EfiPgd } from './efi/pgd/efi-pgd.ts'
export { runtimeSystab, virtualSystab } from './efi/virtual-systab.ts'
export { kernelMapPagesInPgd, type PageRights } from './efi/pgd/map-pages.ts'
export {
  freeBootServices,
  isBootServices,
  reserveBootServices,
} from './efi/regions/boot-services.ts'
export { cleanMemmap, isValidDescriptor } from './efi/regions/clean-memmap.ts'
export { memattrApplyPermissions, memattrInit } from './efi/regions/memory-attributes.ts'
export { marksPeData, rightsOfSplitRegion } from './efi/regions/properties-table.ts'
export { mergeRegions } from './efi/regions/merge-regions.ts'
export { EFI_VA_END, EFI_VA_START, TopDownPlacement } from './efi/regions/top-down.ts'
export { efiIoremap, makeRuntimeCodeExecutable } from './efi/virtual-mode.ts'
export { type EfiState } from './efi/efi-init.ts'
export { KernelError, type KernelErrorCode, KernelHang, KernelPanic, OutOfMemory } from './error.ts'
export { BOOT_PHASES, type BootPhase, createKernelHooks, type KernelHooks } from './hooks.ts'
export { cpuDown, cpuUp } from './hotplug/cpu-hotplug.ts'
export { growVmalloc, loadModules } from './hotplug/growth.ts'
export { addMemory } from './hotplug/memory-hotplug.ts'
export { KERNEL32_CS, KERNEL_CS, KERNEL_DS } from './interrupt/descriptor-tables.ts'
export { type Interruption, takeInterrupt } from './interrupt/interrupts.ts'
export { Kernel, type KernelProfile, type KernelVariable } from './kernel.ts'
export { crashKexec, kexec, type NextKernel } from './kexec/kexec.ts'
export { type KexecLoader } from './kexec/next-e820.ts'
export { compareVersions, isLinux } from './linux-version.ts'
export {
  type AddressSpaceLayout,
  kernelAddress,
  kernelArchitecture,
  LAYOUT_2_6_26,
  LAYOUT_2_6_35,
  LAYOUT_4_20,
  LAYOUT_4_8,
  LAYOUT_4_20_LA57,
  LAYOUT_FIXED_ROOT,
} from './memory/layout.ts'
export { LAYOUT_I386, LAYOUT_I386_PAE, splitAt, type UserGibibytes } from './memory/layout-i386.ts'
export { randomizeLayout } from './memory/kaslr.ts'
export {
  E820_MAX,
  type E820Entry,
  e820FromEfi,
  E820Type,
  e820TypeOf,
  endOfRam,
  ramRanges,
  removeE820,
  sanitizeE820,
  updateE820,
} from './memory/e820.ts'
export { type FrameRange, PageAllocator, type Placement } from './memory/page-allocator.ts'
export { KernelTables } from './memory/kernel-tables.ts'
export { restoreImage } from './power/hibernate.ts'
export { machineRealRestart } from './power/restart.ts'
export { suspendToRam } from './power/suspend.ts'
export { preempt } from './task/preempt.ts'
export { type ArgumentPlace, type Task } from './task/task.ts'
