import {
  LAYOUT_FIXED_ROOT,
  type PageTableStrategy,
  type StrategyDefinition,
  StrategyRefusal,
} from '@trapdoor/kernel'
import { descriptorEnd, isRuntime, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { mapInLoader } from './loader.ts'
import { codeExecutable, rwx, RuntimeTables, placedAt } from './runtime-tables.ts'

/** First address of the window for runtime regions, and its bytes. */
const BASE = 0xffff_8080_0000_0000n
const WINDOW = 2n ** 39n
/** Code and data less than this apart keep their distance under the compact policy. */
const NEAR = 2 ** 32

/** Where a policy puts regions, in their order by physical address. */
type Place = (regions: readonly MemoryDescriptor[]) => bigint[]

const simple: Place = (regions) => regions.map(({ physicalStart }) => BASE + BigInt(physicalStart))

const sparse: Place = (regions) => {
  const lowest = regions[0]?.physicalStart ?? 0
  return regions.map(({ physicalStart }) => BASE + BigInt(physicalStart - lowest))
}

/** Runtime code and data that follow one another within 4 GiB keep their gap, so that references between sections of an image stay right; the rest is butted together. */
const compact: Place = (regions) => {
  let next = BASE
  return regions.map((region, index) => {
    const before = regions[index - 1]
    const gap = before === undefined ? 0 : region.physicalStart - descriptorEnd(before)
    const keepsGap = before !== undefined && isMemory(before) && isMemory(region) && gap < NEAR
    const address = next + (keepsGap ? BigInt(gap) : 0n)
    next = address + BigInt(region.numberOfPages * 4096)
    return address
  })
}

const contig: Place = (regions) => {
  let next = BASE
  return regions.map(({ numberOfPages }) => {
    const address = next
    next += BigInt(numberOfPages * 4096)
    return address
  })
}

/** In the order in which they are tried (policies[] of runtime.c). The second places as the first does, but what the map does not list is not mapped at its new address (rts_generic_pre()). */
const POLICIES: Readonly<Record<string, Place>> = {
  simple,
  'simple-generic': simple,
  sparse,
  compact,
  contig,
}

function isMemory({ type }: MemoryDescriptor): boolean {
  return type === MemoryType.RuntimeServicesCode || type === MemoryType.RuntimeServicesData
}

/** Regions with the addresses of the first policy under which all of them end in the window. Throws StrategyRefusal where there is none ("no supported policies"). */
function placeFirstFit(
  regions: readonly MemoryDescriptor[],
  policies: readonly Place[],
): MemoryDescriptor[] {
  const ascending = regions.toSorted((a, b) => a.physicalStart - b.physicalStart)
  const fitting = policies
    .map((policy) => policy(ascending))
    .find((addresses) =>
      addresses.every(
        (address, index) =>
          address + BigInt(ascending[index]!.numberOfPages * 4096) <= BASE + WINDOW,
      ),
    )
  if (fitting === undefined) {
    throw new StrategyRefusal('Booting without RTS support (no supported policies)')
  }
  return ascending.map((region, index) => placedAt(region, fitting[index]!))
}

function createEsxi(options: Readonly<Record<string, string>>): PageTableStrategy {
  const policy = options['policy'] ?? 'first-fit'
  const policies = POLICIES[policy] === undefined ? Object.values(POLICIES) : [POLICIES[policy]]
  const keepsOld = options['oldAndNew'] === 'on'
  let tables: RuntimeTables | undefined
  return {
    serialised: true,
    callsEarly: false,
    /** esx-boot: efi_runtime.c calls it in the boot loader, with everything mapped at old and new addresses where the policy allows. */
    reserve: (kernel) => {
      const { memoryMap } = kernel.requireEfi
      const regions = placeFirstFit(memoryMap.filter(isRuntime), policies)
      const offset =
        policy !== 'simple-generic' &&
        regions.every(
          ({ physicalStart, virtualStart }) => virtualStart === BASE + BigInt(physicalStart),
        )
      mapInLoader(kernel, regions, offset ? BASE : undefined)
    },
    setup: (kernel) => {
      tables = new RuntimeTables(kernel, 'runtime services')
      for (const region of kernel.requireEfi.memoryMap) {
        if (keepsOld) tables.map(region, BigInt(region.physicalStart), rwx(region))
        tables.map(region, region.virtualStart, codeExecutable(region))
      }
    },
    enter: ({ cpu }) => {
      tables!.enter(cpu)
    },
    leave: (call) => {
      tables!.leave(call)
    },
  }
}

/** ESXi: the first of five policies that fits a window of half a tebibyte. */
export const esxi: StrategyDefinition = {
  name: 'esxi',
  title:
    'ESXi: SetVirtualAddressMap in the boot loader, runtime regions in a window of 512 GiB by the first policy that fits',
  mode: 'virtual',
  rewindable: true,
  layout: LAYOUT_FIXED_ROOT,
  sources: [
    'VMware esx-boot uefi/efiutils: runtime.c, runtime_simple.c, runtime_generic.c, runtime_sparse.c, runtime_compact.c, runtime_contig.c, quirks.c',
  ],
  options: {
    policy: {
      title:
        'simple: base + PA, with all of the firmware’s tables copied to the window; simple-generic: only the runtime regions in it; sparse: from the lowest region on; compact: near code and data keep their gaps; contig: no gaps',
      values: ['first-fit', 'simple', 'simple-generic', 'sparse', 'compact', 'contig'],
      default: 'first-fit',
    },
    oldAndNew: {
      title: 'EFI_RTS_OLD_AND_NEW: physical addresses stay mapped in calls',
      values: ['off', 'on'],
      default: 'off',
    },
  },
  create: createEsxi,
}
