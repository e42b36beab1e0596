import {
  type Cpu,
  FCW_AT_INIT,
  MXCSR_AT_RESET,
  PAGE_SIZE,
  PAGE_SIZE_2M,
  type PageTableBuilder,
  phys,
  virt,
} from '@trapdoor/core'
import {
  isValidDescriptor,
  type Kernel,
  RuntimeCall,
  runtimeSystab,
  StrategyRefusal,
} from '@trapdoor/kernel'
import {
  EfiStatus,
  efiStatusName,
  encodeMemoryMap,
  MemoryAttribute,
  type MemoryDescriptor,
  MemoryType,
} from '@trapdoor/uefi'

/** Rights of a mapping. */
export interface Rights {
  readonly writable: boolean
  readonly executable: boolean
  readonly cacheDisable: boolean
  /** PWT, which with Linux' PAT makes UC of UC-, and WC of WB. Default false. */
  readonly writeThrough?: boolean
}

/** A root that a system keeps for firmware: regions where it wants them, and its own half of the address space. */
export class RuntimeTables {
  readonly tables: PageTableBuilder
  readonly #kernel: Kernel

  constructor(kernel: Kernel, name: string) {
    this.#kernel = kernel
    this.tables = kernel.newPageTable(name)
    kernel.tables.copyRootEntries(this.tables, 256, 512)
  }

  /** Maps a region at `address` with pages of 4 KiB. What is there already is replaced. */
  map(region: MemoryDescriptor, address: bigint, rights: Rights): void {
    if (region.numberOfPages === 0) return
    this.tables.mapRange(
      virt(address),
      phys(region.physicalStart),
      region.numberOfPages * PAGE_SIZE,
      { ...rights, replace: true },
    )
  }

  /** Maps all of these regions 1:1 with large pages, as the tables do that firmware hands to a loader. */
  mapEverything(map: readonly MemoryDescriptor[]): void {
    for (const region of map.filter(isValidDescriptor)) {
      const { physicalStart: start, numberOfPages } = region
      this.tables.mapRange(virt(BigInt(start)), phys(start), numberOfPages * PAGE_SIZE, {
        ...rwx(region),
        largestPage: PAGE_SIZE_2M,
        replace: true,
      })
    }
  }

  /** Maps the first 4 GiB 1:1, as every firmware does, whether its map lists them or not. */
  mapFirstGigabytes(): void {
    this.tables.mapRange(virt(0n), phys(0), 2 ** 32, {
      executable: true,
      largestPage: PAGE_SIZE_2M,
    })
  }

  /** Copies the first root entry to where `offset`, a multiple of 512 GiB, leads: what is 1:1 there is mapped that much higher too. */
  copyLowHalf(offset: bigint): void {
    this.tables.setRootEntry(Number((offset >> 39n) & 511n), this.tables.rootEntry(0))
  }

  /** Loads the root, and FCW and MXCSR as firmware may count on them (fldcw and ldmxcsr of efi_rs_enter(), fpu_kern_enter() and their like); interrupts and all else stay as they are. */
  enter(cpu: Cpu): void {
    cpu.floatingPoint.controlWord = FCW_AT_INIT
    cpu.mxcsr = MXCSR_AT_RESET
    cpu.writeCr3(this.tables.root)
  }

  /** Loads what was there before the call, the floating-point state of whoever was interrupted included (vcpu_save_fpu(), fpu_kern_enter() and their like). */
  leave({ cpu, before }: RuntimeCall): void {
    cpu.mxcsr = before.mxcsr
    cpu.floatingPoint = before.floatingPoint
    cpu.writeCr3(before.cr3)
  }

  /**
   * SetVirtualAddressMap under these tables, interrupts off, with a map that lies in memory of its own, 1:1 in these tables. The system goes on with the map, or with `kept`. Throws
   * StrategyRefusal where the firmware refuses.
   */
  setVirtualAddressMap(
    map: readonly MemoryDescriptor[],
    kept: readonly MemoryDescriptor[] = map,
  ): void {
    const kernel = this.#kernel
    const efi = kernel.requireEfi
    const { memdescSize, memdescVersion } = efi.info
    const bytes = encodeMemoryMap(map, memdescSize)
    const pages = Math.max(1, Math.ceil(bytes.length / PAGE_SIZE))
    const place = kernel.allocatePages('EFI memory map', pages)
    kernel.machine.memory.write(place, bytes)
    this.tables.mapRange(virt(BigInt(place)), place, pages * PAGE_SIZE, { replace: true })
    const args = [bytes.length, memdescSize, memdescVersion, place].map(BigInt)
    const status = new RuntimeCall(kernel, kernel.bootCpu, 'SetVirtualAddressMap', args, {
      path: {
        enter: ({ cpu }) => {
          cpu.interruptFlag = false
          this.enter(cpu)
        },
        leave: (call) => {
          this.leave(call)
          call.cpu.interruptFlag = call.before.interruptFlag
        },
      },
      functionAddress: () => efi.setVirtualAddressMap,
    }).run()
    if (status !== EfiStatus.SUCCESS) {
      throw new StrategyRefusal(`SetVirtualAddressMap failed (${efiStatusName(status)})`)
    }
    efi.memoryMap = kept
    efi.virtualMode = true
    efi.systab = runtimeSystab(kept, efi.info.systab)
  }
}

/** A region with its virtual address. */
export function placedAt(region: MemoryDescriptor, virtualStart: bigint): MemoryDescriptor {
  return { ...region, virtualStart }
}

/** Everything as far as a region's cacheability allows: readable, writable, executable, uncached where the map does not say write-back. */
export function rwx(region: MemoryDescriptor): Rights {
  return { writable: true, executable: true, cacheDisable: !isWriteBack(region) }
}

/** As {@link rwx}, but only runtime code is executable. */
export function codeExecutable(region: MemoryDescriptor): Rights {
  return { ...rwx(region), executable: region.type === MemoryType.RuntimeServicesCode }
}

export function isWriteBack({ attribute }: MemoryDescriptor): boolean {
  return (attribute & MemoryAttribute.WB) !== 0n
}
