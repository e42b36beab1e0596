import { LAYOUT_FIXED_ROOT, type StrategyDefinition, StrategyRefusal } from '@trapdoor/kernel'
import { isRuntime, MemoryAttribute, MemoryType } from '@trapdoor/uefi'
import { CLOCK_AND_VARIABLES } from './called-services.ts'
import { isWriteBack, RuntimeTables } from './runtime-tables.ts'

/** UEFI 2.1, whose minor number is 10: "early implementations can be buggy". */
const UEFI_2_1 = 0x2_000a

/** OpenBSD: where the loader left things, with the rights that the map itself names. */
export const openbsd: StrategyDefinition = {
  name: 'openbsd',
  title:
    'OpenBSD: no SetVirtualAddressMap, runtime regions 1:1, only code executable, RO and XP honoured, interrupts off',
  mode: 'physical',
  rewindable: true,
  layout: LAYOUT_FIXED_ROOT,
  sources: [
    'OpenBSD 7.3 sys/arch/amd64/amd64/efi_machdep.c: efi_attach(), efi_map_runtime(), efi_enter(); pmap.c: protection_codes',
    'OpenBSD 7.3 sys/dev/efi/efi.c: efiioctl()',
  ],
  create: () => {
    let pmap: RuntimeTables | undefined
    return {
      serialised: true,
      offers: (_kernel, service) => CLOCK_AND_VARIABLES.has(service),
      setup: (kernel) => {
        if (kernel.requireEfi.revision < UEFI_2_1) {
          throw new StrategyRefusal('firmware older than UEFI 2.1')
        }
        pmap = new RuntimeTables(kernel, 'efi_pm')
        for (const region of kernel.requireEfi.memoryMap.filter(isRuntime)) {
          const has = (bit: bigint): boolean => (region.attribute & bit) !== 0n
          // EFI_MEMORY_RP takes PROT_READ away, which pmap_enter() has no bit for: the page is there all the same.
          pmap.map(region, region.virtualStart || BigInt(region.physicalStart), {
            writable: !has(MemoryAttribute.RO),
            executable: region.type === MemoryType.RuntimeServicesCode && !has(MemoryAttribute.XP),
            cacheDisable: !isWriteBack(region),
          })
        }
      },
      enter: ({ cpu }) => {
        cpu.interruptFlag = false
        pmap!.enter(cpu)
      },
      leave: (call) => {
        pmap!.leave(call)
        call.cpu.interruptFlag = call.before.interruptFlag
      },
    }
  },
}
