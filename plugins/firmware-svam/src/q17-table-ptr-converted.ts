import type { Quirk } from '@trapdoor/firmware'
import { CONFIG_TABLE_ENTRY_SIZE, Guid, parseGuid, SystemTable } from '@trapdoor/uefi'

const ENTRY_BYTES = BigInt(CONFIG_TABLE_ENTRY_SIZE)

/** The SMBIOS driver converts the pointer in the configuration table, which others read as a physical address. */
export const tablePtrConverted: Quirk = {
  id: 'Q17',
  name: 'table-ptr-converted',
  title: 'SetVirtualAddressMap converts the SMBIOS pointer of the configuration table',
  sources: ['Linux efi_reuse_config (HP z420)', 'arch/x86/platform/efi/quirks.c'],
  hooks: {
    virtualAddressChange: (call, change) => {
      if (call.image !== 'RuntimeDxe') return
      const systemTable = call.pointer('gST')
      const entries = call.read64(systemTable + BigInt(SystemTable.NumberOfTableEntries))
      const table = call.read64(systemTable + BigInt(SystemTable.ConfigurationTable))
      const smbios = parseGuid(Guid.SMBIOS).join()
      for (let entry = table; entry < table + entries * ENTRY_BYTES; entry += ENTRY_BYTES) {
        if (call.readBytes(entry, 16).join() === smbios) change.convert(entry + 16n)
      }
    },
  },
}
