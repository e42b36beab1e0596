import type { Cpu } from '../cpu/cpu.ts'
import { Gpr } from '../cpu/general-registers.ts'

/** RCX, RDX, R8 and R9 hold the first arguments of a call (UEFI 2.10, 2.3.4.2). */
const ARGUMENT_REGISTERS: readonly number[] = [Gpr.RCX, Gpr.RDX, Gpr.R8, Gpr.R9]
/** Room above the return address for the callee to keep the register arguments in. */
const SHADOW_BYTES = 32n
/** Arguments that a gate can look at; no UEFI function has more. */
const ARGUMENTS = 16
/** An access to the stack. */
export const ON_STACK = { stack: true } as const

/**
 * Puts arguments where a function of UEFI finds them (UEFI 2.10, 2.3.4): four in registers, the rest on the stack above the shadow space, with RSP a multiple of 16
 * before the return address is pushed. Leaves RSP at the return address.
 */
export function passArguments(cpu: Cpu, returnAddress: bigint, args: readonly bigint[]): void {
  const onStack = args.slice(ARGUMENT_REGISTERS.length)
  const room = SHADOW_BYTES + BigInt(onStack.length * 8)
  const frame = BigInt.asUintN(64, (cpu.rsp - room) & ~0xfn)
  for (const [index, value] of onStack.entries()) {
    const address = frame + SHADOW_BYTES + BigInt(index * 8)
    cpu.write64(BigInt.asUintN(64, address), value, ON_STACK)
  }
  for (const [index, value] of args.slice(0, ARGUMENT_REGISTERS.length).entries()) {
    cpu.general64[ARGUMENT_REGISTERS[index]!] = value
  }
  const returnSlot = BigInt.asUintN(64, frame - 8n)
  cpu.write64(returnSlot, returnAddress, ON_STACK)
  cpu.rsp = returnSlot
}

/**
 * The arguments that a function finds while RSP points to its return address. How many there are nobody knows, so that those on the stack are read when they are looked at; a look at one
 * that was not passed reads what lies there.
 */
export function receivedArguments(cpu: Cpu): readonly bigint[] {
  const { rsp } = cpu
  const args = ARGUMENT_REGISTERS.map((register) => cpu.general64[register]!)
  for (let index = args.length; index < ARGUMENTS; index++) {
    const address = BigInt.asUintN(64, rsp + 8n + BigInt(index * 8))
    Object.defineProperty(args, index, {
      enumerable: true,
      get: () => cpu.read64(address, ON_STACK),
    })
  }
  return args
}
