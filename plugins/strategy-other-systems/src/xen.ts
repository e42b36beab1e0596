import {
  isServiceOfRevision,
  LAYOUT_FIXED_ROOT,
  type PageTableStrategy,
  type StrategyDefinition,
  StrategyRefusal,
} from '@trapdoor/kernel'
import { isRuntime, MemoryAttribute, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { isWriteBack, type Rights, RuntimeTables, placedAt } from './runtime-tables.ts'

const CACHEABLE =
  MemoryAttribute.WB |
  MemoryAttribute.WT |
  MemoryAttribute.WC |
  MemoryAttribute.UC |
  MemoryAttribute.UCE

/** UEFI 2.5, from which on WP is a cacheability, and RO says what it said before. */
const UEFI_2_5 = 0x2_0032

/** Whether a descriptor names any cacheability. */
function isCacheable({ attribute }: MemoryDescriptor, revision: number): boolean {
  const wp = revision < UEFI_2_5 ? 0n : MemoryAttribute.WP
  return (attribute & (CACHEABLE | wp)) !== 0n
}

/** What efi_init_memory() makes runtime memory whatever its attribute says (2022). */
function isTaken(region: MemoryDescriptor, mapBootServices: boolean): boolean {
  const { type } = region
  return (
    isRuntime(region) ||
    type === MemoryType.RuntimeServicesCode ||
    type === MemoryType.RuntimeServicesData ||
    (mapBootServices &&
      (type === MemoryType.BootServicesCode || type === MemoryType.BootServicesData))
  )
}

/** Everything executable but what XP forbids, everything writable but what RO forbids, or WP before UEFI 2.5; write-back where the descriptor names it. */
function rightsOf(region: MemoryDescriptor, revision: number): Rights {
  const readOnly = revision < UEFI_2_5 ? MemoryAttribute.WP : MemoryAttribute.RO
  return {
    writable: (region.attribute & readOnly) === 0n,
    executable: (region.attribute & MemoryAttribute.XP) === 0n,
    cacheDisable: !isWriteBack(region),
  }
}

function createXen(options: Readonly<Record<string, string>>): PageTableStrategy {
  let l4: RuntimeTables | undefined
  return {
    serialised: true,
    /** efi_runtime_call(): the services of EFI 2.0 are -EOPNOTSUPP where the table is older. */
    offers: (kernel, service) => isServiceOfRevision(kernel.requireEfi.revision, service),
    /** efi_init_memory(). */
    setup: (kernel) => {
      if (options['rs'] === 'off') throw new StrategyRefusal('efi=no-rs')
      const efi = kernel.requireEfi
      l4 = new RuntimeTables(kernel, 'efi_l4t')
      const ram = efi.memoryMap.filter(
        (region) => isWriteBack(region) && region.type !== MemoryType.ReservedMemoryType,
      )
      // copy_mapping() takes over the direct map's superpages.
      l4.mapEverything(ram)
      for (const region of efi.memoryMap) {
        if (!isTaken(region, options['mapbs'] === 'on')) continue
        if (!isCacheable(region, efi.revision) && options['attr'] !== 'uc') {
          kernel.print(`Unknown cachability for MFNs ${region.physicalStart.toString(16)}`)
          continue
        }
        l4.map(region, BigInt(region.physicalStart), rightsOf(region, efi.revision))
      }
      if (options['svam'] === 'off') return
      l4.setVirtualAddressMap(
        efi.memoryMap.map((region) =>
          placedAt(region, isTaken(region, false) ? BigInt(region.physicalStart) : INVALID),
        ),
      )
    },
    /** efi_rs_enter(): under a lock; interrupts stay as they are. */
    enter: ({ cpu }) => {
      l4!.enter(cpu)
    },
    leave: (call) => {
      l4!.leave(call)
    },
  }
}

/** INVALID_VIRTUAL_ADDRESS. */
const INVALID = 0xffff_ffff_ffff_ffffn

/** Xen: all memory 1:1 in a root of its own, so that firmware runs where it always was. */
export const xen: StrategyDefinition = {
  name: 'xen',
  title:
    'Xen: all RAM and every runtime region 1:1 in a private root; SetVirtualAddressMap only on request',
  mode: 'physical',
  rewindable: true,
  layout: LAYOUT_FIXED_ROOT,
  sources: [
    'Xen 4.17 xen/common/efi/boot.c: efi_init_memory(); runtime.c: efi_rs_enter(), efi_rs_leave()',
  ],
  options: {
    svam: {
      title: 'CONFIG_EFI_SET_VIRTUAL_ADDRESS_MAP: whether it is called, with the identity map',
      values: ['off', 'on'],
      default: 'off',
    },
    mapbs: {
      title: '-mapbs: whether boot-services memory is mapped as runtime memory is',
      values: ['off', 'on'],
      default: 'off',
    },
    attr: {
      title: 'efi=attr=uc: regions without any cacheability are mapped uncached, not left out',
      values: ['none', 'uc'],
      default: 'none',
    },
    rs: { title: 'efi=no-rs: runtime services are not used', values: ['on', 'off'], default: 'on' },
  },
  create: createXen,
}
