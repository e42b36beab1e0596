import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import {
  contextFromRegisters,
  loadDump,
  PhysicalMemory,
  QEMU_TCG,
  type TranslationContext,
} from '../src/index.ts'

/** Pages with the same flags: [linear address, physical address, bytes, page size, flags]. */
export type ObservedRange = [bigint, number, number, number, string]

/** A set of page tables of a machine that ran, and what a walker of others said of it. */
export interface ObservedDump {
  readonly context: TranslationContext
  /** Physical addresses of the tables, in file order. */
  readonly tables: readonly number[]
  readonly ranges: readonly ObservedRange[]
  readonly leaves: number
}

/** Reads the page tables of a stage ("A", "D" or "F") in a folder of dumps. */
export function readObservedDump(folder: string, stage: string): ObservedDump {
  const { pages, stage: stageName } = readJson(folder, `pt-${stage}.json`) as PageList
  const { stages } = readJson(folder, 'snapshot.json') as Snapshot
  const { map, leaves } = readJson(folder, `leaves-${stage}.json`) as LeafList
  const { CR0, CR3, CR4, EFER } = stages[stageName]!
  const tables = pages.map(([physical]) => Number(physical))
  const memory = new PhysicalMemory()
  loadDump(
    memory,
    gunzipSync(readFileSync(join(folder, `pt-${stage}.bin.gz`))),
    tables.map((physical) => [physical, 1]),
  )
  return {
    context: contextFromRegisters({
      memory,
      features: QEMU_TCG,
      cr0: Number(CR0),
      cr3: Number(CR3),
      cr4: Number(CR4),
      efer: Number(EFER),
    }),
    tables,
    ranges: map.map(([linear, physical, bytes, size, flags]) => [
      BigInt(linear),
      Number(physical),
      Number(bytes),
      size,
      flags,
    ]),
    leaves,
  }
}

/** Joins neighbours that go on with the same flags, as the other walker did. */
export function mergeObserved(ranges: readonly ObservedRange[]): ObservedRange[] {
  const merged: ObservedRange[] = []
  for (const [linear, physical, bytes, size, flags] of ranges) {
    const last = merged.at(-1)
    if (
      last !== undefined &&
      last[0] + BigInt(last[2]) === linear &&
      last[1] + last[2] === physical &&
      last[3] === size &&
      last[4] === flags
    ) {
      last[2] += bytes
    } else {
      merged.push([linear, physical, bytes, size, flags])
    }
  }
  return merged
}

/** The stages whose page tables lie in a folder. */
export function stagesIn(folder: string): string[] {
  return ['A', 'B', 'C', 'D', 'E', 'F'].filter((stage) =>
    existsSync(join(folder, `pt-${stage}.bin.gz`)),
  )
}

interface PageList {
  readonly stage: string
  readonly pages: readonly (readonly [physical: string, level: number, linear: string])[]
}
interface Snapshot {
  readonly stages: Readonly<
    Record<string, Readonly<Record<'CR0' | 'CR3' | 'CR4' | 'EFER', string>>>
  >
}
interface LeafList {
  readonly map: readonly (readonly [string, string, string, number, string])[]
  readonly leaves: number
}

/** The JSON in a file, which may be compressed. */
function readJson(folder: string, name: string): unknown {
  const path = join(folder, name)
  const text = existsSync(path) ? readFileSync(path) : gunzipSync(readFileSync(`${path}.gz`))
  return JSON.parse(text.toString())
}
