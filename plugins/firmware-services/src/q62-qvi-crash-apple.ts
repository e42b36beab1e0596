import type { Quirk } from '@trapdoor/firmware'
import { EfiStatus, MemoryType } from '@trapdoor/uefi'

const SLOT = 'Q62 assertion'
const UD2 = Uint8Array.of(0x0f, 0x0b)
/** Offset of the instruction behind the function's entry. */
const FAILED = 0x40
/** EFI 2.40. */
const REVISION = 0x2_0028

/** Firmware of a Mac that asserts, with UD2, when it is asked for what only EFI 2.0 has. */
export const qviCrashApple: Quirk = {
  id: 'Q62',
  name: 'qvi-crash-apple',
  title: 'QueryVariableInfo of Apple’s firmware ends in an invalid opcode',
  sources: [
    'Linux f5390cd0b43c "efi: runtime: avoid EFIv2 runtime services on Apple x86 machines"',
    'kernel.org bugzilla 215277 (MacBookPro16,1)',
  ],
  hooks: {
    powerOn: (setup) => {
      setup.identify({ vendor: 'Apple', revision: REVISION })
      const address = setup.allocate({ type: MemoryType.RuntimeServicesCode, pages: 1, name: SLOT })
      setup.code({
        address,
        image: 'AppleVariableDxe',
        name: 'Query',
        service: 'QueryVariableInfo',
        run: () => EfiStatus.SUCCESS,
      })
      setup.write(address + FAILED, UD2)
      setup.pointer('VariableRuntimeDxe', SLOT, address + FAILED)
    },
    beforeService: (call) => {
      if (call.service === 'QueryVariableInfo') call.call(call.pointer(SLOT))
      return undefined
    },
  },
}
