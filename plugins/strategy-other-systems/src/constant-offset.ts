import { LAYOUT_FIXED_ROOT, type StrategyDefinition } from '@trapdoor/kernel'
import { isRuntime } from '@trapdoor/uefi'
import { codeExecutable, rwx, RuntimeTables, placedAt } from './runtime-tables.ts'

/** A multiple of 512 GiB in the kernel's half that Linux uses for nothing. */
const OFFSET = 0xffff_8080_0000_0000n

/** LoongArch: every virtual address is the physical one and a constant. */
export const constantOffset: StrategyDefinition = {
  name: 'constant-offset',
  title:
    'LoongArch: VA = PA + a constant for runtime regions alone, which every kernel can compute again',
  mode: 'virtual',
  rewindable: true,
  layout: LAYOUT_FIXED_ROOT,
  sources: [
    'Linux 6.1 arch/loongarch/kernel/efi.c; drivers/firmware/efi/libstub/loongarch-stub.c: efi_get_virtmap()',
  ],
  create: () => {
    let tables: RuntimeTables | undefined
    return {
      serialised: true,
      setup: (kernel) => {
        const map = kernel.requireEfi.memoryMap
          .filter(isRuntime)
          .map((region) => placedAt(region, OFFSET + BigInt(region.physicalStart)))
        const both = new RuntimeTables(kernel, 'efi_mm with the identity')
        tables = new RuntimeTables(kernel, 'efi_mm')
        for (const region of map) {
          both.map(region, BigInt(region.physicalStart), rwx(region))
          both.map(region, region.virtualStart, rwx(region))
          tables.map(region, region.virtualStart, codeExecutable(region))
        }
        both.setVirtualAddressMap(map)
      },
      enter: ({ cpu }) => {
        tables!.enter(cpu)
      },
      leave: (call) => {
        tables!.leave(call)
      },
    }
  },
}
