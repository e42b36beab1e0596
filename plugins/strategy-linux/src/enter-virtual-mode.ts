import {
  type Cpu,
  Cr4,
  FCW_AT_INIT,
  inspectAddress,
  MXCSR_AT_RESET,
  PAGE_SIZE,
  type PageFault,
  phys,
} from '@trapdoor/core'
import {
  callersLock,
  cleanMemmap,
  type EfiInfo,
  EfiPgd,
  deleteDummyVariable,
  type EfiHandOver,
  freeBootServices,
  isBootServices,
  isLinux,
  isServiceOfRevision,
  type Kernel,
  KernelPanic,
  type KernelVariable,
  machineRealRestart,
  marksPeData,
  memattrApplyPermissions,
  memattrInit,
  mergeRegions,
  OutOfMemory,
  type PageTableStrategy,
  reserveBootServices,
  restoreXmm,
  rightsOfSplitRegion,
  RuntimeCall,
  StrategyRefusal,
  TopDownPlacement,
  virtualSystab,
} from '@trapdoor/kernel'
import {
  efiStatusName,
  EfiStatus,
  encodeMemoryMap,
  Guid,
  isRuntime,
  type MemoryAttributesTable,
  type MemoryDescriptor,
  MemoryType,
  type RuntimeServiceName,
} from '@trapdoor/uefi'
import type { MixedMode } from './mixed-mode.ts'
import { lastOf, type LinuxVersion, type LinuxVersions, versionOf } from './version.ts'

/** A memory attributes table that is longer than any can be is ignored before its bytes are reserved (commit 8fbe4c49c0cc; not in 6.1.192, nor in 6.12.117). */
const CHECKS_ATTRIBUTES_SIZE_SINCE = '6.13'
/** EFI_MEMORY_ATTRIBUTES_FLAGS_RT_FORWARD_CONTROL_FLOW_GUARD. */
const FORWARD_CFG = 1
/** Since when efi=debug keeps boot services, for debugfs (efi_free_boot_services() asks for EFI_DBG, "efi: Export boot services code and data as debugfs-blobs"). */
const PRESERVES_SINCE = '5.7'
/** EFI_1_10_SYSTEM_TABLE_REVISION. */
const EFI_1_10 = 0x1_000a
/** Faults below are taken for the kernel's own (efi_crash_gracefully_on_page_fault()). */
const LAST_NULL_PAGE_BYTE = 0xfffn

/** efi_enter_virtual_mode() and the calls after it, as Linux has had them since 3.14; what changed from version to version is in {@link LinuxVersion}. */
export class EfiVirtualMode implements PageTableStrategy {
  readonly detectsDuplicateNames = true
  readonly #releases: LinuxVersions
  #version: LinuxVersion
  readonly #mixed: MixedMode | undefined
  #pgd: EfiPgd | undefined
  #memoryAttributes: MemoryAttributesTable | undefined
  /** EFI_NX_PE_DATA. */
  #marksPeData = false
  /** efi_disable_ibt_for_runtime. */
  #tracksBranches = false
  /** efi_scratch.prev_cr3, later efi_prev_mm. */
  #previousCr3: KernelVariable | undefined
  #savedFlag: KernelVariable | undefined
  #lowered: KernelVariable | undefined
  /** What kernel_fpu_begin() keeps of the task that is current. */
  #savedMxcsr: KernelVariable | undefined
  /** Whether calls go through efi_rts_wq, where faults are recovered from. */
  #queued = false

  /** With `mixed` for firmware of 32 bits. */
  constructor(releases: LinuxVersions, mixed?: MixedMode) {
    this.#releases = releases
    this.#version = lastOf(releases)
    this.#mixed = mixed
  }

  get serialised(): boolean {
    return this.#mixed?.serialised ?? this.#version.lock === 'efi_runtime_lock'
  }

  /** Of a firmware of 64 bits: what callers hold where the kernel has no lock for all of them. */
  lockOf(service: RuntimeServiceName): string | undefined {
    if (this.#mixed !== undefined || this.#version.lock !== 'of-the-callers') return undefined
    return callersLock(service)
  }

  /** virt_efi_reset_system() with down_trylock(); efi_thunk_reset_system() takes its spinlock as all do. */
  triesLock(service: RuntimeServiceName): boolean {
    return (
      service === 'ResetSystem' &&
      this.#mixed === undefined &&
      this.#version.resetSystem === 'gives-up'
    )
  }

  /** setup_arch(): efi_clean_memmap(), efi_memattr_init(), efi_reserve_boot_services(). */
  reserve(kernel: Kernel): void {
    this.#version = versionOf(kernel, this.#releases)
    this.#mixed?.reserve(kernel)
    const efi = kernel.requireEfi
    if (this.#version.cleanMemmap) efi.memoryMap = cleanMemmap(kernel, efi.memoryMap)
    if (this.#version.tighten.startsWith('attributes')) {
      this.#memoryAttributes = memattrInit(kernel, {
        size: isLinux(kernel, CHECKS_ATTRIBUTES_SIZE_SINCE) ? 'checked' : 'unchecked',
        lastVersion: this.#version.lastAttributesVersion,
      })
    }
    this.#marksPeData = this.#version.tighten.endsWith('properties') && marksPeData(kernel)
    efi.memoryMap = reserveBootServices(kernel, efi.memoryMap, this.#version.sharedBootServices)
  }

  /** __efi_enter_virtual_mode(): without memory for the page tables there are no runtime services. */
  setup(kernel: Kernel): void {
    orDisable(() => {
      this.#enterVirtualMode(kernel)
    })
  }

  #enterVirtualMode(kernel: Kernel): void {
    const version = this.#version
    const efi = kernel.requireEfi
    this.#queued = false
    this.#tracksBranches = false
    const pgd = this.#allocatePageTables(kernel)
    const map = this.#mapRegions(kernel, mergeRegions(efi.memoryMap))
    const systab = virtualSystab(map, efi.info.systab)
    if (systab === undefined && version.systab === 'looked-up') throw withoutSystab()
    const pages = newMemmapPages(map.length, efi.info.memdescSize)
    const memmap = kernel.allocatePages('EFI memory map', pages)
    const bytes = encodeMemoryMap(map, efi.info.memdescSize)
    kernel.bootCpu.writeBytes(kernel.tables.directMapAddress(memmap), bytes)
    pgd.setupPageTables(memmap, pages, version.page0)
    this.#mixed?.setupPageTables(kernel, pgd)
    this.#sync()

    const status = this.#setVirtualAddressMap(kernel, memmap, bytes.length)
    if (status !== EfiStatus.SUCCESS) {
      efi.svamStatus = status
      this.#switchFailed(status)
    }
    efi.memoryMap = map
    // Who has read it 1:1 need not have found it in the map.
    efi.systab = systab ?? BigInt(efi.info.systab)
    efi.virtualMode = true

    const preserve = kernel.commandLine.efi.has('debug') && isLinux(kernel, PRESERVES_SINCE)
    if (!preserve) {
      const unmap =
        version.freedBootServices === 'unmapped' && this.#mixed === undefined
          ? (descriptor: MemoryDescriptor): void => pgd.unmapRegion(descriptor)
          : undefined
      const kept = freeBootServices(kernel, map, unmap)
      if (version.runtimeMap === 'efi.memmap') efi.memoryMap = kept
    }
    this.#updateMappings(kernel)
    deleteDummyVariable(kernel)
    this.#queued = true
  }

  /** The revision checks of runtime-wrappers.c. */
  offers(kernel: Kernel, service: RuntimeServiceName): boolean {
    const { revision, vendor, virtualMode } = kernel.requireEfi
    if (this.#mixed !== undefined && !(virtualMode && this.#mixed.offers(service))) return false
    const isOldApple = this.#version.apple === 'efi-1.10' && vendor === 'Apple'
    return isServiceOfRevision(isOldApple ? EFI_1_10 : revision, service)
  }

  /** What efi_thunk_get_variable() and its like do before efi_thunk(). */
  answer(call: RuntimeCall): bigint | undefined {
    return this.#mixed?.answer(call)
  }

  passedArguments(call: RuntimeCall): readonly bigint[] {
    return this.#mixed?.passedArguments(call) ?? call.args
  }

  /** efi_sync_low_kernel_mappings(), kernel_fpu_begin() and the switch. */
  enter(call: RuntimeCall): void {
    const { cpu } = call
    this.#sync()
    this.#savedMxcsr!.write(cpu, BigInt(cpu.mxcsr))
    this.#savedFlag!.write(cpu, cpu.interruptFlag ? 1n : 0n)
    if (this.#version.interrupts === 'off') cpu.interruptFlag = false
    this.#switchTo(cpu)
    this.#lower(cpu, {
      tracking: this.#version.branchTrackingOff !== 'never' && !this.#tracksBranches,
      separation: this.#version.lassOff,
    })
    this.#mixed?.enter(call)
  }

  /** The way back, and efi_call_virt_check_flags(). */
  leave(call: RuntimeCall): void {
    const { before, cpu, kernel, service } = call
    this.#mixed?.leave(call)
    const interruptFlag = this.#savedFlag!.read(cpu) !== 0n
    if (this.#version.interrupts === 'on' && cpu.interruptFlag !== interruptFlag) {
      kernel.print(`[Firmware Bug]: IRQ flags corrupted by EFI ${service}`)
    }
    this.#raise(cpu)
    this.#switchBack(cpu)
    if (this.#version.fpu === 'volatile-xmm') {
      restoreXmm(call)
    } else if (this.#version.fpu !== 'left-to-firmware') {
      cpu.mxcsr = Number(this.#savedMxcsr!.read(cpu))
      cpu.floatingPoint = before.floatingPoint
    }
    cpu.interruptFlag = interruptFlag
    this.#mixed?.finish(call)
  }

  /** efi_crash_gracefully_on_page_fault(). */
  recover({ cpu, kernel, service }: RuntimeCall, fault: PageFault): bigint | undefined {
    if (this.#version.faultRecovery === 'none' || !this.#queued) return undefined
    if (fault.address <= LAST_NULL_PAGE_BYTE) return undefined
    // The exception's frame goes onto the stack that firmware has left: where there is none, it is a double fault.
    if (!canPush(cpu)) return undefined
    if (kernel.tasks[cpu.id]?.isStackGuard(fault.address) === true) {
      kernel.print('BUG: TASK stack guard page was hit')
      return undefined
    }
    kernel.print(
      `[Firmware Bug]: Page fault caused by firmware at PA: 0x${fault.address.toString(16)}`,
    )
    if (service === 'ResetSystem') {
      kernel.print('efi_reset_system() buggy! Reboot through BIOS')
      machineRealRestart(kernel, cpu)
    }
    kernel.disableRuntimeServices(
      `firmware faulted in ${service}: froze efi_rts_wq and disabled EFI Runtime Services`,
    )
    return EfiStatus.ABORTED
  }

  /**
   * efi_runtime_map_copy() and SETUP_EFI: what kexec-tools passes on. Up to 4.8 that is what save_runtime_map() has copied, in the order of the firmware's map; since 4.9 (drivers/firmware/efi/runtime-map.c) it is
   * efi.memmap, boot-services memory that the kernel has marked with EFI_MEMORY_RUNTIME included, as observed boots of 6.1 and 6.12 have it.
   */
  handOver(kernel: Kernel): EfiHandOver {
    const efi = kernel.requireEfi
    return {
      vendor: Number(efi.vendorAddress),
      runtime: Number(efi.runtimeAddress),
      configurationTable: Number(efi.configurationTableAddress),
      smbios: Number(efi.configurationTable.find(({ guid }) => guid === Guid.SMBIOS)?.table ?? 0n),
      memoryMap: this.#runtimeMap(efi.memoryMap),
    }
  }

  #runtimeMap(map: readonly MemoryDescriptor[]): readonly MemoryDescriptor[] {
    if (this.#version.runtimeMap === 'efi.memmap') return map
    const saved = map.filter((each) => isRuntime(each) && !isBootServices(each))
    return this.#version.iteration === 'reverse' ? saved.toReversed() : saved
  }

  /** kexec_enter_virtual_mode(): every region where it was; SetVirtualAddressMap is not called, and the memory attributes table not applied. */
  takeOver(kernel: Kernel): void {
    orDisable(() => {
      this.#kexecEnterVirtualMode(kernel)
    })
  }

  #kexecEnterVirtualMode(kernel: Kernel): void {
    if (this.#mixed !== undefined) {
      throw new StrategyRefusal('runtime services are not used after kexec in mixed mode')
    }
    const efi = kernel.requireEfi
    const { memoryMap } = efi
    const pgd = this.#allocatePageTables(kernel)
    const systab = virtualSystab(memoryMap, efi.info.systab)
    if (systab === undefined && this.#version.systab === 'looked-up') throw withoutSystab()
    for (const descriptor of memoryMap) {
      const executable = this.#isExecutable(descriptor)
      if (this.#version.kexecRegions === 'virtual-and-identity') {
        pgd.mapRegion(descriptor, BigInt(descriptor.physicalStart), executable)
      }
      pgd.mapRegion(descriptor, descriptor.virtualStart, executable)
    }
    const pages = Math.ceil(efi.info.memmapSize / PAGE_SIZE)
    const memmap = phys(Math.floor(efi.info.memmap / PAGE_SIZE) * PAGE_SIZE)
    pgd.setupPageTables(memmap, pages, this.#version.page0)
    this.#sync()
    efi.systab = systab ?? BigInt(efi.info.systab)
    if (this.#version.dummyAfterKexec === 'deleted') deleteDummyVariable(kernel)
    this.#queued = true
  }

  /** efi_alloc_page_tables(). */
  #allocatePageTables(kernel: Kernel): EfiPgd {
    this.#previousCr3 = kernel.variable({ perCpu: false })
    this.#savedFlag = kernel.variable({ perCpu: false })
    this.#lowered = kernel.variable({ perCpu: false })
    this.#savedMxcsr = kernel.variable({ perCpu: true })
    this.#pgd =
      this.#version.pageTable === 'efi_pgd' ? EfiPgd.own(kernel) : EfiPgd.trampoline(kernel)
    return this.#pgd
  }

  /** efi_map_regions(): each region 1:1 and at its virtual address. Returns the map that firmware gets. */
  #mapRegions(kernel: Kernel, regions: readonly MemoryDescriptor[]): MemoryDescriptor[] {
    const placement = new TopDownPlacement()
    const inOrder = this.#version.iteration === 'reverse' ? regions.toReversed() : regions
    const passed: MemoryDescriptor[] = []
    for (const region of inOrder) {
      if (!this.#shouldMapRegion(region)) continue
      const executable = this.#isExecutable(region)
      this.#pgd!.mapRegion(region, BigInt(region.physicalStart), executable)
      if (this.#mixed !== undefined) {
        passed.push({ ...region, virtualStart: BigInt(region.physicalStart) })
        continue
      }
      const virtualStart = placement.place(region)
      if (virtualStart === undefined) {
        kernel.print('efi: VA address range overflow!')
        passed.push(region)
        continue
      }
      this.#pgd!.mapRegion(region, virtualStart, executable)
      passed.push({ ...region, virtualStart })
    }
    return passed
  }

  #shouldMapRegion(region: MemoryDescriptor): boolean {
    if (region.numberOfPages === 0) return false
    return (
      isRuntime(region) || isBootServices(region) || this.#mixed?.shouldMapRegion(region) === true
    )
  }

  #isExecutable({ type }: MemoryDescriptor): boolean {
    return (
      this.#version.executable === 'everything' ||
      type === MemoryType.BootServicesCode ||
      type === MemoryType.RuntimeServicesCode
    )
  }

  /** efi_set_virtual_address_map(), up to 5.7 phys_efi_set_virtual_address_map(): the function by its physical address, both mappings live. */
  #setVirtualAddressMap(kernel: Kernel, memmap: number, bytes: number): bigint {
    const efi = kernel.requireEfi
    const { memdescSize, memdescVersion } = efi.info
    const args = [bytes, memdescSize, memdescVersion, memmap].map(BigInt)
    let interruptFlag = false
    return new RuntimeCall(kernel, kernel.bootCpu, 'SetVirtualAddressMap', args, {
      path: {
        enter: (call) => {
          const { cpu } = call
          interruptFlag = cpu.interruptFlag
          if (this.#version.svamInterrupts === 'off') cpu.interruptFlag = false
          this.#switchTo(cpu)
          this.#lower(cpu, {
            tracking: this.#version.branchTrackingOff === 'calls-and-svam',
            separation: false,
          })
          this.#mixed?.enter(call)
        },
        leave: (call) => {
          const { cpu } = call
          this.#mixed?.leave(call)
          if (this.#version.systab === 'read-one-to-one') readRuntime(efi.info, cpu)
          this.#raise(cpu)
          this.#switchBack(cpu)
          cpu.interruptFlag = interruptFlag
        },
      },
      functionAddress: () => efi.setVirtualAddressMap,
    }).run()
  }

  #switchFailed(status: bigint): never {
    const message = `Unable to switch EFI into virtual mode (status=${status.toString(16)}, ${efiStatusName(status)})`
    if (this.#version.svamFailure === 'panic') throw new KernelPanic(`EFI: ${message}`)
    throw new StrategyRefusal(message)
  }

  /** efi_runtime_update_mappings(). */
  #updateMappings(kernel: Kernel): void {
    const table = this.#memoryAttributes
    if (table !== undefined) {
      this.#tracksBranches =
        this.#version.branchTrackingByTable && (table.flags & FORWARD_CFG) !== 0
      memattrApplyPermissions(kernel, table, (entry, rights) =>
        this.#pgd!.updateMappings(entry, rights),
      )
    } else if (this.#marksPeData) {
      for (const region of kernel.requireEfi.memoryMap.filter(isRuntime)) {
        this.#pgd!.updateMappings(region, rightsOfSplitRegion(region))
      }
    }
  }

  /** efi_disable_lass(), once the EFI page tables are loaded, and ibt_save(): what firmware does not stand is switched off. */
  #lower(cpu: Cpu, off: { readonly tracking: boolean; readonly separation: boolean }): void {
    const lass = off.separation ? cpu.cr4 & Cr4.LASS : 0
    const tracked = off.tracking && cpu.endbranchTracking
    this.#lowered!.write(cpu, (tracked ? 1n : 0n) | BigInt(lass))
    if (tracked) cpu.endbranchTracking = false
    if (lass !== 0) cpu.writeCr4(cpu.cr4 & ~lass)
  }

  /** ibt_restore(), and CR4.LASS as it was. */
  #raise(cpu: Cpu): void {
    const lowered = Number(this.#lowered!.read(cpu))
    if ((lowered & 1) !== 0) cpu.endbranchTracking = true
    if ((lowered & Cr4.LASS) !== 0) cpu.writeCr4(cpu.cr4 | Cr4.LASS)
  }

  #sync(): void {
    if (this.#version.pageTable === 'efi_pgd') this.#pgd!.syncLowKernelMappings()
    else this.#pgd!.syncTrampoline()
  }

  #switchTo(cpu: Cpu): void {
    if (this.#version.fpu === 'saved-and-initialised') {
      cpu.floatingPoint.controlWord = FCW_AT_INIT
      cpu.mxcsr = MXCSR_AT_RESET
    }
    this.#previousCr3!.write(cpu, BigInt(cpu.cr3))
    cpu.writeCr3(this.#pgd!.root)
    if (this.#version.flush === 'both-ways') flushAll(cpu)
  }

  #switchBack(cpu: Cpu): void {
    cpu.writeCr3(Number(this.#previousCr3!.read(cpu)))
    if (this.#version.flush !== 'none') flushAll(cpu)
  }
}

/** __flush_tlb_all(): global translations go with CR4.PGE. */
function flushAll(cpu: Cpu): void {
  cpu.writeCr4(cpu.cr4 & ~Cr4.PGE)
  cpu.writeCr4(cpu.cr4 | Cr4.PGE)
}

/** Pages of the map that realloc_pages() ends with: it starts with two, and doubles when they are full, but counts only half of them. */
function newMemmapPages(count: number, descriptorSize: number): number {
  let left = 0
  let shift = 0
  for (let index = 0; index < count; index++) {
    if (left < descriptorSize) left += PAGE_SIZE << shift++
    left -= descriptorSize
  }
  return 1 << shift
}

/** Whether the CPU can write an exception's frame, five words and an error code, below RSP. */
function canPush(cpu: Cpu): boolean {
  const { rsp } = cpu
  return [8n, 48n].every((below) => {
    const found = inspectAddress(cpu.translationContext(), rsp - below)
    return found.status === 'mapped' && found.writable
  })
}

/** What is left undone for want of memory: the kernel boots on, and EFI_RUNTIME_SERVICES is cleared. */
function orDisable(enter: () => void): void {
  try {
    enter()
  } catch (error) {
    if (!(error instanceof OutOfMemory)) throw error
    throw new StrategyRefusal(`EFI runtime non-functional (${error.message})`, { cause: error })
  }
}

function withoutSystab(): KernelPanic {
  return new KernelPanic('kernel BUG at arch/x86/platform/efi/efi.c: BUG_ON(!efi.systab)')
}

/** `efi.runtime = READ_ONCE(systab->runtime)`, by the system table's physical address. */
function readRuntime({ architecture, systab }: EfiInfo, cpu: Cpu): void {
  const at = BigInt(systab + architecture.tables.systemTable.RuntimeServices)
  if (architecture.naturalBytes === 8) cpu.read64(at)
  else cpu.read32(at)
}
