import {
  type Cpu,
  Cr0,
  Efer,
  FloatingPointState,
  type Machine,
  PAGE_SIZE,
  PageTableBuilder,
  phys,
  type PhysicalAddress,
  virt,
  type VirtualAddress,
} from '@trapdoor/core'
import type { Architecture } from '@trapdoor/uefi'
import { switchPagingMode } from '../boot/paging-mode-switch.ts'
import { KernelPanic } from '../error.ts'
import type { Kernel } from '../kernel.ts'
import { kernelAddress } from './layout.ts'

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
  const root = identityRoot(kernel, trampoline)
  if (root >= 2 ** 32) {
    throw new KernelPanic(
      `CR3 has 32 bits before long mode: the identity map is at 0x${root.toString(16)}`,
    )
  }
  cpu.reset()
  // Firmware did this when the CPU came out of RESET (edk2 UefiCpuPkg, SecCore and MpInitLib: InitializeFloatingPointUnits()), and INIT leaves it (SDM Vol. 3, table 10-1).
  cpu.floatingPoint = new FloatingPointState('initialised')
  cpu.writeCr0(Cr0.PE | Cr0.WP)
  if (kernel.machine.features.nx) cpu.writeEfer(Efer.NXE)
  switchPagingMode(cpu, kernel.tables.layout.mode, root)
  cpu.translate(BigInt(code), 'execute')
  cpu.translate(kernel.image.start, 'execute')
}

/** Where relocate_kernel() is in the kernel's text. */
const RELOCATE_OFFSET = 0x4000

/** Where the code that changes page tables for kexec runs: in the kernel's text, or on i386 in its copy in the control page (machine_kexec_64.c, machine_kexec_32.c). */
const TRANSITIONS: Readonly<
  Record<Architecture['name'], (kernel: Kernel, control: PhysicalAddress) => VirtualAddress>
> = {
  x64: ({ image }) => kernelAddress(image.start + BigInt(RELOCATE_OFFSET)),
  ia32: ({ tables }, control) => tables.directMapAddress(control),
}

/**
 * Switches a CPU to a map in which `code` is where it is, and goes on there: relocate_kernel() copies the next kernel from there. The map has nothing of the kernel but the code that makes the
 * change, where it runs; so `code` may lie anywhere, also where the kernel's half begins. It is the kernel's shared one where a strategy made one. Tables that are needed come from
 * `allocate`, in frames.
 */
export function switchToIdentityMap(
  kernel: Kernel,
  cpu: Cpu,
  code: PhysicalAddress,
  allocate: () => number,
): void {
  const transition = TRANSITIONS[kernel.architecture.name](kernel, code)
  let root = kernel.identityMap?.root
  if (root === undefined) {
    const tables = mapWhereItIs(kernel, cpu.machine, code, allocate)
    tables.mapRange(transition, code, PAGE_SIZE, { executable: true })
    root = tables.root
  }
  cpu.writeCr3(root)
  cpu.translate(transition, 'execute')
  cpu.translate(BigInt(code), 'execute')
}

/** The root of an identity map that has the code of `trampoline`: the shared one where a strategy made one, else the trampoline's own. */
export function identityRoot(kernel: Kernel, trampoline: RealModeMemory): PhysicalAddress {
  return kernel.identityMap?.root ?? ownMap(kernel, trampoline)
}

/** trampoline_pgd, made when it is needed for the first time. */
function ownMap(kernel: Kernel, { code, root }: RealModeMemory): PhysicalAddress {
  if (!kernel.hasTrampolinePgd) {
    const frames = [root / PAGE_SIZE]
    const allocate = (): number => frames.shift() ?? kernel.allocateTable()
    kernel.tables.copyKernelHalf(mapWhereItIs(kernel, kernel.machine, code, allocate))
    kernel.hasTrampolinePgd = true
  }
  return root
}

/** New tables with the large page around `code` where it is. */
function mapWhereItIs(
  kernel: Kernel,
  { memory }: Machine,
  code: PhysicalAddress,
  allocate: () => number,
): PageTableBuilder {
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
  return tables
}
