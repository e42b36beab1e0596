import type { Machine } from '@trapdoor/core'
import { encodeStatus } from '@trapdoor/uefi'
import type { ImageLayout } from '../layout/image-layout.ts'
import { FirmwareCall, type FirmwareService } from './firmware-call.ts'

/** Binds a function of an image to a gate, whose bytes it returns: what `run` returns is an EFI status, and goes into the register as this architecture has it. */
export function bindFunction(
  machine: Machine,
  layout: ImageLayout,
  request: {
    readonly name: string
    readonly service: FirmwareService
    /** Of the gate in the image, in bytes. */
    readonly offset: number
    readonly run: (call: FirmwareCall) => bigint
  },
): Uint8Array {
  const { name, service, offset, run } = request
  return machine.gates.bind({
    name,
    image: layout.name,
    run: ({ cpu, rip, args }) =>
      encodeStatus(
        layout.architecture,
        run(new FirmwareCall(service, layout, { cpu, rip, args, offset })),
      ),
  })
}
