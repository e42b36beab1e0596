// Quirks of permissions and of CPU state against strategies that suffer from them and strategies that do not.
import { expect, test } from 'vitest'
import { type Ending, endingOf, play } from './cases.ts'

const OK: Ending = { outcome: 'ok' }

test.each<[cell: string, ending: Ending]>([
  // Who applies the table takes data away from its drivers; from 5.4 on a call is lost, not the kernel.
  ['Q40/linux-4.14/boot', { outcome: 'fault', rule: 'H10', address: '0xfffffffefe6a1160' }],
  ['Q40/windows/boot', { outcome: 'fault', rule: 'H10', address: '0xffffc900000e2160' }],
  ['Q40/linux-6.1/boot', { outcome: 'degraded' }],
  ['Q40/linux-4.3/boot', OK],
  ['Q40/private-efi-pgd/boot', OK],
  // Code among data: not where only code is executable.
  ['Q42/legacy-virtual/boot', { outcome: 'fault', rule: 'H10', address: '0xffff88007eaa9000' }],
  ['Q42/private-efi-pgd/boot', { outcome: 'fault', rule: 'H10', address: '0x000000007eaa9000' }],
  ['Q42/linux-6.1/boot', { outcome: 'fault', rule: 'H10', address: '0xfffffffefe6a9000' }],
  ['Q42/private-efi-pgd:state=A/boot', OK],
  ['Q42/linux-5.4/boot', OK],
  // Data among code: not where code is read-only.
  ['Q43/linux-6.1/boot', { outcome: 'fault', rule: 'H10', address: '0xfffffffeff1f8800' }],
  ['Q43/linux-4.3/boot', OK],
  ['Q43/xen/boot', OK],
  // Nobody gives interrupts back where nobody has looked.
  ['Q45/legacy-virtual/boot', { outcome: 'hang', rule: 'H1' }],
  ['Q45/xen/boot', { outcome: 'hang', rule: 'H1' }],
  ['Q45/linux-6.1/boot', OK],
  ['Q45/private-efi-pgd/boot', OK],
  // SSE's rounding is the process's; kernels of 2010 keep xmm0 to xmm5 and no more.
  ['Q46/legacy-virtual/boot', { outcome: 'corrupt', rule: 'H14' }],
  ['Q46/private-efi-pgd/boot', { outcome: 'corrupt', rule: 'H14' }],
  ['Q46/linux-3.14/boot', { outcome: 'corrupt', rule: 'H14' }],
  ['Q46/linux-4.3/boot', OK],
  ['Q46/xen/boot', OK],
])('%s', (cell, ending) => {
  expect(endingOf(cell, ending)).toEqual(ending)
})

test.each([
  ['linux-4.14', /^efi: memattr: Failed to map EFI Memory Attributes table @ 0x/],
  [
    'linux-7.1',
    /^\[Firmware Bug\]: Corrupted .* \(version == 1, desc_size == 48, num_entries == 89456640\)$/,
  ],
])('Q41: %s goes without the table', (strategy, text) => {
  const { result, events } = play(`Q41/${strategy}/boot`)
  expect(result.outcome).toBe('ok')
  const said = events.filter((event) => event.kind === 'message' && text.test(event.text))
  expect(said).toHaveLength(1)
  // Nothing was made read-only, so that code is where data can be written.
  expect(result.cost?.writableExecutableBytes).toBeGreaterThan(
    play(`none/${strategy}/boot`).result.cost!.writableExecutableBytes,
  )
})

test('Q41: a crash kernel that has no RAM behind the table does not map it either', () => {
  const { result, events } = play('Q41/linux-4.14/kdump')
  const failed = events.filter(
    (event) => event.kind === 'message' && event.text.includes('Failed to map EFI Memory Attr'),
  )
  expect(failed.map((event) => event.era)).toEqual(['first kernel', 'crash kernel'])
  expect(result.findings.filter(({ severity }) => severity === 'error')).toEqual([])
})
