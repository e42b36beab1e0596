import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Assembler, Condition, Register } from '@trapdoor/assembler'
import { runTimed } from '../guests/processor-time.ts'
import { QEMU } from '../guests/qemu.ts'

const LOAD = 0x10_0000
const GDT = LOAD + 0x100
const TABLES = LOAD + 0x1000
const ENTRY = LOAD + 0x4000
const STACK_TOP = 0x80_0000
const CODE32 = 8
const CODE64 = 16
const IA32_EFER = 0xc000_0080
const DEBUG_PORT = 0xe9
const EXIT_PORT = 0xf4
/** Enough for QEMU to have translated everything long before the end. */
const REPETITIONS = 200
const TIME_LIMIT_SECONDS = 120

/** A kernel as QEMU without hardware acceleration runs it. */
export interface QemuRun {
  readonly result: number
  /** Processor time of one run, nanoseconds. */
  readonly nanoseconds: number
}

/** The kernel's work under QEMU's TCG, in 64-bit mode with paging: processor time of many runs without that of none, divided. Undefined where there is no QEMU. `program` lies at `at`. */
export async function runKernelInQemu(
  folder: string,
  program: Uint8Array,
  { at, kernel, rounds }: { readonly at: number; readonly kernel: number; readonly rounds: number },
): Promise<QemuRun | undefined> {
  const runs: { readonly stdout: string; readonly cpuSeconds: number }[] = []
  for (const repetitions of [0, REPETITIONS]) {
    const file = join(folder, 'kernels.multiboot')
    await writeFile(file, multibootImage(program, at, { kernel, rounds, repetitions }))
    const ran = await runTimed(QEMU, [...MACHINE, '-kernel', file], TIME_LIMIT_SECONDS)
    if (ran === undefined) return undefined
    runs.push(ran)
  }
  const [none, many] = runs as [(typeof runs)[0], (typeof runs)[0]]
  return {
    result: Buffer.from(many.stdout, 'latin1').readUInt32LE(),
    nanoseconds: ((many.cpuSeconds - none.cpuSeconds) * 1e9) / REPETITIONS,
  }
}

const MACHINE: readonly string[] = [
  ['-nodefaults', '-no-user-config', '-no-reboot'],
  ['-display', 'none'],
  ['-accel', 'tcg'],
  ['-cpu', 'max'],
  ['-m', '64'],
  ['-debugcon', 'stdio'],
  ['-device', `isa-debug-exit,iobase=${EXIT_PORT},iosize=4`],
].flat()

interface Work {
  readonly kernel: number
  readonly rounds: number
  readonly repetitions: number
}

/** A flat Multiboot image that goes into 64-bit mode, calls the kernel so often, and writes the four bytes of its last result to the debug port. */
function multibootImage(program: Uint8Array, at: number, work: Work): Uint8Array {
  const image = Buffer.alloc(at - LOAD + program.length)
  const flags = 0x1_0000
  const end = LOAD + image.length
  const header = [0x1bad_b002, flags, -(0x1bad_b002 + flags), LOAD, LOAD, end, 0, ENTRY]
  for (const [index, word] of header.entries()) image.writeUInt32LE(word >>> 0, index * 4)
  const gdt = GDT - LOAD
  // Flat code of 32 and of 64 bits; then what LGDT reads.
  image.writeBigUInt64LE(0x00cf_9b00_0000_ffffn, gdt + CODE32)
  image.writeBigUInt64LE(0x00af_9b00_0000_ffffn, gdt + CODE64)
  image.writeUInt16LE(23, gdt + 24)
  image.writeUInt32LE(GDT, gdt + 26)
  // The first GiB, by pages of 2 MiB.
  const tables = TABLES - LOAD
  image.writeUInt32LE((TABLES + 0x1000) | 3, tables)
  image.writeUInt32LE((TABLES + 0x2000) | 3, tables + 0x1000)
  for (let index = 0; index < 512; index++) {
    image.writeUInt32LE(((index << 21) | 0xe3) >>> 0, tables + 0x2000 + index * 8)
  }
  image.set(entryCode(at, work), ENTRY - LOAD)
  image.set(program, at - LOAD)
  return image
}

function entryCode(at: number, { kernel, rounds, repetitions }: Work): Uint8Array {
  const code = new Assembler(BigInt(ENTRY), 32)
  code.moveImmediate(32, Register.SP, STACK_TOP)
  code.moveImmediate(32, Register.B, GDT + 24)
  code.lgdt(Register.B, 0)
  code.moveImmediate(32, Register.A, 0x20)
  code.moveToControl(4, Register.A)
  code.moveImmediate(32, Register.A, TABLES)
  code.moveToControl(3, Register.A)
  code.moveImmediate(32, Register.C, IA32_EFER)
  code.moveImmediate(32, Register.A, 0x100)
  code.xorRegister(32, Register.D, Register.D)
  code.wrmsr()
  code.moveImmediate(32, Register.A, 0x8000_0011)
  code.moveToControl(0, Register.A)
  code.jumpFar(CODE64, 'in 64-bit mode')
  code.bits = 64
  code.label('in 64-bit mode')
  code.moveImmediate(32, Register.B, repetitions)
  code.xorRegister(32, Register.A, Register.A)
  code.jump('again')
  code.label('call')
  code.moveImmediate(32, Register.DI, kernel)
  code.moveImmediate(32, Register.SI, rounds)
  code.moveImmediate(32, Register.A, at)
  code.callRegister(Register.A)
  code.sub(32, Register.B, 1)
  code.label('again')
  code.compare(32, Register.B, 0)
  code.jumpIf(Condition.NotEqual, 'call')
  for (let byte = 0; byte < 4; byte++) {
    code.out(DEBUG_PORT)
    code.shiftRight(32, Register.A, 8)
  }
  code.out(EXIT_PORT)
  code.hlt()
  return code.assemble()
}
