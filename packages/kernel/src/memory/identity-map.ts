import {
  type Cpu,
  Cr0,
  Efer,
  type Machine,
  PAGE_SIZE,
  PageTableBuilder,
  phys,
  type PhysicalAddress,
  virt,
} from '@trapdoor/core'
import { switchPagingMode } from '../boot/paging-mode-switch.ts'
import { KernelPanic } from '../error.ts'
import type { Kernel } from '../kernel.ts'

/** Two pages below 1 MiB: code that starts in real mode, and the root of the page tables that it loads. Physical bytes. */
export interface RealModeMemory {
  readonly code: PhysicalAddress
  readonly root: PhysicalAddress
}

/**
 * Takes a CPU from where paging is off to the kernel's paging mode, as trampolines and wakeup code do: CR4, EFER, CR3 with a map of `code` where it is, CR0.PG, and the fetch of the
 * next instruction at its physical address. The map is the kernel's shared one where a strategy made one, else tables of this user's own
 * (arch/x86/kernel/trampoline_64.S, acpi/wakeup_64.S). Panics where there is no memory below 1 MiB, or the map lies where CR3 does not reach without long mode.
 */
export function runOnIdentityMap(
  kernel: Kernel,
  cpu: Cpu,
  trampoline: RealModeMemory | undefined,
): void {
  if (trampoline === undefined) {
    throw new KernelPanic('Real mode trampoline was not allocated: no free page below 1 MiB')
  }
  const { code } = trampoline
  const root = kernel.identityMap?.root ?? ownMap(kernel, trampoline)
  if (root >= 2 ** 32) {
    throw new KernelPanic(
      `CR3 has 32 bits before long mode: the identity map is at 0x${root.toString(16)}`,
    )
  }
  cpu.reset()
  cpu.writeCr0(Cr0.PE | Cr0.WP)
  if (kernel.machine.features.nx) cpu.writeEfer(Efer.NXE)
  switchPagingMode(cpu, kernel.tables.layout.mode, root)
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

/** trampoline_pgd, made when it is needed for the first time. */
function ownMap(kernel: Kernel, { code, root }: RealModeMemory): PhysicalAddress {
  if (!kernel.hasTrampolinePgd) {
    const frames = [root / PAGE_SIZE]
    newMap(kernel, kernel.machine, code, () => frames.shift() ?? kernel.allocateTable())
    kernel.hasTrampolinePgd = true
  }
  return root
}

/** A root with the kernel's half, and the large page around `code` where it is. */
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
  const { largePage } = kernel.tables
  const start = Math.floor(code / largePage) * largePage
  tables.mapRange(virt(start), phys(start), largePage, {
    executable: true,
    largestPage: largePage,
  })
  kernel.tables.copyKernelHalf(tables)
  return root
}
