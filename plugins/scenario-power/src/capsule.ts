import type { Scenario, ScenarioContext } from '@trapdoor/harness'
import { getNatural, ResetType } from '@trapdoor/uefi'
import { bootStep } from '@trapdoor/scenario-lifecycle'

/** CAPSULE_FLAGS_PERSIST_ACROSS_RESET. */
const PERSIST_ACROSS_RESET = 0x1_0000
const CAPSULE = 'b122a262-3551-4f48-8892-55f6c0614290'
/** EFI_CAPSULE_REPORT_GUID, and where EFI_CAPSULE_RESULT_VARIABLE_HEADER has the status (UEFI 2.10, 8.5.6). */
const REPORT = '39b68c46-f7fb-441b-b6ec-16b0f69821f3'
const STATUS_OFFSET = 40

/** Whether the kernel knows capsules at all: 2.6.35, Xen and the BSDs do not. */
function handsOver({ kernel }: ScenarioContext): boolean {
  return kernel.strategy?.instance.offers?.(kernel, 'UpdateCapsule') !== false
}

function update(context: ScenarioContext): void {
  const payload = Uint8Array.from({ length: 300 }, (_, index) => index * 7)
  const services = context.services('kmalloc')
  context.call(services.queryCapsuleCapabilities(CAPSULE, PERSIST_ACROSS_RESET))
  context.call(services.updateCapsule(CAPSULE, PERSIST_ACROSS_RESET, payload))
  if (!handsOver(context)) context.note('UpdateCapsule', 'not called by this kernel', { ok: false })
  context.expectReset(context.services().resetSystem(ResetType.Warm))
  context.restart('kept')
}

/** A firmware update: the capsule waits in memory for a warm reset, and firmware says afterwards what became of it. */
export const capsule: Scenario = {
  name: 'capsule',
  title: 'a capsule through UpdateCapsule and a warm reset, and what firmware reports of it',
  steps: [
    bootStep,
    { name: 'capsule and warm reset', run: update },
    {
      name: 'report',
      run: (context) => {
        context.boot()
        if (!handsOver(context)) return
        context.call(context.services().getVariable('Capsule0000', REPORT), ({ data }) => {
          const view = new DataView(data.buffer, data.byteOffset, data.length)
          return getNatural(context.kernel.architecture, view, STATUS_OFFSET) === 0n
        })
      },
    },
  ],
}
