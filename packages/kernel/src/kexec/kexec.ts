import {
  Cr4,
  type Machine,
  PAGE_SIZE,
  PAGE_SIZE_2M,
  phys,
  type PhysicalAddress,
} from '@trapdoor/core'
import { MEMORY_DESCRIPTOR_SIZE } from '@trapdoor/uefi'
import {
  type ByteRange,
  type HandOff,
  loadImage,
  type RealImage,
  writeBootParams,
} from '../boot/loader.ts'
import type { BootParams } from '../boot/boot-params.ts'
import type { Injections } from '../boot/injections.ts'
import { bootKernel } from '../boot/start-kernel.ts'
import { KernelError } from '../error.ts'
import type { KernelHooks } from '../hooks.ts'
import type { Kernel, KernelProfile } from '../kernel.ts'
import type { E820Entry } from '../memory/e820.ts'
import { switchToIdentityMap } from '../memory/identity-map.ts'
import {
  HAND_OFF_BYTES,
  KERNEL_FOOTPRINT_BYTES,
  KERNEL_IMAGE_BYTES,
} from '../memory/kernel-image.ts'
import { crashMemory, kexecE820, type KexecLoader } from './next-e820.ts'
import { encodeHandOver } from './setup-data.ts'

/** The kernel that is to run next. */
export interface NextKernel {
  readonly name: string
  readonly profile: KernelProfile
  readonly commandLine: string
  readonly hooks?: KernelHooks
  readonly injections?: Injections
  /** What loads it; default `kexec_load`, that is kexec-tools, which have been there from the beginning. */
  readonly loader?: KexecLoader
  /** Whether it is told nothing of EFI (`kexec --noefi`). Default false. */
  readonly noEfi?: boolean
  /** Physical bytes that the loader gave to an initrd and the like. Their whole pages are written to before the kernel starts, whoever had them. */
  readonly reserved?: readonly ByteRange[]
  /** Where the image of the real kernel lies that this one stands for; see {@link HandOff.realImage}. */
  readonly realImage?: RealImage
  /** Physical addresses at which the loader left SETUP_EFI and the runtime map; by default they are behind the image. */
  readonly handOverAt?: { readonly setupEfi: number; readonly runtimeMap: number }
}

const DEFAULT_LOADER: KexecLoader = 'kexec_load'
/** What an initrd and the image of a real kernel read as: INT3, which no table begins with. */
const LOADED_PATTERN = -0x3333_3334
/** Offset of setup_data and of a runtime map in what kexec hands over. */
const SETUP_DATA_OFFSET = 0x2000
const RUNTIME_MAP_OFFSET = 0x3000

/**
 * kexec: puts the next kernel where this one is, gives it the same EFI system table, the same memory map and what the strategy hands over, and jumps
 * (machine_kexec_64.c, kexec-tools). All but the firmware's memory is the next kernel's to use. Throws what kills that one, and KERNEL_BAD_HAND_OFF where it cannot be loaded as it should be.
 */
export function kexec(kernel: Kernel, next: NextKernel): Kernel {
  checkLoader(kernel, next)
  const { image, machine } = kernel
  const first = image.base + KERNEL_IMAGE_BYTES
  // Not where this kernel's own hand-off is: the EFI memory map may be in it.
  const handOff = kernel.bootParamsAddress === first ? first + HAND_OFF_BYTES : first
  leaveMachine(kernel, machine, kernel.allocatePages('kexec control page', 1), () =>
    kernel.allocateTable(),
  )
  for (const { start, end, owner } of Array.from(machine.memory.owners.intervals())) {
    if (owner.kind === 'kernel') machine.memory.owners.set(start, end, undefined)
  }
  return bootNext(kernel, next, machine, {
    imageBase: image.base,
    handOff,
    e820: kexecE820(kernel, next.loader ?? DEFAULT_LOADER),
  })
}

/**
 * kdump: jumps to the crash kernel in the region that `crashkernel=` reserved, with the rest of memory left as it is
 * (crash_kexec()). `machine` is the kernel's own, or a fork of it on which it crashes while it goes on elsewhere. Throws KERNEL_BAD_HAND_OFF where nothing was reserved, or as {@link kexec}.
 */
export function crashKexec(
  kernel: Kernel,
  next: NextKernel,
  machine: Machine = kernel.machine,
): Kernel {
  checkLoader(kernel, next)
  const region = kernel.crashRegion
  const memory =
    region === undefined ? undefined : crashMemory(kernel, region, next.loader ?? DEFAULT_LOADER)
  const imageBase =
    memory === undefined ? 0 : Math.ceil(memory.usable.start / PAGE_SIZE_2M) * PAGE_SIZE_2M
  if (
    region === undefined ||
    memory === undefined ||
    memory.usable.end - imageBase < KERNEL_FOOTPRINT_BYTES
  ) {
    throw new KernelError('KERNEL_BAD_HAND_OFF', {
      expected: 'memory for a crash kernel',
      found: region === undefined ? 'none reserved' : `${region.end - region.start} bytes`,
      hint: 'put crashkernel=128M on the first kernel’s command line',
    })
  }
  // What the loader of the crash kernel had put at the end of its memory.
  let lastFrame = Math.floor(memory.usable.end / PAGE_SIZE)
  leaveMachine(kernel, machine, phys(imageBase), () => --lastFrame)
  const { owners } = machine.memory
  owners.set(region.start / PAGE_SIZE, region.end / PAGE_SIZE, undefined)
  if (memory.backup !== undefined) {
    const { from, to } = memory.backup
    machine.memory.copy(from.start, to, from.end - from.start)
    owners.set(from.start / PAGE_SIZE, from.end / PAGE_SIZE, undefined)
  }
  return bootNext(kernel, next, machine, {
    imageBase: phys(imageBase),
    handOff: imageBase + KERNEL_IMAGE_BYTES,
    e820: memory.e820,
  })
}

/** bzImage64_probe() (arch/x86/kernel/kexec-bzimage64.c): a 64-bit kernel that calls firmware of 32 bits loads none by itself, as such firmware could not have put it above 4 GiB; it says ENOEXEC. */
function checkLoader(
  { architecture, bootParams, efiRefusal }: Kernel,
  { loader }: NextKernel,
): void {
  const firmware = bootParams.efi?.architecture ?? architecture
  const isMixed = architecture.naturalBytes === 8 && firmware.naturalBytes === 4
  if (loader !== 'kexec_file_load' || !isMixed || efiRefusal !== undefined) return
  throw new KernelError('KERNEL_BAD_HAND_OFF', {
    expected: 'a kernel that is loaded by kexec_load(), in mixed mode',
    found: 'kexec_file_load(): Exec format error (ENOEXEC)',
    hint: 'kexec -c takes kexec_load()',
  })
}

/** machine_kexec() and relocate_kernel(): interrupts off, other CPUs halted, global translations gone with CR4.PGE, and on from `control`, where it is. */
function leaveMachine(
  kernel: Kernel,
  machine: Machine,
  control: PhysicalAddress,
  allocateTable: () => number,
): void {
  for (const cpu of machine.cpus) {
    cpu.interruptFlag = false
    cpu.touchRecorder = undefined
    cpu.abandonCalls()
    cpu.writeCr4(cpu.cr4 & (Cr4.PAE | Cr4.PSE | Cr4.LA57))
  }
  switchToIdentityMap(kernel, machine.bootCpu, control, allocateTable)
  machine.log.emit({ kind: 'message', source: 'kernel', text: 'Starting new kernel' })
}

/** Whether the loaders of this kernel tell of EFI only where they have a runtime map. */
function hidesEfi({ profile }: Kernel): boolean {
  return profile.strategies.some(({ definition }) => definition.efiOnlyWithRuntimeMap === true)
}

/** What the descriptors of the runtime map are apart: as in this kernel's own (efi_get_runtime_map_desc_size()), but kexec-tools pack them (get_efi_runtime_map()). */
function runtimeMapStride(kernel: Kernel, loader: KexecLoader): number {
  return loader === 'kexec_load' ? MEMORY_DESCRIPTOR_SIZE : kernel.requireEfi.info.memdescSize
}

function bootNext(
  kernel: Kernel,
  next: NextKernel,
  machine: Machine,
  place: {
    readonly imageBase: PhysicalAddress
    readonly handOff: number
    readonly e820: readonly E820Entry[]
  },
): Kernel {
  for (const { start, end } of next.reserved ?? []) {
    const [first, last] = [Math.ceil(start / PAGE_SIZE), Math.floor(end / PAGE_SIZE)]
    if (first < last) machine.memory.fill(first * PAGE_SIZE, last * PAGE_SIZE, LOADED_PATTERN)
  }
  loadImage(machine, place.imageBase)
  if (kernel.efi !== undefined) kernel.strategy?.instance.purgatory?.(kernel, machine)
  const handOver =
    kernel.efiRefusal === undefined ? kernel.strategy?.instance.handOver?.(kernel) : undefined
  let params: BootParams = {
    efi:
      next.noEfi === true || (handOver === undefined && hidesEfi(kernel))
        ? undefined
        : kernel.bootParams.efi,
    e820: place.e820,
    commandLine: next.commandLine,
    setupData: 0,
  }
  if (handOver !== undefined && params.efi !== undefined) {
    const stride = runtimeMapStride(kernel, next.loader ?? DEFAULT_LOADER)
    const { node, runtimeMap } = encodeHandOver(handOver, stride)
    const at = next.handOverAt ?? {
      setupEfi: place.handOff + SETUP_DATA_OFFSET,
      runtimeMap: place.handOff + RUNTIME_MAP_OFFSET,
    }
    machine.memory.write(at.setupEfi, node)
    machine.memory.write(at.runtimeMap, runtimeMap)
    params = {
      ...params,
      setupData: at.setupEfi,
      efi: {
        ...params.efi,
        memmap: at.runtimeMap,
        memmapSize: runtimeMap.length,
        memdescSize: stride,
      },
    }
  }
  writeBootParams(machine, place.handOff, params)
  const handOff: HandOff = {
    machine,
    imageBase: place.imageBase,
    bootParams: phys(place.handOff),
    ...(next.reserved === undefined ? {} : { reserved: next.reserved }),
    ...(next.realImage === undefined ? {} : { realImage: next.realImage }),
  }
  return bootKernel(handOff, {
    name: next.name,
    profile: next.profile,
    ...(next.injections === undefined ? {} : { injections: next.injections }),
    ...(next.hooks === undefined ? {} : { hooks: next.hooks }),
  })
}
