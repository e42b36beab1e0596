import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  Efer,
  Gpr,
  Machine,
  PAGE_SIZE,
  PageTableBuilder,
  phys,
  QEMU_TCG,
  virt,
} from '@trapdoor/core'
import { Interpreter } from '@trapdoor/cpu'
import { execa, ExecaError } from 'execa'
import { parseRows } from './measure.ts'
import { runKernelInQemu } from './qemu-kernels.ts'

const SOURCES = join(import.meta.dirname, 'c')
/** What kernels.c has, in its order, and how often each does its work. */
const KERNELS = [
  { name: 'crc32, bit by bit', rounds: 300 },
  { name: 'sha256', rounds: 100 },
  { name: 'recursive calls', rounds: 200 },
  { name: 'xorshift and product', rounds: 3000 },
  { name: 'sorting', rounds: 60 },
  { name: 'lists and names', rounds: 3000 },
] as const
/** Millions of instructions a second that machine code is to reach. */
const TARGET = 60
const RUNS = 25
const CODE = 0x20_0000n
const STACK_TOP = 0x81_0000n
const RETURN = 0xdead_0000n

/** Executes compiled integer code with the MMU on, and prints instructions a second beside the host processor's, and QEMU's where it is installed. Throws where a kernel comes to another result. */
export async function benchMachineCode(): Promise<void> {
  console.log(
    'compiled integer code, instructions a second in CPU time, beside the host processor and QEMU without hardware acceleration',
  )
  if (process.arch !== 'x64') {
    console.log('  left out: the compiler of this machine makes no x86-64 code')
    return
  }
  const folder = await mkdtemp(join(tmpdir(), 'trapdoor-bench-'))
  try {
    const native = join(folder, 'native')
    const flat = join(folder, 'kernels.bin')
    await execa('cc', ['-O2', '-o', native, join(SOURCES, 'native.c')])
    await execa('cc', [...FREESTANDING, '-o', flat, join(SOURCES, 'kernels.c')])
    const rounds = KERNELS.map((kernel) => String(kernel.rounds))
    const { stdout } = await execa(native, rounds)
    const program = await readFile(flat)
    const machine = new KernelMachine(program)
    for (const [index, reference] of parseRows(stdout).entries()) {
      const { name, rounds: ownRounds } = KERNELS[index]!
      const qemu = await runKernelInQemu(folder, program, {
        at: Number(CODE),
        kernel: index,
        rounds: ownRounds,
      })
      const { result, instructions, nanoseconds } = machine.measure(index)
      if (String(result) !== reference.checksum) {
        throw new Error(`${name}: the processor comes to ${reference.checksum}, cpu to ${result}`)
      }
      if (qemu !== undefined && qemu.result !== result) {
        throw new Error(`${name}: QEMU comes to ${qemu.result}, cpu to ${result}`)
      }
      const rate = (instructions * 1000) / nanoseconds
      const hostRate = (instructions * 1000) / reference.nanoseconds
      const verdict = rate >= TARGET ? 'reaches' : 'misses'
      const words = [
        `  ${name.padEnd(22)} cpu ${rate.toFixed(1).padStart(6)} M/s ${verdict} ${TARGET}`,
        `host ${hostRate.toFixed(0).padStart(6)} M/s ratio ${(rate / hostRate).toFixed(4)}`,
      ]
      if (qemu !== undefined) {
        const qemuRate = (instructions * 1000) / qemu.nanoseconds
        words.push(
          `QEMU ${qemuRate.toFixed(0).padStart(5)} M/s ratio ${(rate / qemuRate).toFixed(3)}`,
        )
      }
      console.log(words.join('  '))
    }
  } catch (error) {
    if (!(error instanceof ExecaError) || error.code !== 'ENOENT') throw error
    console.log('  left out: there is no C compiler (cc)')
  } finally {
    await rm(folder, { recursive: true })
  }
}

const FREESTANDING: readonly string[] = [
  '-O2',
  '-ffreestanding',
  '-ffunction-sections',
  '-fno-pic',
  '-mgeneral-regs-only',
  '-mno-red-zone',
  '-fno-stack-protector',
  '-fcf-protection=none',
  '-fno-asynchronous-unwind-tables',
  '-nostdlib',
  '-static',
  '-no-pie',
  `-Wl,-T,${join(SOURCES, 'kernels.ld')}`,
  '-Wl,--oformat=binary',
  '-Wl,--build-id=none',
]

/** A machine with the kernels at {@link CODE}. */
class KernelMachine {
  readonly #machine: Machine = new Machine({ features: QEMU_TCG })
  readonly #interpreter: Interpreter = new Interpreter()

  constructor(program: Uint8Array) {
    const { memory, bootCpu } = this.#machine
    let next = 0x11
    const tables = new PageTableBuilder(memory, phys(0x10 * PAGE_SIZE), () => next++)
    memory.write(Number(CODE), program)
    tables.mapRange(virt(CODE), phys(Number(CODE)), 0x10_0000, { executable: true })
    tables.mapRange(virt(STACK_TOP - 0x1_0000n), phys(0x80_0000), 0x1_0000)
    bootCpu.writeEfer(bootCpu.efer | Efer.NXE)
    bootCpu.writeCr3(tables.root)
  }

  /** The fastest run of a kernel: other load on the machine only ever adds to a time. */
  measure(kernel: number): { result: number; instructions: number; nanoseconds: number } {
    const cpu = this.#machine.bootCpu
    let nanoseconds = Infinity
    let instructions = 0
    for (let run = 0; run < RUNS; run++) {
      cpu.general64[Gpr.RDI] = BigInt(kernel)
      cpu.general64[Gpr.RSI] = BigInt(KERNELS[kernel]!.rounds)
      cpu.rsp = STACK_TOP - 8n
      cpu.write64(cpu.rsp, RETURN)
      cpu.rip = CODE
      const before = cpu.instructions
      const start = process.cpuUsage()
      this.#interpreter.run(cpu, { until: { rip: RETURN, rsp: STACK_TOP } })
      const { user, system } = process.cpuUsage(start)
      nanoseconds = Math.min(nanoseconds, (user + system) * 1000)
      instructions = cpu.instructions - before
    }
    return { result: Number(cpu.general64[Gpr.RAX]! & 0xffff_ffffn), instructions, nanoseconds }
  }
}
