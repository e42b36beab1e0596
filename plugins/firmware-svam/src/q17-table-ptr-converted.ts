import type { Quirk } from '@trapdoor/firmware'
import { Guid, parseGuid } from '@trapdoor/uefi'

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
      const { tables } = call.architecture
      const field = (offset: number): bigint => call.readNatural(systemTable + BigInt(offset))
      const entries = field(tables.systemTable.NumberOfTableEntries)
      const table = field(tables.systemTable.ConfigurationTable)
      const entryBytes = BigInt(tables.configTableEntrySize)
      const smbios = parseGuid(Guid.SMBIOS).join()
      for (let entry = table; entry < table + entries * entryBytes; entry += entryBytes) {
        if (call.readBytes(entry, 16).join() === smbios) change.convert(entry + 16n)
      }
    },
  },
}
