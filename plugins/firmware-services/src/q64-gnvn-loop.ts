import type { Quirk } from '@trapdoor/firmware'
import { EfiStatus } from '@trapdoor/uefi'

/** Behind the last variable comes the last variable. */
export const gnvnLoop: Quirk = {
  id: 'Q64',
  name: 'gnvn-loop',
  title: 'GetNextVariableName gives the last name again and again',
  sources: ['Linux 3.9, "efivars: Handle duplicate names from get_next_variable()"'],
  hooks: {
    afterService: (status, call) =>
      call.service === 'GetNextVariableName' && status === EfiStatus.NOT_FOUND
        ? EfiStatus.SUCCESS
        : status,
  },
}
