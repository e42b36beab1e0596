import { type Cpu, Cr4 } from '@trapdoor/core'
import {
  isServiceOfRevision,
  LAYOUT_FIXED_ROOT,
  type PageTableStrategy,
  type StrategyDefinition,
  StrategyRefusal,
} from '@trapdoor/kernel'
import {
  isRuntime,
  MemoryAttribute,
  type MemoryDescriptor,
  MemoryType,
  type RuntimeServiceName,
} from '@trapdoor/uefi'
import { isWriteBack, type Rights, RuntimeTables, placedAt } from './runtime-tables.ts'

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

/** Makes a runtime region of one that is so by its type alone. */
function asRuntime(region: MemoryDescriptor): MemoryDescriptor {
  return { ...region, attribute: region.attribute | MemoryAttribute.RUNTIME }
}

/** EFI_REVISION(2, 5): WP was a right before, and is a cacheability since, as RO is the right. */
const UEFI_2_5 = 0x2_0032

/** The cacheability of a region, the best that its descriptor names: WB, WT, WC, UC and UCE, WP; undefined where it names none. */
function cacheabilityOf(
  { attribute }: MemoryDescriptor,
  revision: number,
): Pick<Rights, 'cacheDisable' | 'writeThrough'> | undefined {
  const has = (bit: bigint): boolean => (attribute & bit) !== 0n
  if (has(MemoryAttribute.WB)) return { cacheDisable: false }
  // The PAT here is Linux', and has neither WT nor WP: UC- is what MTRRs can make of them.
  if (has(MemoryAttribute.WT)) return { cacheDisable: true }
  if (has(MemoryAttribute.WC)) return { cacheDisable: false, writeThrough: true }
  if (has(MemoryAttribute.UC) || has(MemoryAttribute.UCE)) return UNCACHED
  return revision >= UEFI_2_5 && has(MemoryAttribute.WP) ? { cacheDisable: true } : undefined
}

/** _PAGE_UC, which is also what efi=attr=uc gives to regions without any. */
const UNCACHED = { cacheDisable: true, writeThrough: true } as const

/** Everything writable but what RO forbids, and before UEFI 2.5 WP; everything executable but what XP forbids. */
function rightsOf({ attribute }: MemoryDescriptor, revision: number): Omit<Rights, 'cacheDisable'> {
  const readOnly = revision >= UEFI_2_5 ? MemoryAttribute.RO : MemoryAttribute.WP
  return {
    writable: (attribute & readOnly) === 0n,
    executable: (attribute & MemoryAttribute.XP) === 0n,
  }
}

/** switch_cr3_cr4(): with CR4.PGE off meanwhile, so that global translations go, too. */
function switchCr3(cpu: Cpu, switchTo: () => void): void {
  const { cr4 } = cpu
  cpu.writeCr4(cr4 & ~Cr4.PGE)
  switchTo()
  cpu.writeCr4(cr4)
}

const CAPSULES: ReadonlySet<RuntimeServiceName> = new Set([
  'UpdateCapsule',
  'QueryCapsuleCapabilities',
])

function createXen(options: Readonly<Record<string, string>>): PageTableStrategy {
  let l4: RuntimeTables | undefined
  return {
    serialised: true,
    /** efi_runtime_call(): the services of EFI 2.0 are -EOPNOTSUPP where the table is older, and those for capsules -ENOSYS where it is not. */
    offers: (kernel, service) =>
      !CAPSULES.has(service) && isServiceOfRevision(kernel.requireEfi.revision, service),
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
        const cacheability =
          cacheabilityOf(region, efi.revision) ?? (options['attr'] === 'uc' ? UNCACHED : undefined)
        if (cacheability === undefined) {
          kernel.print(`Unknown cachability for MFNs ${region.physicalStart.toString(16)}`)
          continue
        }
        const rights = { ...rightsOf(region, efi.revision), ...cacheability }
        l4.map(region, BigInt(region.physicalStart), rights)
      }
      if (options['svam'] === 'off') return
      // efi_exit_boot() gives runtime types an address whatever their attribute says; efi_init_memory() adds the attribute only later.
      const passed = efi.memoryMap.map((region) =>
        placedAt(region, isTaken(region, false) ? BigInt(region.physicalStart) : INVALID),
      )
      l4.setVirtualAddressMap(
        passed,
        passed.map((region) => (isTaken(region, false) ? asRuntime(region) : region)),
      )
    },
    /** efi_rs_enter(): under a lock; interrupts stay as they are. */
    enter: ({ cpu }) => {
      switchCr3(cpu, () => {
        l4!.enter(cpu)
      })
    },
    leave: (call) => {
      switchCr3(call.cpu, () => {
        l4!.leave(call)
      })
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
    'Xen 4.17 xen/common/efi/boot.c: efi_exit_boot(), efi_init_memory(); runtime.c: efi_rs_enter(), efi_rs_leave()',
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
