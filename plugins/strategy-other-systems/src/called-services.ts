import type { RuntimeServiceName } from '@trapdoor/uefi'

/** What the BSDs' clock drivers and /dev/efi call. */
export const CLOCK_AND_VARIABLES: ReadonlySet<RuntimeServiceName> = new Set([
  'GetTime',
  'SetTime',
  'GetVariable',
  'GetNextVariableName',
  'SetVariable',
])
