// Quirks of memory maps against strategies that suffer from them and strategies that do not.
import { expect, test } from 'vitest'
import { type Ending, endingOf, play } from './cases.ts'

const OK: Ending = { outcome: 'ok' }
const EXIT_BOOT_FAILED: Ending = {
  outcome: 'fault',
  rule: 'died',
  says: 'exit_boot() failed! ExitBootServices returned',
}

test.each<[cell: string, ending: Ending]>([
  // Who wants a cacheability finds none; who asks for write-back alone has an answer.
  ['Q21/xen/boot', { outcome: 'fault', rule: 'H19', address: '0x00000000fed1808a' }],
  ['Q21/xen:attr=uc/boot', OK],
  ['Q21/linux-6.1/boot', OK],
  ['Q21/private-efi-pgd/boot', OK],
  // The patch maps one page more than there are: of none, page 0.
  ['Q23/private-efi-pgd/services', { outcome: 'ok', finds: ['H6'] }],
  // One page, two memory types: in every map that is true to both entries.
  ['Q24/linux-6.1/boot', { outcome: 'ok', finds: ['H7'] }],
  ['Q24/xen/boot', { outcome: 'ok', finds: ['H7'] }],
  // The loader asks once more, as the stub does, and no more than that.
  ['Q28/linux-6.1/boot', OK],
  ['Q28/legacy-virtual/boot', OK],
  ['Q28b/linux-6.1/boot', EXIT_BOOT_FAILED],
  ['Q28b/private-efi-pgd/boot', EXIT_BOOT_FAILED],
  // What is free is the page cache of whoever maps all memory, and not there for the rest.
  ['Q32/global-identity-map/boot', { outcome: 'corrupt', rule: 'H18' }],
  ['Q32/linux-3.14/boot', { outcome: 'corrupt', rule: 'H18' }],
  ['Q32/linux-4.14/boot', { outcome: 'fault', rule: 'H19', address: '0x0000000100000000' }],
  ['Q32/legacy-virtual/boot', { outcome: 'fault', rule: 'H19', address: '0x0000000100000000' }],
])('%s', (cell, ending) => {
  expect(endingOf(cell, ending)).toEqual(ending)
})

test.each([
  ['none/private-efi-pgd/services', 'H6'],
  ['Q24/global-identity-map/boot', 'H7'],
  ['none/linux-6.1/boot', 'H7'],
])('%s: %s has nothing to say', (cell, rule) => {
  expect(play(cell).result.findings.map((finding) => finding.rule)).not.toContain(rule)
})

/** Entries that a strategy's kernel has left out. */
function leftOut(strategy: string): string[] {
  return play(`Q23/${strategy}/boot`).events.flatMap((event) =>
    event.kind === 'message' && event.text.includes('Invalid EFI memory map entry')
      ? [event.text.replace(/.*entry: /, '')]
      : [],
  )
}

test('Linux 4.10 and later leave out what cannot be right, and say so', () => {
  expect(leftOut('linux-4.14')).toEqual([
    'RuntimeServicesData at 0x0, 0 pages',
    'ReservedMemoryType at 0x0, 4503599627370496 pages',
  ])
  expect(leftOut('linux-4.3')).toEqual([])
})
