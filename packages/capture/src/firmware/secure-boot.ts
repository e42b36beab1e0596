import { encodeUcs2, parseGuid } from '@trapdoor/uefi'

/** edk2's variable by which a person in front of the machine switches Secure Boot off: gEfiSecureBootEnableDisableGuid and EFI_SECURE_BOOT_ENABLE_NAME (SecurityPkg/Include/Guid/AuthenticatedVariableFormat.h of 2022, now in MdeModulePkg). */
const SWITCH = Buffer.concat([
  parseGuid('f0a30bc7-af08-4556-99c4-001009c93a44'),
  encodeUcs2('SecureBootEnable'),
])
/** How far before the vendor's GUID, the last field of a header, AUTHENTICATED_VARIABLE_HEADER and VARIABLE_HEADER begin. */
const HEADER_STARTS = [44, 16] as const
const VARIABLE_START = 0x55aa
const STATE = 2
/** VAR_ADDED. */
const ADDED = 0x3f

/**
 * A copy of a variable store in which Secure Boot is switched off, as in the firmware's setup: keys stay enrolled, and what is not signed starts (AuthVariableLibInitialize(), MdeModulePkg/Library/AuthVariableLib).
 * Undefined where it is not on.
 */
export function withoutSecureBoot(store: Uint8Array): Uint8Array | undefined {
  const copy = Buffer.from(store)
  let isChanged = false
  for (let at = copy.indexOf(SWITCH); at !== -1; at = copy.indexOf(SWITCH, at + 1)) {
    const data = at + SWITCH.length
    const isThere = HEADER_STARTS.some((before) => {
      const start = at - before
      return (
        start >= 0 && copy.readUInt16LE(start) === VARIABLE_START && copy[start + STATE] === ADDED
      )
    })
    if (!isThere || copy[data] !== 1) continue
    copy[data] = 0
    isChanged = true
  }
  return isChanged ? copy : undefined
}
