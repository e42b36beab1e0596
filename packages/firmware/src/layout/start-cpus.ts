import {
  type Cpu,
  Cr0,
  Cr4,
  Efer,
  flatSegment,
  FloatingPointState,
  FOUR_LEVEL,
  type Machine,
  PAE,
  PAGE_SIZE,
  PAGE_SIZE_1G,
  PAGE_SIZE_2M,
  PageTableBuilder,
  type PagingMode,
  phys,
  Segment,
  virt,
} from '@trapdoor/core'
import type { Architecture, MemoryDescriptor } from '@trapdoor/uefi'
import { mergeRanges, rangeOf } from './machine-memory.ts'

const FOUR_GIBIBYTES = 2 ** 32
const STACK_PAGES = 32
/** LINEAR_CODE_SEL and LINEAR_SEL of edk2's GDT (UefiCpuPkg/CpuDxe/CpuGdt.c). */
const LINEAR_CODE = 0x10
const LINEAR_DATA = 0x08
const DATA_SEGMENTS = [Segment.ES, Segment.SS, Segment.DS, Segment.FS, Segment.GS] as const

type BootPool = (bytes: number, purpose: string) => number

/** How a CPU is started in the state that an architecture's calling conventions name. `root` builds identity tables and returns their physical address. */
type Start = (cpu: Cpu, root: (mode: PagingMode) => number) => void

const STARTS: Readonly<Record<Architecture['name'], Start>> = {
  /** Long mode on identity tables (UEFI 2.10, 2.3.4). */
  x64: (cpu, root) => {
    cpu.writeCr3(root(FOUR_LEVEL))
    if (cpu.machine.features.nx) cpu.writeEfer(cpu.efer | Efer.NXE)
  },
  /**
   * Protected mode with flat 32-bit segments, and paging off (UEFI 2.10, 2.3.2); but on PAE identity tables where the CPU can keep data from being executed, as edk2's DxeIpl does for
   * its stack (MdeModulePkg/Core/DxeIplPeim/Ia32/DxeLoadFunc.c; OVMF 2022.11 for ia32 has CR0 80010033, CR4 660 and EFER 800 in its shell).
   */
  ia32: (cpu, root) => {
    const { pae, nx } = cpu.machine.features
    cpu.writeCr0(Cr0.PE)
    cpu.loadSegment(Segment.CS, flatSegment(LINEAR_CODE, 'code-32'))
    for (const segment of DATA_SEGMENTS) {
      cpu.loadSegment(segment, flatSegment(LINEAR_DATA, 'data'))
    }
    if (!pae || !nx) return
    cpu.writeCr4(Cr4.PAE)
    cpu.writeEfer(Efer.NXE)
    cpu.writeCr3(root(PAE))
    cpu.writeCr0(Cr0.PE | Cr0.WP | Cr0.PG)
  },
}

/** Starts the CPUs as the architecture says, each with a stack, the boot CPU with interrupts on. Tables and stacks come from `bootPool`. */
export function startCpus(
  machine: Machine,
  { name }: Architecture,
  memoryMap: readonly MemoryDescriptor[],
  bootPool: BootPool,
): void {
  const table = (): number => bootPool(PAGE_SIZE, 'identity page tables') / PAGE_SIZE
  let built: number | undefined
  const root = (mode: PagingMode): number =>
    (built ??= buildIdentityMap(machine, mode, memoryMap, table))
  const stackBytes = STACK_PAGES * PAGE_SIZE
  for (const cpu of machine.cpus) {
    STARTS[name](cpu, root)
    cpu.floatingPoint = new FloatingPointState('initialised')
    cpu.rsp = BigInt(bootPool(stackBytes, `the stack of CPU ${cpu.id}`) + stackBytes)
  }
  machine.bootCpu.interruptFlag = true
}

/**
 * Builds identity tables of pages as large as the mode and the CPU have: all of the first 4 GiB, and every descriptor that linear and physical addresses reach. `allocate` gives
 * the frame of a table. Returns the root's physical address.
 */
function buildIdentityMap(
  machine: Machine,
  mode: PagingMode,
  descriptors: readonly MemoryDescriptor[],
  allocate: () => number,
): number {
  const { pages1G, maxPhysicalAddressBits } = machine.features
  const page = pages1G && mode === FOUR_LEVEL ? PAGE_SIZE_1G : PAGE_SIZE_2M
  const linearBits = mode.linearBits === 32 ? 32 : mode.linearBits - 1
  const limit = 2 ** Math.min(maxPhysicalAddressBits, linearBits)
  const wanted = [{ start: 0, end: FOUR_GIBIBYTES }, ...descriptors.map(rangeOf)]
    .map(({ start, end }) => ({
      start: Math.floor(start / page) * page,
      end: Math.min(Math.ceil(end / page) * page, limit),
    }))
    .filter(({ start, end }) => start < end)
  const root = phys(allocate() * PAGE_SIZE)
  const builder = new PageTableBuilder(machine.memory, root, allocate, { mode })
  for (const { start, end } of mergeRanges(wanted)) {
    builder.mapRange(virt(start), phys(start), end - start, { executable: true, largestPage: page })
  }
  return root
}
