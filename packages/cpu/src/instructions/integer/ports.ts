import { type Cpu, Cr0, Rflags } from '@trapdoor/core'
import { Mnemonic } from 'iced-x86'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { type Read, readRegister, writeRegister } from '../../operands.ts'
import type { InstructionFamily, Translator } from '../table.ts'

export type PortSize = 1 | 2 | 4

/** Where a TSS says where its I/O permission bit map is (SDM Vol. 3, figures 8-2 and 8-11: the same in both forms). */
const TSS_IO_MAP = 0x66n

/** #GP(0) unless the privilege level allows I/O, or the I/O permission bit map of the TSS allows all `size` ports from `port` on (SDM Vol. 1, 20.5.2). */
export function checkIoPrivilege(execution: Execution, port: number, size: PortSize): void {
  const { cpu } = execution
  const isProtected = (cpu.cr0 & Cr0.PE) !== 0
  const iopl = (cpu.controlFlags >>> Rflags.IoplShift) & 3
  const isVirtual8086 = (cpu.controlFlags & Rflags.VM) !== 0
  if (!isProtected || (cpu.cpl <= iopl && !isVirtual8086)) return
  if (!isAllowedByMap(cpu, port, size)) {
    throw execution.generalProtection(
      'the I/O permission bit map does not allow port',
      BigInt(port),
    )
  }
}

function isAllowedByMap(cpu: Cpu, port: number, size: PortSize): boolean {
  const { base, limit } = cpu.taskRegister
  if (limit < 0x67) return false
  const implicit = { implicit: true }
  const word = (offset: bigint): number => {
    const [low, high] = cpu.readBytes(base + offset, 2, implicit)
    return low! | (high! << 8)
  }
  const at = word(TSS_IO_MAP) + (port >>> 3)
  // Two bytes are read, as the bits of 4 ports may lie in both.
  if (at + 1 > limit) return false
  const bits = word(BigInt(at)) >>> (port & 7)
  return (bits & ((1 << size) - 1)) === 0
}

/** What a port gives: a signed number for 32 bits. */
export function input({ cpu }: Execution, port: number, size: PortSize): number {
  if (size === 1) return cpu.in8(port)
  return size === 2 ? cpu.in16(port) : cpu.in32(port) | 0
}

export function output({ cpu }: Execution, port: number, size: PortSize, value: number): void {
  if (size === 1) cpu.out8(port, value & 0xff)
  else if (size === 2) cpu.out16(port, value & 0xffff)
  else cpu.out32(port, value >>> 0)
}

/** The port of IN and OUT: an immediate, or DX. */
function portOf(decoded: DecodedInstruction, operand: number): Read {
  if (!decoded.isImmediate(operand)) return readRegister(decoded.register(operand))
  const port = decoded.immediate(operand).low & 0xff
  return () => port
}

const inPort: Translator = (decoded) => {
  const size = decoded.register(0).size as PortSize
  const port = portOf(decoded, 1)
  const write = writeRegister(decoded.register(0))
  return (general, execution) => {
    const number = port(general, execution)
    checkIoPrivilege(execution, number, size)
    write(general, execution, input(execution, number, size))
  }
}

const outPort: Translator = (decoded) => {
  const size = decoded.register(1).size as PortSize
  const port = portOf(decoded, 0)
  const read = readRegister(decoded.register(1))
  return (general, execution) => {
    const number = port(general, execution)
    checkIoPrivilege(execution, number, size)
    output(execution, number, size, read(general, execution))
  }
}

export const PORTS: InstructionFamily = {
  name: 'ports',
  translators: new Map([
    [Mnemonic.In, inPort],
    [Mnemonic.Out, outPort],
  ]),
}
