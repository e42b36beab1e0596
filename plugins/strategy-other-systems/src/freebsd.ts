import {
  LAYOUT_FIXED_ROOT,
  type PageTableStrategy,
  type StrategyDefinition,
  StrategyRefusal,
} from '@trapdoor/kernel'
import {
  descriptorEnd,
  EfiStatus,
  isRuntime,
  type MemoryDescriptor,
  MemoryType,
  type RuntimeServiceName,
} from '@trapdoor/uefi'
import { CLOCK_AND_VARIABLES } from './called-services.ts'
import { mapInLoader } from './loader.ts'
import { rwx, RuntimeTables, placedAt } from './runtime-tables.ts'

/** VM_MAXUSER_ADDRESS. */
const END_OF_USER_SPACE = 2 ** 47
/** What the tunable `efi_map_regs` may name beside what has the RUNTIME attribute (EFI_ALLOWED_TYPES_MASK). */
const MAP_REGS: Readonly<Record<string, readonly number[]>> = {
  none: [],
  'boot-services': [MemoryType.BootServicesCode, MemoryType.BootServicesData],
  all: [
    MemoryType.BootServicesCode,
    MemoryType.BootServicesData,
    MemoryType.RuntimeServicesCode,
    MemoryType.RuntimeServicesData,
    MemoryType.ACPIMemoryNVS,
  ],
}

/** struct efi_ops. */
const CALLED: ReadonlySet<RuntimeServiceName> = new Set([
  ...CLOCK_AND_VARIABLES,
  'GetWakeupTime',
  'SetWakeupTime',
  'ResetSystem',
])

/** Why efi_create_1t1_map() gives up at a region, and has no runtime services then. */
function unmappable(region: MemoryDescriptor): string | undefined {
  const { physicalStart, virtualStart } = region
  if (virtualStart !== 0n && virtualStart !== BigInt(physicalStart)) {
    return 'is mapped'
  }
  if (physicalStart % 4096 !== 0) return 'is not aligned'
  if (descriptorEnd(region) >= END_OF_USER_SPACE) return 'is not in mappable for RT'
  return undefined
}

const PAGE_ZERO: MemoryDescriptor = {
  type: 7,
  physicalStart: 0,
  virtualStart: 0n,
  numberOfPages: 1,
  attribute: 0x8n,
}

function createFreebsd(options: Readonly<Record<string, string>>): PageTableStrategy {
  let pmap: RuntimeTables | undefined
  return {
    serialised: true,
    offers: (_kernel, service) => CALLED.has(service),
    /** The loader's efi_do_vmap(): VA = PA for the runtime regions, and no others passed. */
    reserve: (kernel) => {
      if (options['vmap'] === 'off') return
      const map = kernel.requireEfi.memoryMap.filter(isRuntime)
      mapInLoader(
        kernel,
        map.map((region) => placedAt(region, BigInt(region.physicalStart))),
      )
    },
    /** efi_create_1t1_map(). */
    setup: (kernel) => {
      pmap = new RuntimeTables(kernel, 'efi_pml4')
      pmap.map(PAGE_ZERO, 0n, rwx(PAGE_ZERO))
      const types = MAP_REGS[options['mapRegs'] ?? 'none'] ?? []
      const { firmwareMap, memoryMap } = kernel.requireEfi
      const others = firmwareMap.filter((each) => !isRuntime(each) && types.includes(each.type))
      for (const region of [...memoryMap.filter(isRuntime), ...others]) {
        const problem = unmappable(region)
        if (problem !== undefined) throw new StrategyRefusal(`an EFI Runtime entry ${problem}`)
        pmap.map(region, BigInt(region.physicalStart), rwx(region))
      }
    },
    /** efi_arch_enter(): interrupts stay on. */
    enter: ({ cpu }) => {
      pmap!.enter(cpu)
    },
    leave: (call) => {
      pmap!.leave(call)
    },
    /** efi_rt_handle_faults. */
    recover: () => EfiStatus.DEVICE_ERROR,
  }
}

/** FreeBSD: the loader tells firmware that nothing moves, and the kernel calls it 1:1. */
export const freebsd: StrategyDefinition = {
  name: 'freebsd',
  title:
    'FreeBSD: SetVirtualAddressMap with VA = PA by the loader, a private 1:1 map, page 0 in it, faults caught',
  mode: 'virtual',
  rewindable: true,
  layout: LAYOUT_FIXED_ROOT,
  sources: [
    'FreeBSD stand/efi/loader/bootinfo.c: efi_do_vmap(), efi_disable_vmap',
    'FreeBSD sys/amd64/amd64/efirt_machdep.c: efi_create_1t1_map(), efi_arch_enter()',
    'FreeBSD sys/dev/efidev/efirt.c: efi_ops',
  ],
  options: {
    vmap: {
      title: 'efi_disable_vmap=1: the loader leaves SetVirtualAddressMap out',
      values: ['on', 'off'],
      default: 'on',
    },
    mapRegs: {
      title: 'efi_map_regs: types that are mapped although they have no RUNTIME attribute',
      values: ['none', 'boot-services', 'all'],
      default: 'none',
    },
  },
  create: createFreebsd,
}
