import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa, ExecaError } from 'execa'
import { type Measured, parseRows } from './measure.ts'

/** A part of the benchmark: a program of sections/, and the same in C in c/. */
export interface Section {
  readonly title: string
  readonly program: 'walks' | 'tlb' | 'tables' | 'forks'
  /** Arguments of the processes that the TypeScript side is run in: what one has seen shapes how the engine compiles it. */
  readonly processes: readonly (readonly string[])[]
  /** What one operation is called, and how many nanoseconds its unit has. */
  readonly unit: { readonly name: string; readonly nanoseconds: number; readonly isRate: boolean }
  /** The part of C's speed that a row is to reach. */
  readonly target: (row: string) => number | undefined
}

/** Runs both sides of a section and prints their rows. Timings decide nothing: a missed target is printed, not thrown. Throws where the two come to different results. */
export async function runSection(section: Section): Promise<void> {
  const inC = await runC(section.program)
  const inCore: Measured[] = []
  for (const args of section.processes) inCore.push(...(await runCore(section.program, args)))
  console.log(`\n${section.title}`)
  for (const own of inCore) {
    const reference = inC?.find(({ row }) => row === own.row)
    if (reference !== undefined && reference.checksum !== own.checksum) {
      throw new Error(`${own.row}: C comes to ${reference.checksum}, core to ${own.checksum}`)
    }
    console.log(`  ${describeRow(section, own, reference)}`)
  }
}

function describeRow(section: Section, own: Measured, reference: Measured | undefined): string {
  const { row, nanoseconds, checksum } = own
  if (nanoseconds === 0) return `${row.padEnd(32)} ${Number(checksum).toLocaleString('en')} bytes`
  const words = [row.padEnd(32), `core ${quantity(section, nanoseconds)}`]
  if (reference === undefined) return words.join('  ')
  const ratio = reference.nanoseconds / nanoseconds
  const target = section.target(row)
  words.push(`C ${quantity(section, reference.nanoseconds)}`, `ratio ${ratio.toFixed(2)}`)
  if (target !== undefined) {
    words.push(
      `${ratio.toFixed(2) >= target.toFixed(2) ? 'reaches' : 'misses'} ${target.toFixed(2)}`,
    )
  }
  return words.join('  ')
}

function quantity({ unit }: Section, nanoseconds: number): string {
  const value = unit.isRate ? unit.nanoseconds / nanoseconds : nanoseconds / unit.nanoseconds
  return `${value.toFixed(value < 10 ? 2 : 1).padStart(8)} ${unit.name}`
}

async function runCore(program: string, args: readonly string[]): Promise<Measured[]> {
  const file = join(import.meta.dirname, 'sections', `${program}.ts`)
  const { stdout } = await execa(process.execPath, ['--conditions=@trapdoor/source', file, ...args])
  return parseRows(stdout)
}

/** Undefined where there is no C compiler. */
async function runC(program: string): Promise<Measured[] | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'trapdoor-bench-'))
  try {
    const executable = join(folder, program)
    try {
      await execa('cc', ['-O2', '-o', executable, join(import.meta.dirname, 'c', `${program}.c`)])
    } catch (error) {
      if (error instanceof ExecaError && error.code === 'ENOENT') return undefined
      throw error
    }
    return parseRows((await execa(executable)).stdout)
  } finally {
    await rm(folder, { recursive: true })
  }
}
