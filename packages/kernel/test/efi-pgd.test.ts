import { isRuntime, MemoryAttribute, type MemoryDescriptor } from '@trapdoor/uefi'
import { expect, test } from 'vitest'
import { EfiPgd, memattrApplyPermissions } from '../src/index.ts'
import { boot, messages, strategyOf } from './booted.ts'
import { MAP } from './small-machine.ts'

const WINDOW = 0xffff_fffe_c000_0000n
/** Two pages of 2 MiB, at addresses that let them be mapped as such. */
const REGION = { ...MAP.find(isRuntime)!, physicalStart: 0x20_0000, numberOfPages: 1024 }

test('efi_memattr_apply_permissions() ends with the first entry that could not be applied, at both of whose addresses it was tried', () => {
  const rights: string[] = []
  const strategy = strategyOf('virtual', () => ({
    setup: (kernel) => {
      const pgd = EfiPgd.own(kernel)
      const region = { ...REGION, virtualStart: WINDOW }
      pgd.mapRegion(region, BigInt(region.physicalStart), true)
      pgd.mapRegion(region, WINDOW, true)
      kernel.requireEfi.memoryMap = [region]
      const entryAt = (page: number): MemoryDescriptor => ({
        ...region,
        physicalStart: region.physicalStart + page * 4096,
        numberOfPages: 1,
        attribute: region.attribute | MemoryAttribute.RO,
      })
      const entries = [entryAt(0), entryAt(512)]
      kernel.countAllocations(1)
      memattrApplyPermissions(
        kernel,
        { version: 1, flags: 0, descriptorSize: 48, entries },
        (entry, how) => {
          const result = pgd.updateMappings(entry, how)
          rights.push(result)
          return result
        },
      )
    },
    offers: () => false,
  }))
  const { machine } = boot({ strategies: [strategy] })
  expect(rights).toEqual(['failed'])
  const said = messages(machine.log.events, 'kernel')
  expect(said.filter((text) => text.startsWith('Error while updating'))).toEqual([
    'Error while updating 1:1 mapping PA 0x200000 -> VA 0xfffffffec0000000!',
  ])
})
