import {
  Cr0,
  Cr4,
  type Cpu,
  isCanonical,
  loadLocalDescriptorTable,
  loadTaskRegister,
  supportedLinearBits,
} from '@trapdoor/core'
import { Code, Mnemonic } from 'iced-x86'
import type { Operation } from '../../decode/block.ts'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { highHalf, join, lowHalf } from '../../halves.ts'
import type { InstructionFamily, Translator } from '../table.ts'
import { reader, writer } from '../../operands.ts'
import { protectedModeOnly, supervisorOnly } from './privilege.ts'

type TableName = 'gdtr' | 'idtr'

/** Bits 3 to 0 of CR0, which LMSW loads. */
const MACHINE_STATUS = 0xf
/** Forms with a 16-bit operand, which load 24 bits of base. */
const SHORT_BASE: ReadonlySet<number> = new Set([Code.Lgdt_m1632_16, Code.Lidt_m1632_16])

/** LGDT and LIDT: 2 bytes of limit and 4 or 8 of base, of which a 16-bit operand takes 24 bits. */
const loadTable =
  (table: TableName, name: string): Translator =>
  (decoded) => {
    const { memory, bits } = decoded
    const mask = SHORT_BASE.has(decoded.code) ? 0xff_ffff : -1
    return supervisorOnly(name, (general, execution) => {
      const low = execution.address(general, memory)
      const high = execution.addressHigh
      const limit = execution.load16(high, low)
      const baseAt = (low + 2) | 0
      const baseHigh = baseAt >>> 0 < low >>> 0 ? (high + 1) | 0 : high
      if (bits === 64) {
        const baseLow = execution.load64(baseHigh, baseAt)
        const upper = execution.high
        const base = join(upper, baseLow)
        if (!isCanonical(base, supportedLinearBits(execution.cpu.machine.features))) {
          throw execution.generalProtection(
            'a table lies at an address that is not canonical',
            base,
          )
        }
        execution.cpu[table] = { base, limit }
      } else {
        const baseLow = execution.load32(baseHigh, baseAt) & mask
        execution.cpu[table] = { base: join(0, baseLow), limit }
      }
    })
  }

/** SGDT and SIDT: what LGDT and LIDT read. */
const storeTable =
  (table: TableName, name: string): Translator =>
  (decoded) => {
    const { memory, bits } = decoded
    return withoutUmip(name, (general, execution) => {
      const { base, limit } = execution.cpu[table]
      const low = execution.address(general, memory)
      const high = execution.addressHigh
      const baseAt = (low + 2) | 0
      const baseHigh = baseAt >>> 0 < low >>> 0 ? (high + 1) | 0 : high
      execution.store16(high, low, limit)
      if (bits === 64) execution.store64(baseHigh, baseAt, lowHalf(base), highHalf(base))
      else execution.store32(baseHigh, baseAt, lowHalf(base))
    })
  }

/** The operation where CR4.UMIP does not keep it from the user (SDM Vol. 3, 2.5). */
function withoutUmip(name: string, operation: Operation): Operation {
  const reason = `${name} is for the supervisor while CR4.UMIP is set`
  return (general, execution) => {
    const { cpu } = execution
    if (cpu.cpl !== 0 && (cpu.cr4 & Cr4.UMIP) !== 0) throw execution.generalProtection(reason)
    operation(general, execution)
  }
}

const loadSelector =
  (name: string, load: (cpu: Cpu, selector: number) => void): Translator =>
  (decoded) => {
    const read = reader(decoded, 0, 2)
    return protectedModeOnly(
      decoded,
      supervisorOnly(name, (general, execution) => {
        load(execution.cpu, read(general, execution) & 0xffff)
      }),
    )
  }

/** SLDT, STR, SMSW: 16 bits to memory; a wider register is zero-extended, with SMSW it gets all of CR0. */
function storeWord(
  decoded: DecodedInstruction,
  value: (execution: Execution) => number,
): Operation {
  if (decoded.isMemory(0)) {
    const write = writer(decoded, 0, 2)
    return (general, execution) => {
      write(general, execution, value(execution))
    }
  }
  const { word, size } = decoded.register(0)
  return (general, execution) => {
    const wanted = value(execution)
    if (size === 2) {
      general[word] = (general[word]! & ~0xffff) | (wanted & 0xffff)
    } else {
      general[word] = wanted
      general[word + 1] = 0
    }
  }
}

const sldt: Translator = (decoded) =>
  protectedModeOnly(
    decoded,
    withoutUmip(
      'SLDT',
      storeWord(decoded, ({ cpu }) => cpu.ldtr.selector),
    ),
  )

const str: Translator = (decoded) =>
  protectedModeOnly(
    decoded,
    withoutUmip(
      'STR',
      storeWord(decoded, ({ cpu }) => cpu.taskRegister.selector),
    ),
  )

const smsw: Translator = (decoded) =>
  withoutUmip(
    'SMSW',
    storeWord(decoded, ({ cpu }) => cpu.cr0),
  )

/** LMSW: can set CR0.PE, not clear it (SDM Vol. 2, LMSW). */
const lmsw: Translator = (decoded) => {
  const read = reader(decoded, 0, 2)
  return supervisorOnly('LMSW', (general, execution) => {
    const { cpu } = execution
    const value = read(general, execution) & MACHINE_STATUS
    cpu.writeCr0(((cpu.cr0 & ~(MACHINE_STATUS & ~Cr0.PE)) | value) >>> 0)
  })
}

export const DESCRIPTOR_TABLES: InstructionFamily = {
  name: 'descriptor tables',
  translators: new Map([
    [Mnemonic.Lgdt, loadTable('gdtr', 'LGDT')],
    [Mnemonic.Lidt, loadTable('idtr', 'LIDT')],
    [Mnemonic.Sgdt, storeTable('gdtr', 'SGDT')],
    [Mnemonic.Sidt, storeTable('idtr', 'SIDT')],
    [Mnemonic.Lldt, loadSelector('LLDT', loadLocalDescriptorTable)],
    [Mnemonic.Ltr, loadSelector('LTR', loadTaskRegister)],
    [Mnemonic.Sldt, sldt],
    [Mnemonic.Str, str],
    [Mnemonic.Smsw, smsw],
    [Mnemonic.Lmsw, lmsw],
  ]),
  endBlock: new Set([Mnemonic.Lmsw]),
}
