import type { Rule } from '@trapdoor/harness'

/** Firmware that does its work in system-management mode cannot do it on a machine that has none. */
export const smiWithoutHandler: Rule = {
  id: 'SMI',
  title: 'Firmware raised a system-management interrupt, and nobody handles it',
  severity: 'warning',
  advice:
    'take a build of the firmware without SMM for what this service does: SMRAM is closed to whoever captures a machine, and its handlers are not there',
  sources: [
    'edk2 OvmfPkg/SmmControl2Dxe: SmmControl2DxeTrigger() writes the command port, 0xb2',
    'edk2 MdeModulePkg/Universal/Variable/RuntimeDxe/VariableSmmRuntimeDxe.c: SendCommunicateBuffer()',
    'Intel SDM Vol. 3, 32.2 "System Management Interrupt (SMI)"',
  ],
  rewindable: true,
  watch: ({ hooks, report }) => {
    hooks.managementInterrupt.tap('SMI', (call, command) => {
      report(call.kernel, {
        message: `${call.service} writes 0x${command.toString(16)} to the SMI command port, and is answered EFI_DEVICE_ERROR`,
        explanation:
          'This firmware has its handler in SMRAM do the work: it leaves a message in memory and raises an interrupt that no operating system sees. On the emulated machine there is no such handler. The call ends where the port was written; what it would have read or changed is not known.',
        outcome: 'degraded',
        call,
        actor: call.cpu.calls.at(-1)?.gate.image ?? 'firmware',
      })
    })
  },
}
