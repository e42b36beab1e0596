import type { PortDevice } from '@trapdoor/core'

/** Where the exit port of kvm-unit-tests is (lib/x86/io.c, `exit`). */
export const DEBUG_EXIT_PORT = 0xf4
const PORTS = 4

/** The guest has ended itself. It is thrown by the write to the exit port. */
export class GuestExit extends Error {
  override readonly name = 'GuestExit'
  /** What the guest wrote: unsigned, of 8, 16 or 32 bits. */
  readonly value: number

  constructor(value: number) {
    super(`the guest exited with ${value}`)
    this.value = value
  }
}

/** The port by which a guest tells how it went, as QEMU's isa-debug-exit; without a twist: 0 is 0. */
export class DebugExit implements PortDevice {
  readonly name = 'exit port'
  readonly ports: readonly number[] = Array.from(
    { length: PORTS },
    (_, index) => DEBUG_EXIT_PORT + index,
  )

  in8(): number {
    return 0
  }

  out8(_port: number, value: number): void {
    throw new GuestExit(value)
  }

  out16(_port: number, value: number): void {
    throw new GuestExit(value)
  }

  out32(_port: number, value: number): void {
    throw new GuestExit(value)
  }

  fork(): DebugExit {
    return this
  }
}
