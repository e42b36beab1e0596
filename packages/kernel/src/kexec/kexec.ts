import { Cr4, type Machine, PAGE_SIZE, phys, type PhysicalAddress } from '@trapdoor/core'
import { type ByteRange, type HandOff, loadImage, writeBootParams } from '../boot/loader.ts'
import type { BootParams } from '../boot/boot-params.ts'
import type { Injections } from '../boot/injections.ts'
import { bootKernel } from '../boot/start-kernel.ts'
import { KernelError } from '../error.ts'
import type { KernelHooks } from '../hooks.ts'
import type { Kernel, KernelProfile } from '../kernel.ts'
import { type E820Entry, E820Type } from '../memory/e820.ts'
import { switchToIdentityMap } from '../memory/identity-map.ts'
import {
  HAND_OFF_BYTES,
  KERNEL_FOOTPRINT_BYTES,
  KERNEL_IMAGE_BYTES,
} from '../memory/kernel-image.ts'
import { encodeHandOver } from './setup-data.ts'

/** The kernel that is to run next. */
export interface NextKernel {
  readonly name: string
  readonly profile: KernelProfile
  readonly commandLine: string
  readonly hooks?: KernelHooks
  readonly injections?: Injections
  /** Physical bytes that the loader gave to an initrd and the like. */
  readonly reserved?: readonly ByteRange[]
}

/** Offset of setup_data and of a runtime map in what kexec hands over. */
const SETUP_DATA_OFFSET = 0x2000
const RUNTIME_MAP_OFFSET = 0x3000

/**
 * kexec: puts the next kernel where this one is, gives it the same EFI system table, the same memory map and what the strategy hands over, and jumps
 * (machine_kexec_64.c, kexec-tools). All but the firmware's memory is the next kernel's to use. Throws what kills that one.
 */
export function kexec(kernel: Kernel, next: NextKernel): Kernel {
  const { image, machine, bootParams } = kernel
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
    e820: bootParams.e820,
  })
}

/**
 * kdump: jumps to the crash kernel in the region that `crashkernel=` reserved, with the rest of memory left as it is
 * (crash_kexec()). `machine` is the kernel's own, or a fork of it on which it crashes while it goes on elsewhere. Throws KERNEL_BAD_HAND_OFF where nothing was reserved.
 */
export function crashKexec(
  kernel: Kernel,
  next: NextKernel,
  machine: Machine = kernel.machine,
): Kernel {
  const region = kernel.crashRegion
  if (region === undefined || region.end - region.start < KERNEL_FOOTPRINT_BYTES) {
    throw new KernelError('KERNEL_BAD_HAND_OFF', {
      expected: 'memory for a crash kernel',
      found: region === undefined ? 'none reserved' : `${region.end - region.start} bytes`,
      hint: 'put crashkernel=128M on the first kernel’s command line',
    })
  }
  // What the loader of the crash kernel had put at the end of its memory.
  let lastFrame = region.end / PAGE_SIZE
  leaveMachine(kernel, machine, phys(region.start), () => --lastFrame)
  machine.memory.owners.set(region.start / PAGE_SIZE, region.end / PAGE_SIZE, undefined)
  return bootNext(kernel, next, machine, {
    imageBase: phys(region.start),
    handOff: region.start + KERNEL_IMAGE_BYTES,
    e820: [
      ...kernel.bootParams.e820.filter((entry) => entry.type !== E820Type.RAM),
      { ...region, type: E820Type.RAM },
    ],
  })
}

/** machine_kexec() and relocate_kernel_64.S: interrupts off, other CPUs halted, global translations gone with CR4.PGE, and on from `control`, where it is. */
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
    cpu.writeCr4(cpu.cr4 & (Cr4.PAE | Cr4.LA57))
  }
  switchToIdentityMap(kernel, machine.bootCpu, control, allocateTable)
  machine.log.emit({ kind: 'message', source: 'kernel', text: 'Starting new kernel' })
}

/** Whether the loaders of this kernel tell of EFI only where they have a runtime map. */
function hidesEfi({ profile }: Kernel): boolean {
  return profile.strategies.some(({ definition }) => definition.efiOnlyWithRuntimeMap === true)
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
  loadImage(machine, place.imageBase)
  if (kernel.efi !== undefined) kernel.strategy?.instance.purgatory?.(kernel, machine)
  const handOver =
    kernel.efiRefusal === undefined ? kernel.strategy?.instance.handOver?.(kernel) : undefined
  let params: BootParams = {
    efi: handOver === undefined && hidesEfi(kernel) ? undefined : kernel.bootParams.efi,
    e820: place.e820,
    commandLine: next.commandLine,
    setupData: 0,
  }
  if (handOver !== undefined && params.efi !== undefined) {
    const { node, runtimeMap, stride } = encodeHandOver(handOver)
    machine.memory.write(place.handOff + SETUP_DATA_OFFSET, node)
    machine.memory.write(place.handOff + RUNTIME_MAP_OFFSET, runtimeMap)
    params = {
      ...params,
      setupData: place.handOff + SETUP_DATA_OFFSET,
      efi: {
        ...params.efi,
        memmap: place.handOff + RUNTIME_MAP_OFFSET,
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
  }
  return bootKernel(handOff, {
    name: next.name,
    profile: next.profile,
    ...(next.injections === undefined ? {} : { injections: next.injections }),
    ...(next.hooks === undefined ? {} : { hooks: next.hooks }),
  })
}
