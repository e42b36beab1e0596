import type { Quirk } from '@trapdoor/firmware'
import { EfiStatus } from '@trapdoor/uefi'

/** Firmware that forgets what time it is as soon as it runs at virtual addresses. */
export const timeStopsAfterSvam: Quirk = {
  id: 'ACME1',
  name: 'acme-time-stops',
  title: 'GetTime fails once SetVirtualAddressMap has been called',
  sources: ['ACME Model 1, firmware 0.9'],
  hooks: {
    powerOn: (setup) => {
      setup.pointer('PcRtc', 'here', setup.imageBase('PcRtc'))
    },
    beforeService: (call) => {
      if (call.service !== 'GetTime') return undefined
      const converted = call.pointer('here') >= 2n ** 47n
      return converted ? EfiStatus.DEVICE_ERROR : undefined
    },
  },
}
