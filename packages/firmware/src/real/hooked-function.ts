import type { Machine } from '@trapdoor/core'
import { argumentCount, argumentWords, decodeStatus, encodeStatus } from '@trapdoor/uefi'
import { FirmwareCall, type FirmwareService } from '../quirk/firmware-call.ts'
import type { RealImage } from './real-image.ts'

/**
 * Puts a gate in place of the first bytes of a function of real code, as a debugger puts a breakpoint: `around` runs where it is called, at whatever address, and may call `original`, which is the
 * function itself. While that runs its own bytes are there.
 */
export function hookFunction(
  machine: Machine,
  image: RealImage,
  request: {
    /** Physical address of the function's first byte. */
    readonly address: number
    readonly name: string
    readonly service: FirmwareService
    /** How many arguments it takes; default: as many as the service. */
    readonly argumentCount?: number
    readonly around: (call: FirmwareCall, original: () => bigint) => bigint
  },
): void {
  const { address, name, service, around } = request
  const { architecture } = image
  const offset = address - image.base
  const count = request.argumentCount ?? argumentCount(service)
  // Both are the same in every fork of the machine.
  let bytes: Uint8Array
  const gate = machine.gates.bind({
    name,
    image: image.name,
    run: ({ cpu, rip, args }) => {
      const { memory } = cpu.machine
      const call = new FirmwareCall(service, image, { cpu, rip, args, offset })
      // A kernel may have moved runtime memory, as that of macOS does.
      const place = cpu.peekPhysical(rip) ?? address
      const original = (): bigint => {
        const passed = Array.from({ length: count }, (_, index) => call.arg(index))
        memory.write(place, bytes)
        try {
          return decodeStatus(
            architecture,
            cpu.call(rip, ...argumentWords(architecture, service, passed)),
          )
        } finally {
          memory.write(place, gate)
        }
      }
      return encodeStatus(architecture, around(call, original))
    },
  })
  bytes = machine.memory.read(address, gate.length)
  machine.memory.write(address, gate)
}
