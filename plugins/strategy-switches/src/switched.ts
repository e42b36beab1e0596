import {
  copyEntries,
  type Cpu,
  Cr4,
  PAGE_SIZE,
  PAGE_SIZE_1G,
  PAGE_SIZE_2M,
  type PageFault,
  type PageTableBuilder,
  phys,
  virt,
} from '@trapdoor/core'
import {
  callPhysical,
  type EfiHandOver,
  efiIoremap,
  freeBootServices,
  isBootServices,
  isServiceOfRevision,
  isValidDescriptor,
  type Kernel,
  KernelPanic,
  type KernelVariable,
  makeRuntimeCodeExecutable,
  machineRealRestart,
  marksPeData,
  memattrApplyPermissions,
  memattrInit,
  mergeRegions,
  type PageTableStrategy,
  reserveBootServices,
  rightsOfSplitRegion,
  RuntimeCall,
  runtimeSystab,
  StrategyRefusal,
  TopDownPlacement,
} from '@trapdoor/kernel'
import {
  descriptorEnd,
  EfiStatus,
  efiStatusName,
  encodeMemoryMap,
  Guid,
  isRuntime,
  MemoryAttribute,
  type MemoryAttributesTable,
  type MemoryDescriptor,
  MemoryType,
  type RuntimeServiceName,
} from '@trapdoor/uefi'
import type { Positions } from './switches.ts'

/** Of the constant policy: a multiple of 512 GiB in the kernel's half that it uses for nothing. */
const CONSTANT = 0xffff_8080_0000_0000n
const LARGEST_PAGE = { '4K': PAGE_SIZE, '2M': PAGE_SIZE_2M, '1G': PAGE_SIZE_1G } as const
/** Any cacheability but uncached. */
const BETTER_THAN_UNCACHED = MemoryAttribute.WB | MemoryAttribute.WT | MemoryAttribute.WC

/** A strategy whose every choice is a switch. The steps have the order of Linux. */
export class Switched implements PageTableStrategy {
  readonly serialised: boolean
  readonly preemptible: boolean
  readonly detectsDuplicateNames = true
  readonly #is: Positions
  #tables: PageTableBuilder | undefined
  #memoryAttributes: MemoryAttributesTable | undefined
  #cr3: KernelVariable | undefined
  #interruptFlag: KernelVariable | undefined
  #mxcsr: KernelVariable | undefined

  constructor(positions: Positions) {
    this.#is = positions
    this.serialised = positions.lock === 'on'
    this.preemptible = positions.preemption === 'on'
  }

  reserve(kernel: Kernel): void {
    const efi = kernel.requireEfi
    // CONFIG_EFI_DISABLE_RUNTIME, which PREEMPT_RT selects (drivers/firmware/efi/Kconfig).
    if (this.#is.preemptRt === 'on' && !kernel.commandLine.efi.has('runtime')) {
      throw new StrategyRefusal('not under PREEMPT_RT without efi=runtime')
    }
    if (this.#is.tighten === 'memory-attributes-table') {
      this.#memoryAttributes = memattrInit(kernel)
    }
    if (this.#is.retainBootServices !== 'never') {
      efi.memoryMap = reserveBootServices(kernel, efi.memoryMap, 'mark')
    }
  }

  setup(kernel: Kernel): void {
    const efi = kernel.requireEfi
    const regions = this.#place(kernel, this.#selected(efi.memoryMap))
    this.#build(kernel, regions)
    if (this.#is.addresses !== 'none') this.#setVirtualAddressMap(kernel, regions)
    efi.memoryMap = regions
    if (this.#is.retainBootServices === 'until-svam') {
      const unmap = this.#is.unmapBootServices === 'on'
      efi.memoryMap = freeBootServices(
        kernel,
        regions,
        unmap ? (region) => this.#unmap(region) : undefined,
      )
    }
    this.#tighten(kernel)
    this.#flushShared(kernel)
    if (this.#is.identity === 'off' && this.#is.addresses !== 'none') {
      for (const region of efi.memoryMap) this.#unmapIdentity(region)
    }
  }

  offers(kernel: Kernel, service: RuntimeServiceName): boolean {
    return isServiceOfRevision(kernel.requireEfi.revision, service)
  }

  enter(call: RuntimeCall): void {
    const { cpu, kernel } = call
    this.#interruptFlag?.write(cpu, cpu.interruptFlag ? 1n : 0n)
    if (this.#is.interrupts === 'off') cpu.interruptFlag = false
    this.#mxcsr?.write(cpu, BigInt(cpu.mxcsr))
    this.#cr3?.write(cpu, BigInt(cpu.cr3))
    if (this.#tables === undefined) return
    if (this.#is.syncPolicy === 'per-call') this.#copyKernelHalf(kernel)
    cpu.writeCr3(this.#tables.root)
    if (this.#is.flush === 'on-both') flushGlobal(cpu)
  }

  leave(call: RuntimeCall): void {
    const { cpu, kernel, before } = call
    if (this.#tables !== undefined) {
      const saved = this.#cr3 === undefined ? before.cr3 : Number(this.#cr3.read(cpu))
      const task = kernel.tasks[cpu.id]?.tables.root ?? kernel.tables.swapper.root
      cpu.writeCr3(this.#is.restore === 'task' ? task : saved)
      if (this.#is.flush !== 'nothing') flushGlobal(cpu)
    }
    if (this.#mxcsr !== undefined) {
      cpu.mxcsr = Number(this.#mxcsr.read(cpu))
      cpu.floatingPoint = before.floatingPoint
    }
    cpu.interruptFlag =
      this.#interruptFlag === undefined
        ? before.interruptFlag
        : this.#interruptFlag.read(cpu) !== 0n
  }

  recover({ cpu, kernel, service }: RuntimeCall, fault: PageFault): bigint | undefined {
    if (this.#is.faultRecovery === 'none' || kernel.phase !== 'running') return undefined
    if (fault.address <= 0xfffn) return undefined
    if (service === 'ResetSystem') {
      machineRealRestart(kernel, cpu)
    }
    if (this.#is.faultRecovery === 'abort-call') return EfiStatus.DEVICE_ERROR
    kernel.disableRuntimeServices(`firmware faulted in ${service}`)
    return EfiStatus.ABORTED
  }

  handOver(kernel: Kernel): EfiHandOver | undefined {
    const efi = kernel.requireEfi
    if (this.#is.handOver === 'nothing') return undefined
    if (this.#is.addresses === 'none') return undefined
    const smbios = efi.configurationTable.find(({ guid }) => guid === Guid.SMBIOS)
    return {
      vendor: Number(efi.vendorAddress),
      runtime: Number(efi.runtimeAddress),
      configurationTable: Number(efi.configurationTableAddress),
      smbios: Number(smbios?.table ?? 0n),
      memoryMap: efi.memoryMap,
    }
  }

  /** Regions where they were, in tables of this kernel's own. */
  takeOver(kernel: Kernel): void {
    const efi = kernel.requireEfi
    this.#build(kernel, efi.memoryMap)
    efi.systab = runtimeSystab(efi.memoryMap, efi.info.systab)
    if (this.#is.identity === 'off') {
      for (const region of efi.memoryMap) this.#unmapIdentity(region)
    }
  }

  #selected(map: readonly MemoryDescriptor[]): MemoryDescriptor[] {
    const merged = this.#is.mergeRegions === 'on' ? mergeRegions(map) : map
    const regions = merged.filter(
      (region) =>
        isValidDescriptor(region) &&
        (this.#passes(region) ||
          this.#is.filter === 'all' ||
          (this.#is.filter === 'runtime-and-boot' && isBootServices(region)) ||
          (this.#is.retainBootServices !== 'never' && isBootServices(region))),
    )
    return this.#is.svamOrder === 'descending' ? regions.toReversed() : regions
  }

  /** The RUNTIME attribute or, as the patch of 2010 tests the type for code or data, any of three bits of it. */
  #passes(region: MemoryDescriptor): boolean {
    if (this.#is.filter !== 'type-bits') return isRuntime(region)
    const bits = MemoryType.RuntimeServicesCode | MemoryType.RuntimeServicesData
    return (region.type & bits) !== 0
  }

  #place(kernel: Kernel, regions: readonly MemoryDescriptor[]): MemoryDescriptor[] {
    const placement = new TopDownPlacement()
    const policies: Record<Positions['addresses'], (region: MemoryDescriptor) => bigint> = {
      none: () => 0n,
      identity: ({ physicalStart }) => BigInt(physicalStart),
      'direct-map': (region) => efiIoremap(kernel, region),
      constant: ({ physicalStart }) => CONSTANT + BigInt(physicalStart),
      // Beyond the window a region is passed without an address.
      'top-down': (region) => placement.place(region) ?? 0n,
    }
    const addressOf = policies[this.#is.addresses]
    return regions.map((region) => placedAt(region, addressOf(region)))
  }

  #build(kernel: Kernel, regions: readonly MemoryDescriptor[]): void {
    const perCpu = this.#is.saveArea === 'per-cpu'
    if (this.#is.saveArea !== 'stack') {
      this.#cr3 = kernel.variable({ perCpu })
      this.#interruptFlag = kernel.variable({ perCpu })
    }
    // Whatever else is kept where: that of a process is the process's.
    this.#mxcsr = this.#is.saveFpu === 'on' ? kernel.variable({ perCpu: true }) : undefined
    if (this.#is.root === 'current') {
      if (this.#is.addresses !== 'direct-map') {
        throw new StrategyRefusal('the current tables hold only addresses of the direct map')
      }
      return
    }
    this.#tables =
      this.#is.root === 'static'
        ? kernel.staticPageTable('firmware_pgd')
        : kernel.newPageTable('firmware_pgd')
    if (this.#is.sharePgd0 === 'on') {
      this.#copyRootEntry(kernel, kernel.tables.rootIndex(kernel.tables.layout.pageOffset), 0)
    }
    for (const region of regions) {
      this.#map(BigInt(region.physicalStart), region)
      // Addresses of the direct map come with the kernel's half.
      const isOwn = this.#is.addresses === 'top-down' || this.#is.addresses === 'constant'
      if (isOwn && region.virtualStart !== 0n) this.#map(region.virtualStart, region)
    }
    if (this.#is.page0 !== 'unmapped') {
      this.#tables.mapRange(virt(0n), phys(0), PAGE_SIZE, {
        executable: this.#is.page0 === 'executable',
        replace: true,
      })
    }
    this.#copyKernelHalf(kernel)
    this.#flushShared(kernel)
  }

  /** What was changed of the direct map, every CPU has to know. */
  #flushShared(kernel: Kernel): void {
    if (this.#is.sharePgd0 === 'off') return
    for (const flush of this.#tables?.outstanding ?? []) flush.ignore('__flush_tlb_all()')
    kernel.tables.flushAll()
  }

  #map(address: bigint, region: MemoryDescriptor): void {
    const isCode =
      region.type === MemoryType.RuntimeServicesCode || region.type === MemoryType.BootServicesCode
    this.#tables!.mapRange(
      virt(address),
      phys(region.physicalStart),
      region.numberOfPages * PAGE_SIZE,
      {
        executable: this.#is.executable === 'everything' || isCode,
        cacheDisable: this.#isUncached(region),
        global: this.#is.globalBit === 'on',
        largestPage: LARGEST_PAGE[this.#is.pageSize],
        replace: true,
      },
    )
  }

  #isUncached({ attribute }: MemoryDescriptor): boolean {
    if (this.#is.caching === 'ignore') return false
    const good = this.#is.caching === 'best' ? BETTER_THAN_UNCACHED : MemoryAttribute.WB
    return (attribute & good) === 0n
  }

  /** The kernel's root entries, without those that the tables have for firmware. */
  #copyKernelHalf(kernel: Kernel): void {
    const { tables } = kernel
    const own = this.#is.addresses === 'top-down' ? 511 : 512
    if (this.#is.kernelHalf === 'all') {
      for (let index = 256; index < own; index++) this.#copyRootEntry(kernel, index)
    } else if (this.#is.kernelHalf === 'two') {
      this.#copyRootEntry(kernel, tables.rootIndex(tables.layout.pageOffset))
    }
    if (this.#is.kernelHalf === 'none') return
    if (own === 511) this.#copyWindowsNeighbours(kernel)
    else this.#copyRootEntry(kernel, 511)
  }

  #copyRootEntry(kernel: Kernel, index: number, to = index): void {
    const entry = kernel.tables.swapper.rootEntry(index)
    if (entry !== 0n) this.#tables!.setRootEntry(to, entry)
  }

  /** The kernel's text and what else shares a root entry with the window from −68 to −4 GiB. */
  #copyWindowsNeighbours(kernel: Kernel): void {
    const { memory } = kernel.machine
    const kernels = tableOf(kernel.tables.swapper.rootEntry(511))
    const own = tableOf(this.#tables!.rootEntry(511))
    if (own === 0) {
      this.#copyRootEntry(kernel, 511)
      return
    }
    copyEntries(memory, kernels / PAGE_SIZE, own / PAGE_SIZE, 0, 444)
    copyEntries(memory, kernels / PAGE_SIZE, own / PAGE_SIZE, 508, 512)
  }

  #unmap(region: MemoryDescriptor): void {
    this.#unmapIdentity(region)
    if (region.virtualStart === 0n || this.#tables === undefined) return
    if (this.#is.addresses === 'direct-map') return
    this.#tables.unmapRange(virt(region.virtualStart), region.numberOfPages * PAGE_SIZE)
  }

  #unmapIdentity(region: MemoryDescriptor): void {
    if (this.#is.addresses === 'identity') return
    const bytes = region.numberOfPages * PAGE_SIZE
    this.#tables?.unmapRange(virt(BigInt(region.physicalStart)), bytes)
  }

  #tighten(kernel: Kernel): void {
    const table = this.#memoryAttributes
    if (this.#tables === undefined) return
    if (table !== undefined) {
      memattrApplyPermissions(kernel, table, (entry, rights) => {
        this.#protect(entry, rights)
        return 'applied'
      })
    } else if (this.#is.tighten === 'properties-table' && marksPeData(kernel)) {
      for (const region of kernel.requireEfi.memoryMap.filter(isRuntime)) {
        this.#protect(region, rightsOfSplitRegion(region))
      }
    }
  }

  #protect(
    part: MemoryDescriptor,
    rights: { readonly writable: boolean; readonly executable: boolean },
  ): void {
    const bytes = descriptorEnd(part) - part.physicalStart
    const addresses = new Set([BigInt(part.physicalStart), part.virtualStart])
    if (this.#is.addresses === 'direct-map') addresses.delete(part.virtualStart)
    for (const address of addresses) this.#tables!.protectRange(virt(address), bytes, rights)
  }

  #setVirtualAddressMap(kernel: Kernel, map: readonly MemoryDescriptor[]): void {
    const efi = kernel.requireEfi
    const { memdescSize, memdescVersion } = efi.info
    const bytes = encodeMemoryMap(map, memdescSize)
    const pages = Math.max(1, Math.ceil(bytes.length / PAGE_SIZE))
    const place = kernel.allocatePages('EFI memory map', pages)
    kernel.bootCpu.writeBytes(kernel.tables.directMapAddress(place), bytes)
    const table = this.#tables
    table?.mapRange(virt(BigInt(place)), place, pages * PAGE_SIZE, { replace: true })
    const args = [bytes.length, memdescSize, memdescVersion, place].map(BigInt)
    const status =
      table === undefined
        ? callPhysical(kernel, 'SetVirtualAddressMap', args).status
        : this.#callUnder(table, kernel, args)
    if (status !== EfiStatus.SUCCESS) {
      const message = `SetVirtualAddressMap failed (${efiStatusName(status)})`
      if (this.#is.svamFailure === 'panic') throw new KernelPanic(message)
      throw new StrategyRefusal(message)
    }
    efi.virtualMode = true
    efi.systab = runtimeSystab(map, efi.info.systab)
    if (this.#is.addresses === 'direct-map') makeRuntimeCodeExecutable(kernel, map)
  }

  #callUnder(table: PageTableBuilder, kernel: Kernel, args: readonly bigint[]): bigint {
    return new RuntimeCall(kernel, kernel.bootCpu, 'SetVirtualAddressMap', args, {
      path: {
        enter: ({ cpu }) => {
          cpu.interruptFlag = false
          cpu.writeCr3(table.root)
        },
        leave: ({ cpu, before }) => {
          cpu.writeCr3(before.cr3)
          cpu.interruptFlag = before.interruptFlag
        },
      },
      functionAddress: () => kernel.requireEfi.setVirtualAddressMap,
    }).run()
  }
}

function placedAt(region: MemoryDescriptor, virtualStart: bigint): MemoryDescriptor {
  return { ...region, virtualStart }
}

/** CR4.PGE off and on: global translations go too. */
function flushGlobal(cpu: Cpu): void {
  cpu.writeCr4(cpu.cr4 & ~Cr4.PGE)
  cpu.writeCr4(cpu.cr4 | Cr4.PGE)
}

/** Physical address of the table that an entry points to. */
function tableOf(entry: bigint): number {
  return Number(entry & 0x000f_ffff_ffff_f000n)
}
