import {
  type Cpu,
  CpuException,
  ICE_LAKE_SP,
  type InstructionExecutor,
  Machine,
  PageFault,
  PageTableBuilder,
  phys,
  type RunLimits,
  virt,
  ZEN4,
} from '@trapdoor/core'

import {
  CaseFlag,
  CODE_REGION_BYTES,
  CODE_REGIONS,
  COMPLETED,
  DATA_REGION_BYTES,
  DATA_REGIONS,
  dataPattern,
  FXSAVE_BYTES,
  RecordOffset,
  type RecordShape,
  WRITABLE_BYTES,
} from './native/layout.ts'
import type { HostMode } from './native/host.ts'
import {
  enterUserMode,
  loadFxsave,
  selectSegments,
  SYSTEM_TABLES,
  writeSystemTables,
} from './user-mode.ts'

/** What a case left in our machine, beside its registers and its memory. */
export interface ModelOutcome {
  /** The vector of the exception, or {@link COMPLETED}. */
  readonly vector: number
  readonly errorCode: number
  /** What page fault there was, CR2. */
  readonly cr2: bigint
}

/** So often is no instruction repeated in a case. */
const REPETITIONS = 4096
const CASES_BETWEEN_LOOKS = 8
const ROOT = 0x10_0000
const PAGE = 4096

/** Our side: a machine of the host's vendor in user mode, with the code and data of the child process at the same addresses. */
export class Model {
  readonly cpu: Cpu
  readonly #executor: InstructionExecutor
  readonly #machine: Machine
  readonly #codeAt: readonly number[]
  readonly #dataAt: readonly number[]
  /** The instruction that was placed last. */
  #codeRip = 0n
  #code: Uint8Array = new Uint8Array()
  #unlooked = 0
  /** What lies in each region of data before a case. */
  readonly #patterns = DATA_REGIONS.map(dataPattern)

  constructor(executor: InstructionExecutor, host: HostMode) {
    this.#executor = executor
    const features = host.vendor === 'amd' ? ZEN4 : ICE_LAKE_SP
    this.#machine = new Machine({ features, auditTranslations: false })
    const { memory } = this.#machine
    this.cpu = this.#machine.bootCpu
    let nextFrame = ROOT / PAGE + 1
    const tables = new PageTableBuilder(memory, phys(ROOT), () => nextFrame++)
    let next = 0x20_0000
    const place = (regions: readonly bigint[], bytes: number, executable: boolean): number[] =>
      regions.map((region) => {
        const at = next
        next += bytes
        tables.mapRange(virt(region), phys(at), bytes, { user: true, writable: true, executable })
        return at
      })
    this.#codeAt = place(CODE_REGIONS, CODE_REGION_BYTES, true)
    this.#dataAt = place(DATA_REGIONS, DATA_REGION_BYTES, false)
    for (const [index, region] of DATA_REGIONS.entries()) {
      const end = region + BigInt(WRITABLE_BYTES)
      tables.protectRange(virt(end), DATA_REGION_BYTES - WRITABLE_BYTES, { writable: false })
      memory.write(this.#dataAt[index]!, this.#patterns[index]!)
    }
    tables.mapRange(virt(SYSTEM_TABLES), phys(next), PAGE)
    writeSystemTables(memory, next)
    enterUserMode(this.cpu, tables.root, host)
  }

  /** Runs the case of a record. Where it ends up is seen in {@link cpu} and by {@link matchesData}, until {@link restoreData}. */
  run(record: DataView, { windowBytes, fpu }: RecordShape): ModelOutcome {
    const { cpu } = this
    const { memory } = this.#machine
    const flags = record.getUint8(RecordOffset.Flags)
    selectSegments(cpu, record, { is32: (flags & CaseFlag.Bits32) !== 0 })
    for (let word = 0; word < 32; word++) cpu.general[word] = record.getInt32(word * 4, true)
    cpu.rflags = record.getUint32(RecordOffset.Rflags, true)
    const rip = record.getBigUint64(RecordOffset.Rip, true)
    cpu.rip = rip
    cpu.cr2 = 0n
    this.#placeCode(rip, bytesOf(record, RecordOffset.Code, record.getUint8(RecordOffset.Length)))
    const window = record.getBigUint64(RecordOffset.Window, true)
    const [region, offset] = locate(window)
    const writable = Math.min(windowBytes, Math.max(0, WRITABLE_BYTES - offset))
    memory.write(
      this.#dataAt[region]! + offset,
      bytesOf(record, RecordOffset.WindowBytes, writable),
    )
    if (fpu) {
      const image = record.byteOffset + RecordOffset.WindowBytes + windowBytes
      loadFxsave(cpu, new DataView(record.buffer, image, FXSAVE_BYTES))
    }
    if ((flags & CaseFlag.Repeated) === 0) return this.#run({ maxInstructions: 1 })
    const next = rip + BigInt(record.getUint8(RecordOffset.Length))
    return this.#run({ until: { rip: next, rsp: cpu.rsp }, maxInstructions: REPETITIONS })
  }

  /** Whether the window holds `bytes`, and the region of data around it is as before the case. The latter is looked at in every so many cases: what was written beside a window stays there until then. */
  matchesData(window: bigint, bytes: Uint8Array): boolean {
    const [region, offset] = locate(window)
    this.#unlooked = (this.#unlooked + 1) % CASES_BETWEEN_LOOKS
    if (this.#unlooked !== 0)
      return Buffer.compare(this.readWindow(window, bytes.length), bytes) === 0
    const found = this.#machine.memory.read(this.#dataAt[region]!, DATA_REGION_BYTES)
    const pattern = this.#patterns[region]!
    return (
      Buffer.compare(found.subarray(0, offset), pattern.subarray(0, offset)) === 0 &&
      Buffer.compare(found.subarray(offset, offset + bytes.length), bytes) === 0 &&
      Buffer.compare(
        found.subarray(offset + bytes.length),
        pattern.subarray(offset + bytes.length),
      ) === 0
    )
  }

  /** The bytes of a window, as far as it lies in its region. */
  readWindow(window: bigint, windowBytes: number): Uint8Array {
    const [region, offset] = locate(window)
    const length = Math.min(windowBytes, DATA_REGION_BYTES - offset)
    return this.#machine.memory.read(this.#dataAt[region]! + offset, length)
  }

  /** Puts the data back that a case has found in its window. */
  restoreData(window: bigint, windowBytes: number): void {
    const [region, offset] = locate(window)
    const pattern = this.#patterns[region]!.subarray(offset, offset + windowBytes)
    this.#machine.memory.write(this.#dataAt[region]! + offset, pattern)
  }

  /** Has the next comparison look at the whole region, and puts all data back before. */
  lookAtAll(): void {
    this.#unlooked = CASES_BETWEEN_LOOKS - 1
    for (const [region, pattern] of this.#patterns.entries()) {
      this.#machine.memory.write(this.#dataAt[region]!, pattern)
    }
  }

  /** Cases with the same instruction come one after the other: it is decoded once. */
  #placeCode(rip: bigint, bytes: Uint8Array): void {
    if (rip === this.#codeRip && Buffer.compare(bytes, this.#code) === 0) return
    this.#codeRip = rip
    this.#code = bytes.slice()
    this.#machine.memory.write(this.#physicalOfCode(rip), bytes)
  }

  #run(limits: RunLimits): ModelOutcome {
    const { cpu } = this
    try {
      this.#executor.run(cpu, limits)
      return { vector: COMPLETED, errorCode: 0, cr2: 0n }
    } catch (error) {
      if (!(error instanceof CpuException)) throw error
      const cr2 = error instanceof PageFault ? cpu.cr2 : 0n
      return { vector: error.vector, errorCode: error.pushedCode ?? 0, cr2 }
    }
  }

  #physicalOfCode(rip: bigint): number {
    const region = rip >= CODE_REGIONS[1]! ? 1 : 0
    return this.#codeAt[region]! + Number(rip - CODE_REGIONS[region]!)
  }
}

function locate(window: bigint): [region: number, offset: number] {
  const region = window >= DATA_REGIONS[1]! ? 1 : 0
  return [region, Number(window - DATA_REGIONS[region]!)]
}

function bytesOf({ buffer, byteOffset }: DataView, at: number, length: number): Uint8Array {
  return new Uint8Array(buffer, byteOffset + at, length)
}
