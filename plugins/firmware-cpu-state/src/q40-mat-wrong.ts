import type { Quirk } from '@trapdoor/firmware'
import { MemoryAttribute } from '@trapdoor/uefi'

const { RO, XP } = MemoryAttribute

/** The table calls everything read-only, code or not. */
export const matWrong: Quirk = {
  id: 'Q40',
  name: 'mat-wrong',
  title: 'The memory attributes table calls data read-only that drivers write to',
  sources: [
    'OpenCore SyncRuntimePermissions (Dell XPS 9560, acidanthera/bugtracker#491)',
    'Linux drivers/firmware/efi/memattr.c: entry_is_valid()',
  ],
  hooks: {
    memoryAttributes: (entries) =>
      entries.map((each) =>
        (each.attribute & XP) === 0n ? each : { ...each, attribute: each.attribute | RO },
      ),
  },
}
