import {
  type Cpu,
  type CpuException,
  type CpuFeatures,
  Cr0,
  Cr4,
  Efer,
  GeneralProtection,
  Machine,
  PageFault,
  PhysicalMemory,
  StackFault,
} from '@trapdoor/core'

import type { Case, Controls } from './cases/case.ts'
import type { TableLayout } from './cases/table-layout.ts'
import type { TableSet } from './cases/table-set.ts'
import { COMPLETED, CR2_BEFORE, dataAt, PATH_LENGTH } from './guest/layout.ts'

/** What came out of an access. */
export interface Outcome {
  /** The exception's vector, or COMPLETED. */
  readonly vector: number
  readonly errorCode: number
  readonly cr2: bigint
  /** RAX: what a read read, and what the code that was reached put there. */
  readonly rax: bigint
  /** Physical address that was reached, undefined where the access was refused. */
  readonly physical: number | undefined
  /** The eight bytes there before the access, and after it. */
  readonly before: bigint
  readonly after: bigint
  /** The low halves of the entries on the way after the access. */
  readonly path: readonly number[]
}

/** CR0 beside WP: PG, NE, ET, PE. */
export const CR0_BASE = 0x8000_0031

/** What CR4 has in every case of a layout. */
const CR4_OF_LAYOUT: Readonly<Record<TableLayout['name'], number>> = {
  '4-level': Cr4.PAE,
  '5-level': Cr4.PAE | Cr4.LA57,
  PAE: Cr4.PAE,
  '32-bit': 0,
  '32-bit PSE': Cr4.PSE,
}

/** CR0, CR4 and EFER as the controls of a case say. */
export function controlRegisters(
  controls: Controls,
  layout: TableLayout,
): { cr0: number; cr4: number; efer: number } {
  return {
    cr0: (CR0_BASE | (controls.wp ? Cr0.WP : 0)) >>> 0,
    cr4:
      CR4_OF_LAYOUT[layout.name] |
      (controls.pge ? Cr4.PGE : 0) |
      (controls.smep ? Cr4.SMEP : 0) |
      (controls.smap ? Cr4.SMAP : 0) |
      (controls.pke ? Cr4.PKE : 0) |
      (controls.pks ? Cr4.PKS : 0),
    efer: (layout.longMode ? Efer.LME : 0) | (controls.nxe ? Efer.NXE : 0),
  }
}

/** Our side: a machine of @trapdoor/core with the tables of a set in its memory, and every register written as software writes it. */
export class Model {
  readonly #features: CpuFeatures
  readonly #tables: TableSet
  readonly #cpu: Cpu
  /** Memory as it is before every case. */
  readonly #original: PhysicalMemory = new PhysicalMemory()

  /** `flatWindow` is how much of the memory is kept in one array, in bytes: there are two ways to walk tables. */
  constructor(
    features: CpuFeatures,
    accessedFlags: 'lazy' | 'eager',
    tables: TableSet,
    flatWindow = 0,
  ) {
    this.#features = features
    this.#tables = tables
    const options = { features, accessedFlags, flatWindow, auditTranslations: false }
    const machine = new Machine({ ...options, start: 'reset' })
    for (const memory of [this.#original, machine.memory]) loadTables(memory, tables)
    this.#cpu = machine.bootCpu
    switchPagingOn(this.#cpu, tables)
  }

  /** What becomes of a case. Memory is afterwards as it was. */
  run(subject: Case): Outcome {
    const cpu = this.#cpu
    this.#setRegisters(cpu, subject)
    const { memory } = cpu.machine
    let physical: number | undefined
    let fault: CpuException | undefined
    try {
      const { verb, stack } = subject.access
      const reached = cpu.translate(subject.address, verb, { stack })
      // Elsewhere, the guest could not even look: what follows from that is a difference.
      if (this.#tables.isOurs(reached)) physical = reached
    } catch (error) {
      if (!isFault(error)) throw error
      fault = error
    }
    let before = 0n
    let after = 0n
    let rax = subject.value
    if (physical !== undefined) {
      before = this.#original.read64(physical)
      if (subject.access.verb === 'write') writeValue(memory, physical, subject)
      after = memory.read64(physical)
      if (subject.access.verb === 'read') rax = BigInt.asUintN(operandBits(subject), after)
      if (subject.access.verb === 'execute') rax = (after >> 8n) & 0xffff_ffffn
    }
    const path = subject.path.map(({ table, index }) => memory.read32(table.addressOf(index)))
    if (physical !== undefined) memory.write64(physical, before)
    for (const { table, index, entry } of subject.path) {
      memory.write32(table.addressOf(index), Number(entry & 0xffff_ffffn))
    }
    while (path.length < PATH_LENGTH) path.push(0)
    return {
      vector: fault?.vector ?? COMPLETED,
      errorCode: fault instanceof PageFault ? fault.errorCode : 0,
      cr2: cpu.cr2,
      rax,
      physical,
      before,
      after,
      path,
    }
  }

  #setRegisters(cpu: Cpu, { layout, controls, root, access }: Case): void {
    const { cr0, cr4, efer } = controlRegisters(controls, layout)
    // The keys come last, as every other change takes longer while they count.
    cpu.writeCr4(cr4 & ~(Cr4.PKE | Cr4.PKS))
    if (cpu.cr0 !== cr0) cpu.writeCr0(cr0)
    cpu.writeEfer(efer)
    if (cpu.alignmentCheck !== controls.ac) cpu.alignmentCheck = controls.ac
    if (this.#features.pks) cpu.writePkrs(controls.pkrs)
    if (controls.pke) {
      cpu.writeCr4(cr4 & ~Cr4.PKS)
      cpu.writePkru(controls.pkru)
    }
    if (controls.pks) cpu.writeCr4(cr4)
    cpu.writeCr3(root.address)
    cpu.mmu.flushAll()
    cpu.cpl = access.user ? 3 : 0
    cpu.cr2 = BigInt.asUintN(layout.longMode ? 64 : 32, CR2_BEFORE)
  }
}

function loadTables(memory: PhysicalMemory, { tables, dataFrames }: TableSet): void {
  for (const { address, bytes } of tables) memory.write(address, bytes)
  const words = new BigUint64Array(512)
  for (const frame of dataFrames) {
    for (let at = 0; at < words.length; at++) words[at] = dataAt(frame + at * 8)
    memory.write(frame, new Uint8Array(words.buffer))
  }
}

/** From RESET into the paging mode of the tables, as software does it. */
function switchPagingOn(cpu: Cpu, { layout, roots }: TableSet): void {
  cpu.writeCr0(cpu.cr0 | Cr0.PE)
  cpu.writeCr4(CR4_OF_LAYOUT[layout.name])
  if (layout.longMode) cpu.writeEfer(Efer.LME)
  else cpu.writeCr3(roots[0]!.address)
  cpu.writeCr0(CR0_BASE)
  cpu.codeSegmentLong = layout.longMode
}

/** Bits of a read or a write. */
function operandBits({ layout }: Case): 32 | 64 {
  return layout.longMode ? 64 : 32
}

function writeValue(memory: PhysicalMemory, physical: number, subject: Case): void {
  if (operandBits(subject) === 64) memory.write64(physical, subject.value)
  else memory.write32(physical, Number(subject.value))
}

function isFault(error: unknown): error is PageFault | GeneralProtection | StackFault {
  return (
    error instanceof PageFault || error instanceof GeneralProtection || error instanceof StackFault
  )
}
