import { statSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'

import { type DumpRun, loadDump, PAGE_SIZE, PhysicalMemory } from '@trapdoor/core'

import type { CodeImage } from './code-image.ts'
import { collectForms } from './collect.ts'
import { elfImage } from './elf.ts'
import { peImages } from './pe.ts'

/** The pages of a snapshot's runtime memory, as its README.md describes them. */
interface SnapshotFile {
  readonly files: {
    readonly rt: { readonly file: string; readonly runs: readonly (readonly [string, number])[] }
  }
}

/** The lines of all forms that some files use: ELF files, and folders with a snapshot of firmware. Sorted, each once. */
export function collectFromFiles(
  paths: readonly string[],
  read: (path: string) => Uint8Array,
): string[] {
  const lines = new Set<string>()
  for (const path of paths) {
    const images = statSync(path).isDirectory()
      ? snapshotImages(path, read)
      : [elfImage(path, read(path))]
    for (const image of images) for (const line of collectForms(image).forms.keys()) lines.add(line)
  }
  return [...lines].toSorted()
}

function snapshotImages(folder: string, read: (path: string) => Uint8Array): CodeImage[] {
  const text = Buffer.from(read(join(folder, 'snapshot.json'))).toString('utf8')
  const { rt } = (JSON.parse(text) as SnapshotFile).files
  const runs = rt.runs.map(([physical, pages]): DumpRun => [Number(physical), pages])
  const memory = new PhysicalMemory()
  loadDump(memory, gunzipSync(read(join(folder, rt.file))), runs)
  const frames = runs.flatMap(([physical, pages]) =>
    Array.from({ length: pages }, (_, page) => physical / PAGE_SIZE + page),
  )
  return peImages(memory, frames)
}
