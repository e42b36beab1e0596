// Quirks of single services against strategies that suffer from them and strategies that do not.
import { expect, test } from 'vitest'
import { type Ending, endingOf, play } from './cases.ts'

const OK: Ending = { outcome: 'ok' }

test.each<[cell: string, ending: Ending]>([
  // UD2: no page fault, so that nothing recovers from it. Linux 5.17 and later do not ask Apple.
  ['Q62/linux-5.4/services', { outcome: 'fault', rule: 'EXC' }],
  ['Q62/linux-6.1/services', OK],
  ['Q62/linux-5.4/boot', OK],
  // Below 0x1000 faults are not recovered from.
  ['Q63/linux-6.1/services', { outcome: 'fault', rule: 'H10', address: '0x0000000000000230' }],
  // 2.6.35 has no wrapper for what UEFI 2.0 brought.
  ['Q63/private-efi-pgd/services', OK],
  ['Q63/linux-6.1/variables', OK],
  // Linux 3.9 and later stop at the first name that comes twice.
  [
    'Q64/linux-3.4/variables',
    { outcome: 'hang', rule: 'died', says: 'efivar_init() gets BootOrder-' },
  ],
  [
    'Q64/legacy-virtual/variables',
    { outcome: 'hang', rule: 'died', says: 'efivar_init() gets BootOrder-' },
  ],
  ['Q64/linux-3.14/variables', OK],
  ['Q64/linux-6.1/variables', OK],
  // Nobody can tell a wrong time from the firmware's tables.
  ['Q67/linux-6.1/boot', { outcome: 'degraded' }],
  ['Q67/xen/boot', { outcome: 'degraded' }],
  // Where a fault in ResetSystem is recovered from, the BIOS resets.
  ['Q69/legacy-virtual/services', { outcome: 'fault', rule: 'H18', address: '0x000000007d4c5004' }],
  ['Q69/windows/services', { outcome: 'fault', rule: 'H18', address: '0x000000007d4c5004' }],
  ['Q69/linux-6.1/services', OK],
  ['Q69/xen/services', OK],
  // What is not in the table is not called by who looks at its revision.
  ['Q78/legacy-virtual/services', OK],
  ['Q78/windows/services', { outcome: 'fault', address: '0x0000000000000000' }],
  ['Q78/linux-3.4/services', OK],
  ['Q78/xen/services', OK],
  // A mapped page 0 hides a null pointer of the firmware's, too.
  ['Q80/private-efi-pgd/boot', { outcome: 'fault', rule: 'H6', address: '0x0000000000000008' }],
  ['Q80/private-efi-pgd:page0=mapped/boot', OK],
  ['Q80/linux-6.1/boot', OK],
  ['Q80/legacy-virtual/boot', { outcome: 'fault', rule: 'H6', address: '0x0000000000000008' }],
])('%s', (cell, ending) => {
  expect(endingOf(cell, ending)).toEqual(ending)
})

test('Q64: the kernel says which name came twice', () => {
  const said = play('Q64/linux-6.1/variables').events.flatMap((event) =>
    event.kind === 'message' && event.text.startsWith('efivars: duplicate') ? [event.text] : [],
  )
  expect(said[0]).toBe(
    'efivars: duplicate variable: BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c',
  )
})
