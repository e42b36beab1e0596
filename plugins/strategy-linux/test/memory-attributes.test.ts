import { PAGE_SIZE } from '@trapdoor/core'
import type { Plugin } from '@trapdoor/harness'
import { Guid } from '@trapdoor/uefi'
import { expect, test } from 'vitest'
import { boot, play, said } from './machine.ts'

/** A driver that overwrites the number of entries: of 48 bytes each they are just below 4 GiB. */
const corrupting: Plugin = {
  name: 'corrupting',
  apiVersion: 1,
  quirks: [
    {
      id: 'T1',
      name: 'corrupting',
      title: 'a table of 4 GiB',
      sources: ['a test'],
      hooks: {
        powerOn: (setup) => {
          setup.pointer('DxeCore', 'table', setup.memoryAttributesTable!, { convert: false })
        },
        exitBootServices: (call) => call.write32(call.pointer('table') + 4n, 0x0555_0000),
      },
    },
  ],
}

/** Who owns the memory 3 GiB behind the table when the kernel runs. */
async function ownerBehindTable(strategy: string): Promise<string | undefined> {
  const { kernels } = await play(strategy, boot, { plugins: [corrupting], quirk: 'T1' })
  const { configurationTable } = kernels[0]!.requireEfi
  const table = configurationTable.find(({ guid }) => guid === Guid.MEMORY_ATTRIBUTES_TABLE)!.table
  const frame = Number(table) / PAGE_SIZE + 3 * 0x4_0000
  return kernels[0]!.machine.memory.owners.get(frame)?.name
}

test.each([
  ['linux-4.3', 'page cache of the first kernel'],
  ['linux-4.14', undefined],
  ['linux-5.4', undefined],
  ['linux-6.1', undefined],
  ['linux-7.1', 'page cache of the first kernel'],
])('%s: memory behind a table of 4 GiB is used by %s', async (strategy, owner) => {
  expect(await ownerBehindTable(strategy)).toBe(owner)
})

/** UEFI 2.10's version of the table, in which the word behind the stride holds flags. */
const versionTwo: Plugin = {
  name: 'version-two',
  apiVersion: 1,
  quirks: [
    {
      id: 'T2',
      name: 'version-two',
      title: 'a table of version 2',
      sources: ['a test'],
      hooks: {
        powerOn: (setup) => {
          setup.pointer('DxeCore', 'table', setup.memoryAttributesTable!, { convert: false })
        },
        exitBootServices: (call) => call.write32(call.pointer('table'), 2),
      },
    },
  ],
}

test.each([
  ['linux-4.14', true],
  ['linux-5.4', true],
  ['linux-6.1', false],
])('%s: a table of version 2 is refused: %s', async (strategy, refused) => {
  const { events, kernels, result } = await play(strategy, boot, {
    plugins: [versionTwo],
    quirk: 'T2',
  })
  expect(result.outcome).toBe('ok')
  expect(kernels[0]!.requireEfi.refusesAttributesTable).toBe(refused)
  const warnings = said(events).filter((text) => text.includes('table version 2'))
  expect(warnings).toHaveLength(refused ? 1 : 0)
})
