import { type MemoryMapText, readMemoryMaps, type ReadMaps } from '../src/index.ts'

/** The maps of a text, in a file called log.txt. */
export function readText(text: string): ReadMaps {
  return readMemoryMaps({ file: 'log.txt', bytes: new TextEncoder().encode(text) })
}

/** The one map of a text. */
export function readOneMap(text: string): MemoryMapText {
  const { maps } = readText(text)
  if (maps.length !== 1) throw new Error(`${maps.length} maps`)
  return maps[0]!
}

/** Codes of a map's warnings. */
export function codesOf({ warnings }: Pick<MemoryMapText, 'warnings'>): string[] {
  return warnings.map(({ code }) => code)
}
