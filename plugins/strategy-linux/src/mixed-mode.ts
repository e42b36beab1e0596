import { type Cpu, farJump, loadSegmentRegister, PAGE_SIZE, Segment } from '@trapdoor/core'
import {
  type EfiPgd,
  isLinux,
  type Kernel,
  KERNEL32_CS,
  KERNEL_CS,
  KERNEL_DS,
  KernelPanic,
  type KernelVariable,
  OutOfMemory,
  type RuntimeCall,
  StrategyRefusal,
} from '@trapdoor/kernel'
import {
  argumentCount,
  EfiStatus,
  type MemoryDescriptor,
  MemoryType,
  pointerArguments,
  type RuntimeServiceName,
} from '@trapdoor/uefi'
import { lastOf, type Releases, versionOf } from './version.ts'

/** What one version of Linux does differently from another where efi_is_mixed(). */
export interface MixedModeVersion {
  /** Whether all RAM gets 1:1 mappings in an efi_pgd (should_map_region(), 4.6 and later). In trampoline_pgd entry 0 of the direct map has them already. */
  readonly ram: 'shared' | 'mapped'
  /**
   * What the kernel maps 1:1 of itself. Up to 4.5 it is all of the image, then the text, which is not writable since 5.6. Of 6.1 it is known that it takes the text out again, and that the only
   * executable page is the one in .rodata that firmware returns through. .rodata is mapped as strings and GUIDs of it are passed.
   */
  readonly image: 'image-rwx' | 'text-rwx' | 'text-rx' | 'trampoline'
  /** How pointers become physical: __pa(); a page walk (4.9 and later, CONFIG_VMAP_STACK); one that refuses what crosses a page (5.6 and later, commit 8319e9d5ad98). */
  readonly pointers: 'pa' | 'page-walk' | 'checked-page-walk'
  /** Whether there is an efi_runtime_lock (4.19 and later, commit 83a0a2ea0b99). */
  readonly lock: 'none' | 'spinlock'
  /** Whether the clock and the monotonic count may be asked for (up to 5.5). */
  readonly clock: 'called' | 'unsupported'
}

/** RAM, but for boot services, whose memory is mapped in any case. */
const RAM_TYPES: ReadonlySet<number> = new Set([
  MemoryType.LoaderCode,
  MemoryType.LoaderData,
  MemoryType.ConventionalMemory,
])
/** Arguments hold pointers of 64 bits inside, which nobody repackages. */
const CAPSULES: ReadonlySet<RuntimeServiceName> = new Set([
  'UpdateCapsule',
  'QueryCapsuleCapabilities',
])
/** What is UNSUPPORTED since 5.6. */
const CLOCK: ReadonlySet<RuntimeServiceName> = new Set([
  'GetTime',
  'SetTime',
  'GetWakeupTime',
  'SetWakeupTime',
  'GetNextHighMonotonicCount',
])
/** Bytes of what the pointers of a service point to, but for names and data. */
const SIZES: Partial<Readonly<Record<RuntimeServiceName, Readonly<Record<number, bigint>>>>> = {
  GetTime: { 0: 16n, 1: 12n },
  SetTime: { 0: 16n },
  GetWakeupTime: { 0: 1n, 1: 1n, 2: 16n },
  SetWakeupTime: { 1: 16n },
  GetVariable: { 1: 16n, 2: 4n, 3: 8n },
  SetVariable: { 1: 16n },
  GetNextVariableName: { 0: 8n, 2: 16n },
  GetNextHighMonotonicCount: { 0: 4n },
  QueryVariableInfo: { 1: 8n, 2: 8n, 3: 8n },
}
/** Arguments without which the wrappers of 5.6 and later do not call: those that have to be there, and those that may be NULL. */
const REQUIRED: Partial<Readonly<Record<RuntimeServiceName, readonly number[]>>> = {
  GetVariable: [0],
  SetVariable: [0],
  GetNextVariableName: [1],
}
const DATA: Partial<Readonly<Record<RuntimeServiceName, { pointer: number; size: number }>>> = {
  GetVariable: { pointer: 4, size: 3 },
  SetVariable: { pointer: 4, size: 3 },
  ResetSystem: { pointer: 3, size: 2 },
}
/** Where the argument `vendor` of a service is, of which 5.6 and later pass an aligned copy. */
const VENDOR: Partial<Readonly<Record<RuntimeServiceName, number>>> = {
  GetVariable: 1,
  SetVariable: 1,
  GetNextVariableName: 2,
}
/** EFI_VAR_NAME_LEN, in bytes. */
const LONGEST_NAME = 1024
const GUID_BYTES = 16
const FOUR_GIBIBYTES = 2 ** 32
/** Where __efi64_thunk(), efi_enter32() and efi_exit32() are in the kernel's text. */
const THUNK_OFFSET = 0x5000
/** Bytes of the stack from the first argument up: the thunk up to 5.5 keeps segments and addresses there, the one since 5.6 (as it is in 6.1.192) RSP. */
const FRAME_BYTES = { old: 80n, checked: 40n } as const

/**
 * A 64-bit kernel on ia32 firmware: what efi_64.c and efi_thunk_64.S do where efi_is_mixed(). Firmware runs in compatibility mode, under the kernel's EFI page tables, at physical addresses: every
 * virtual address that it is given is the physical one. So it is with all that it gets: the stack is a page below 4 GiB, pointers are physical, and their upper halves are lost.
 */
export class MixedMode {
  readonly #releases: Releases<MixedModeVersion>
  #version: MixedModeVersion
  readonly #passed: WeakMap<RuntimeCall, readonly bigint[]> = new WeakMap()
  /** efi_scratch.phys_stack, later efi_mixed_mode_stack_pa: the end of the page. */
  #stack: bigint | undefined
  /** efi_saved_sp; 5.6 and later have it on the new stack. */
  #savedRsp: KernelVariable | undefined

  constructor(releases: Releases<MixedModeVersion>) {
    this.#releases = releases
    this.#version = lastOf(releases)
  }

  get serialised(): boolean {
    return this.#version.lock === 'spinlock'
  }

  /** should_map_region(), beside what is mapped on firmware of 64 bits, too. */
  shouldMapRegion({ type }: MemoryDescriptor): boolean {
    return this.#version.ram === 'mapped' && RAM_TYPES.has(type)
  }

  /** efi_runtime_supported(): with the old memory map there is no mixed mode. From 5.6 on it is the word that is not listened to in mixed mode (1f299fad1e31). */
  reserve(kernel: Kernel): void {
    this.#version = versionOf(kernel, this.#releases)
    if (!kernel.commandLine.efi.has('old_map') || isLinux(kernel, '5.6')) return
    throw new StrategyRefusal(
      'No EFI runtime due to 32/64-bit mismatch with kernel: efi=old_map has no mixed mode',
    )
  }

  /** The end of efi_setup_page_tables(). */
  setupPageTables(kernel: Kernel, pgd: EfiPgd): void {
    const { image, realImage, rodata } = kernel
    this.#savedRsp = kernel.variable({ perCpu: false })
    this.#stack = this.#allocateStack(kernel)
    const { start, end } = kernel.text
    switch (this.#version.image) {
      case 'image-rwx':
        pgd.mapOneToOne(start, (realImage ?? image).end, { writable: true, executable: true })
        return
      case 'text-rwx':
        pgd.mapOneToOne(start, end, { writable: true, executable: true })
        return
      case 'text-rx':
        pgd.mapOneToOne(start, end, { writable: false, executable: true })
        pgd.mapOneToOne(rodata.start, rodata.end, { writable: false, executable: false })
        return
      case 'trampoline': {
        pgd.unmapOneToOne(start, end)
        pgd.mapOneToOne(rodata.start, rodata.end, { writable: false, executable: false })
        const page = this.#trampoline(kernel)
        pgd.mapOneToOne(page, page + PAGE_SIZE, { writable: false, executable: true })
      }
    }
  }

  offers(service: RuntimeServiceName): boolean {
    return !CAPSULES.has(service) && !(this.#version.clock === 'unsupported' && CLOCK.has(service))
  }

  /** The first part of efi_thunk_get_variable() and its like: pointers become physical. Returns what they return where they do not call. */
  answer(call: RuntimeCall): bigint | undefined {
    const { service } = call
    if (this.#version.pointers === 'checked-page-walk') call.wrapperArgs = withOwnVendor(call)
    const args = call.wrapperArgs
    const pointers = pointerArguments(service)
    const passed = args.map((value, index) =>
      pointers.includes(index) ? this.#physical(call, value, () => sizeOf(call, index)) : value,
    )
    this.#passed.set(call, passed)
    if (this.#version.pointers !== 'checked-page-walk') return undefined
    const isLost = (index: number): boolean => BigInt.asUintN(32, passed[index]!) === 0n
    const data = DATA[service]
    const lostData =
      service !== 'ResetSystem' &&
      data !== undefined &&
      args[data.pointer] !== 0n &&
      isLost(data.pointer)
    return REQUIRED[service]?.some(isLost) === true || lostData
      ? EfiStatus.INVALID_PARAMETER
      : undefined
  }

  /** What {@link answer} made; SetVirtualAddressMap is passed physical addresses anyhow. */
  passedArguments(call: RuntimeCall): readonly bigint[] {
    return this.#passed.get(call) ?? call.args
  }

  /**
   * __efi_thunk() and efi64_thunk(), once the EFI page tables are loaded, where alone the tables of the firmware are mapped: the function's address, the segments, the stack, and a far return into
   * compatibility mode.
   */
  enter(call: RuntimeCall): void {
    const { cpu, kernel, service } = call
    const address = call.resolveFunction()
    for (const segment of [Segment.SS, Segment.DS, Segment.ES] as const) {
      loadSegmentRegister(cpu, segment, KERNEL_DS)
    }
    this.#savedRsp!.write(cpu, cpu.rsp)
    const isOld = this.#version.image.endsWith('rwx')
    // The thunk writes the arguments into room that it has made already.
    const frame = isOld ? FRAME_BYTES.old : FRAME_BYTES.checked
    cpu.rsp = this.#stack! - frame + BigInt(argumentCount(service) * 4)
    const enter32 = BigInt(this.#trampoline(kernel))
    if (isOld) cpu.translate(enter32, 'execute')
    farJump(cpu, {
      selector: KERNEL32_CS,
      offset: isOld ? enter32 : BigInt.asUintN(32, address),
    })
  }

  /** The return trampoline, at its physical address: back to 64-bit mode and to the kernel's stack. */
  leave({ cpu, kernel }: RuntimeCall): void {
    const trampoline = BigInt(this.#trampoline(kernel))
    cpu.translate(trampoline, 'execute')
    farJump(cpu, { selector: KERNEL_CS, offset: trampoline })
    cpu.rsp = this.#savedRsp!.read(cpu)
  }

  /** A page below 4 GiB; where there is none, kernels up to 5.5 panic. */
  #allocateStack(kernel: Kernel): bigint {
    try {
      const below = FOUR_GIBIBYTES / PAGE_SIZE
      return BigInt(kernel.allocatePages('EFI runtime stack', 1, { below }) + PAGE_SIZE)
    } catch (error) {
      const isSurvived = this.#version.pointers === 'checked-page-walk'
      if (!(error instanceof OutOfMemory) || isSurvived) throw error
      throw new KernelPanic('Unable to allocate EFI runtime stack < 4GB', { cause: error })
    }
  }

  /** What a wrapper does at its end. */
  finish(call: RuntimeCall): void {
    if (this.#version.pointers !== 'checked-page-walk' || call.service !== 'GetNextVariableName')
      return
    const { cpu, args } = call
    cpu.writeBytes(args[VENDOR.GetNextVariableName!]!, cpu.readBytes(vendorCopy(cpu), GUID_BYTES))
  }

  #trampoline({ image, rodata }: Kernel): number {
    return this.#version.image === 'trampoline' ? rodata.start : image.base + THUNK_OFFSET
  }

  /** virt_to_phys(), or virt_to_phys_or_null_size(). */
  #physical({ cpu, kernel }: RuntimeCall, address: bigint, size: () => bigint): bigint {
    const { pointers } = this.#version
    if (pointers === 'pa') return physicalAddress(kernel, address)
    if (address === 0n) return 0n
    if (virtAddrValid(kernel, address)) return physicalAddress(kernel, address)
    return slowVirtToPhys(cpu, address, size(), pointers === 'checked-page-walk')
  }
}

/** __pa(): a subtraction, right for the direct map and for the kernel's image alone. */
function physicalAddress({ image, tables }: Kernel, address: bigint): bigint {
  const base =
    address >= tables.layout.startKernelMap
      ? image.start - BigInt(image.base)
      : tables.layout.pageOffset
  return BigInt.asUintN(64, address - base)
}

/** virt_addr_valid(). */
function virtAddrValid({ image, tables }: Kernel, address: bigint): boolean {
  const { pageOffset } = tables.layout
  return (
    image.contains(address) ||
    (address >= pageOffset && tables.isDirectMapped(Number(address - pageOffset) + 1))
  )
}

/** slow_virt_to_phys(): a page walk, which knows where the first byte is. */
function slowVirtToPhys(cpu: Cpu, address: bigint, size: bigint, isChecked: boolean): bigint {
  const found = cpu.lookUp(address)
  if (found === undefined) return 0n
  const page = BigInt(PAGE_SIZE)
  const physical = BigInt(found.frame) * page + (address % page)
  const last = physical + size - 1n
  return isChecked && physical / page !== last / page ? 0n : physical
}

/** Bytes of what an argument points to. */
function sizeOf({ cpu, service, args }: RuntimeCall, index: number): bigint {
  const known = SIZES[service]?.[index]
  if (known !== undefined) return known
  const data = DATA[service]
  if (data?.pointer === index) {
    return service === 'GetVariable' ? cpu.read64(args[data.size]!) : args[data.size]!
  }
  if (service === 'GetNextVariableName') return cpu.read64(args[0]!)
  return nameSize(cpu, args[index]!)
}

/** efi_name_size(): bytes without the NUL, and one. */
function nameSize(cpu: Cpu, name: bigint): bigint {
  let bytes = 0
  while (bytes < LONGEST_NAME && cpu.read16(name + BigInt(bytes)) !== 0) bytes += 2
  return BigInt(bytes + 1)
}

/** PTR_ALIGN(buf, sizeof(*vnd)), in the wrapper's frame. */
function vendorCopy(cpu: Cpu): bigint {
  return cpu.rsp - (cpu.rsp % 16n) - 32n
}

/** The arguments, with `vendor` copied to where it does not cross a page. */
function withOwnVendor({ cpu, service, args }: RuntimeCall): readonly bigint[] {
  const index = VENDOR[service]
  if (index === undefined) return args
  const copy = vendorCopy(cpu)
  cpu.writeBytes(copy, cpu.readBytes(args[index]!, GUID_BYTES))
  return args.with(index, copy)
}
