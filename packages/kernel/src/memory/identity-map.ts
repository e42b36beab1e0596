import {
  type Cpu,
  Cr0,
  Cr4,
  Efer,
  FIVE_LEVEL,
  type Machine,
  PAGE_SIZE,
  PAGE_SIZE_2M,
  PageTableBuilder,
  phys,
  type PhysicalAddress,
  virt,
} from '@trapdoor/core'
import { KernelPanic } from '../error.ts'
import type { Kernel } from '../kernel.ts'

/**
 * Takes a CPU from where paging is off to 64-bit mode, as trampolines and wakeup code do: CR4.PAE, EFER.LME, CR3 with a map of `code` where it is, CR0.PG, and the fetch of the
 * next instruction at its physical address. The map is the kernel's shared one where a strategy made one, else tables of this user's own
 * (arch/x86/kernel/trampoline_64.S, acpi/wakeup_64.S, machine_kexec_64.c). Panics where there is no `code`.
 */
export function runOnIdentityMap(
  kernel: Kernel,
  cpu: Cpu,
  code: PhysicalAddress | undefined,
): void {
  if (code === undefined) {
    throw new KernelPanic('Real mode trampoline was not allocated: no free page below 1 MiB')
  }
  const root = kernel.identityMap?.root ?? ownMap(kernel, code)
  cpu.reset()
  const levels = kernel.tables.layout.mode === FIVE_LEVEL ? Cr4.LA57 : 0
  cpu.writeCr4(Cr4.PAE | levels)
  cpu.writeEfer(Efer.LME | (kernel.machine.features.nx ? Efer.NXE : 0))
  cpu.writeCr3(root)
  cpu.writeCr0(Cr0.PE | Cr0.PG | Cr0.WP)
  cpu.codeSegmentLong = true
  cpu.translate(BigInt(code), 'execute')
  cpu.translate(kernel.image.start, 'execute')
}

/**
 * Switches a CPU that runs in 64-bit mode to a map in which `code` is where it is: relocate_kernel_64.S copies the next kernel from there. Tables that are needed come from
 * `allocate`, in frames.
 */
export function switchToIdentityMap(
  kernel: Kernel,
  cpu: Cpu,
  code: PhysicalAddress,
  allocate: () => number,
): void {
  cpu.writeCr3(kernel.identityMap?.root ?? newMap(kernel, cpu.machine, code, allocate))
  cpu.translate(BigInt(code), 'execute')
}

/** The map of one user, made when it is needed for the first time. */
function ownMap(kernel: Kernel, code: PhysicalAddress): PhysicalAddress {
  const root =
    kernel.ownIdentityMaps.get(code) ??
    newMap(kernel, kernel.machine, code, () => kernel.allocateTable())
  kernel.ownIdentityMaps.set(code, root)
  return root
}

/** A root with the kernel's half, and the 2 MiB around `code` where they are. */
function newMap(
  kernel: Kernel,
  { memory }: Machine,
  code: PhysicalAddress,
  allocate: () => number,
): PhysicalAddress {
  const root = phys(allocate() * PAGE_SIZE)
  memory.clearFrame(root / PAGE_SIZE)
  const { mode } = kernel.tables.layout
  const tables = new PageTableBuilder(memory, root, allocate, { mode })
  const start = Math.floor(code / PAGE_SIZE_2M) * PAGE_SIZE_2M
  tables.mapRange(virt(start), phys(start), PAGE_SIZE_2M, {
    executable: true,
    largestPage: PAGE_SIZE_2M,
  })
  kernel.tables.copyRootEntries(tables, 256, 512)
  return root
}
