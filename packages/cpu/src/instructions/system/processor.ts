import { Cr4, ioPrivilegeLevel } from '@trapdoor/core'
import { Mnemonic } from 'iced-x86'
import type { Operation } from '../../decode/block.ts'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { highHalf, join, lowHalf } from '../../halves.ts'
import { type InstructionFamily, type Translator, undefinedHere } from '../table.ts'
import { identify } from '../../system/cpuid.ts'
import { hasInstructionSet } from '../../system/instruction-sets.ts'
import { readModelSpecific, timeStamp, writeModelSpecific } from '../../system/model-specific.ts'
import { supervisorOnly } from './privilege.ts'

const EAX = 0
const ECX = 2
const EDX = 4
const EBX = 6

function setWord(general: Int32Array, word: number, value: number): void {
  general[word] = value
  general[word + 1] = 0
}

const cpuid: Translator = () => (general, execution) => {
  const { eax, ebx, ecx, edx } = identify(execution.cpu, general[EAX]! >>> 0, general[ECX]! >>> 0)
  setWord(general, EAX, eax)
  setWord(general, EBX, ebx)
  setWord(general, ECX, ecx)
  setWord(general, EDX, edx)
}

const rdmsr: Translator = () =>
  supervisorOnly('RDMSR', (general, execution) => {
    const index = general[ECX]! >>> 0
    const value = readModelSpecific(execution.cpu, index)
    if (value === undefined) throw unknownRegister(execution, index)
    setWord(general, EAX, lowHalf(value))
    setWord(general, EDX, highHalf(value))
  })

const wrmsr: Translator = () =>
  supervisorOnly('WRMSR', (general, execution) => {
    const index = general[ECX]! >>> 0
    const value = join(general[EDX]!, general[EAX]!)
    if (!writeModelSpecific(execution.cpu, index, value)) throw unknownRegister(execution, index)
    // It may have been the APIC's.
    execution.callAttention()
  })

function unknownRegister(execution: Execution, index: number): Error {
  return execution.generalProtection(
    'a model-specific register that there is not, or that cannot hold the value',
    BigInt(index),
  )
}

/** RDTSC and RDTSCP: at any level while CR4.TSD is clear. Time is instructions, as an emulated machine has no wall clock. */
const rdtsc =
  ({ withProcessor }: { readonly withProcessor: boolean }): Translator =>
  () =>
  (general, execution) => {
    const { cpu } = execution
    if (cpu.cpl !== 0 && (cpu.cr4 & Cr4.TSD) !== 0) {
      throw execution.generalProtection('RDTSC is for the supervisor while CR4.TSD is set')
    }
    const value = timeStamp(cpu)
    setWord(general, EAX, lowHalf(value))
    setWord(general, EDX, highHalf(value))
    if (withProcessor) setWord(general, ECX, lowHalf(cpu.msrs.tscAux))
  }

/** RDPMC: no CPU here has performance counters. */
const rdpmc: Translator = () => (general, execution) => {
  throw execution.generalProtection('there is no such performance counter', join(0, general[ECX]!))
}

const hlt: Translator = () =>
  supervisorOnly('HLT', (_general, execution) => {
    execution.halted = true
    execution.stop()
  })

/** CLI and STI: at a level that is not above IOPL. */
function requireIoPrivilege(execution: Execution, name: string): void {
  const { cpu } = execution
  if (cpu.cpl > ioPrivilegeLevel(cpu)) {
    throw execution.generalProtection(`${name} needs a privilege level that is not above IOPL`)
  }
}

const cli: Translator = () => (_general, execution) => {
  requireIoPrivilege(execution, 'CLI')
  execution.cpu.interruptFlag = false
}

/** STI: interrupts come in after the next instruction, where they could not before (SDM Vol. 2, STI). */
const sti: Translator = () => (_general, execution) => {
  requireIoPrivilege(execution, 'STI')
  const { cpu } = execution
  if (cpu.interruptFlag) return
  cpu.interruptFlag = true
  execution.shadowNext({ traps: false })
}

/** Instructions that write caches back or drop them: nothing is cached here. CLFLUSH and its like are loads as far as faults go (SDM Vol. 2, CLFLUSH). */
const touchLine: Translator = (decoded) => {
  const { memory } = decoded
  return (general, execution) => {
    const low = execution.address(general, memory)
    execution.load8(execution.addressHigh, low)
  }
}

/** The same where CPUID says that the CPU has it. */
const touchLineWhere =
  (bit: number): Translator =>
  (decoded) =>
    whereFeature(decoded, bit, touchLine(decoded)!)

/** A feature of CPUID.07H:EBX. */
function whereFeature({ bytes }: DecodedInstruction, bit: number, operation: Operation): Operation {
  return (general, execution) => {
    const { ebx } = identify(execution.cpu, 7, 0)
    if (((ebx >>> bit) & 1) === 0) throw execution.invalidOpcode(bytes)
    operation(general, execution)
  }
}

const CLFLUSHOPT = 23
const CLWB = 24

const flushCaches =
  (name: string): Translator =>
  () =>
    supervisorOnly(name, () => {})

/** RDPID: IA32_TSC_AUX, whose upper half is 0, into a register of the mode's size, at any level (SDM Vol. 2, RDPID). */
const rdpid: Translator = (decoded) => {
  const { word } = decoded.register(0)
  return (general, execution) => {
    const { cpu } = execution
    if (!hasInstructionSet(cpu.machine.features, 'RDPID'))
      throw execution.invalidOpcode(decoded.bytes)
    setWord(general, word, lowHalf(cpu.msrs.tscAux))
  }
}

export const PROCESSOR: InstructionFamily = {
  name: 'processor',
  translators: new Map([
    [Mnemonic.Cpuid, cpuid],
    [Mnemonic.Rdmsr, rdmsr],
    [Mnemonic.Wrmsr, wrmsr],
    [Mnemonic.Rdtsc, rdtsc({ withProcessor: false })],
    [Mnemonic.Rdtscp, rdtsc({ withProcessor: true })],
    [Mnemonic.Rdpid, rdpid],
    [Mnemonic.Rdpmc, rdpmc],
    [Mnemonic.Hlt, hlt],
    [Mnemonic.Cli, cli],
    [Mnemonic.Sti, sti],
    [Mnemonic.Clflush, touchLine],
    [Mnemonic.Clflushopt, touchLineWhere(CLFLUSHOPT)],
    [Mnemonic.Clwb, touchLineWhere(CLWB)],
    [Mnemonic.Wbinvd, flushCaches('WBINVD')],
    [Mnemonic.Invd, flushCaches('INVD')],
    // CPUID has none of these: MONITOR, and AMD's RDPRU (APM Vol. 3, RDPRU).
    [Mnemonic.Monitor, undefinedHere],
    [Mnemonic.Mwait, undefinedHere],
    [Mnemonic.Rdpru, undefinedHere],
  ]),

  endBlock: new Set([Mnemonic.Hlt]),
}
