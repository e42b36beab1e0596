// Quirks of SetVirtualAddressMap against strategies that suffer from them and strategies that do not.
import { expect, test } from 'vitest'
import { type Ending, endingOf } from './cases.ts'

const OK: Ending = { outcome: 'ok' }

test.each<[cell: string, ending: Ending]>([
  // Where only the old addresses are mapped while firmware converts itself.
  ['Q07/arm64:map=virtual/boot', { outcome: 'fault', rule: 'H19', address: '0x0000000020009008' }],
  ['Q07/legacy-virtual/boot', OK],
  ['Q07/linux-4.3/boot', OK],
  ['Q07/private-efi-pgd/boot', OK],
  // A region of its own, at an address of its own, says nothing of what is beside it.
  ['Q07b/linux-6.1/boot', { outcome: 'fault', rule: 'H8', address: '0xffffffff7e810000' }],
  [
    'Q07b/esxi:policy=compact/boot',
    { outcome: 'fault', rule: 'H8', address: '0xffff808080170000' },
  ],
  ['Q07b/esxi:policy=simple/boot', OK],
  ['Q07b/xen/boot', OK],
  // Low addresses get a sign that they do not have, inside SetVirtualAddressMap.
  ['Q08/freebsd/boot', { outcome: 'fault', rule: 'H8' }],
  ['Q08/arm64:map=flat/boot', { outcome: 'fault', rule: 'H8' }],
  ['Q08/linux-6.1/boot', OK],
  ['Q08/arm64/boot', OK],
  // Two halves of one object go their own ways, unless they are merged or keep their distance.
  [
    'Q10/switches:mergeRegions=off,svamOrder=ascending,identity=off,faultRecovery=none/boot',
    { outcome: 'fault', rule: 'H19', address: '0xfffffffef62aa000' },
  ],
  ['Q10/switches:svamOrder=ascending/boot', OK],
  ['Q10/linux-3.14/boot', OK],
  ['Q10/legacy-virtual/boot', OK],
  // The whole map, most of which has no virtual address.
  [
    'Q11/legacy-virtual/boot',
    { outcome: 'fault', rule: 'died', says: 'SetVirtualAddressMap() failed' },
  ],
  ['Q11/linux-3.4/boot', OK],
  ['Q11/linux-6.1/boot', OK],
  // ConvertPointer is where it was; what it finds there is page 0.
  ['Q13/windows/boot', { outcome: 'fault', rule: 'H8', address: '0x000000007f5ec060' }],
  ['Q13/linux-6.1/boot', { outcome: 'fault', rule: 'H19', address: '0x0000000000001000' }],
  ['Q13/private-efi-pgd/boot', OK],
  ['Q13/linux-3.14/boot', OK],
  // Nothing was converted, so that only the 1:1 map helps.
  ['Q15/windows/boot', { outcome: 'fault', rule: 'H8', address: '0x000000007eaa0118' }],
  ['Q15/linux-6.1/boot', OK],
  ['Q15/linux-3.14/kexec', { outcome: 'fault', rule: 'H10' }],
  ['Q15/linux-4.14/kexec', OK],
  // A list that never comes back to a head which has moved.
  ['Q16/windows/boot', { outcome: 'fault', rule: 'H8', address: '0x000000007eaa9000' }],
  ['Q16/linux-6.1/boot', { outcome: 'hang' }],
  ['Q16/xen/boot', OK],
  // Panics gave way to going without.
  [
    'Q18/linux-4.14/boot',
    { outcome: 'fault', rule: 'died', says: 'Unable to switch EFI into virtual mode' },
  ],
  ['Q18/linux-5.4/boot', { outcome: 'fault' }],
  ['Q18/global-identity-map/boot', OK],
])('%s', (cell, ending) => {
  expect(endingOf(cell, ending)).toEqual(ending)
})
