import { basename, extname, relative, resolve } from 'node:path'
import { snapshotArchitecture } from '@trapdoor/snapshot'
import type { Architecture } from '@trapdoor/uefi'
import { HarnessError } from '../error.ts'
import type { MemoryMapReference } from './config.ts'
import type { FoundConfig } from './find.ts'
import type { MemoryMapFile } from './resolved-config.ts'

/** Where relative paths start, and from where results name files. */
interface Directories {
  readonly base: string
  readonly working: string
}

/** The files and folders that a configuration in the directory `base` names. */
export function configuredMaps(
  entries: readonly MemoryMapReference[],
  directories: Directories,
): MemoryMapFile[] {
  return entries.map((entry) => {
    if (typeof entry === 'string') return memoryMapFile({ file: entry }, directories)
    if ('file' in entry) return memoryMapFile(entry, directories)
    if ('snapshot' in entry) return snapshotFolder({ file: entry.snapshot }, directories)
    return snapshotFolder({ id: entry.id, file: entry.firmware.snapshot }, directories)
  })
}

/** What `--memory-map` and `--snapshot` name. */
export function argumentMaps(
  memoryMaps: readonly string[],
  snapshots: readonly string[],
  working: string,
): MemoryMapFile[] {
  const directories = { base: working, working }
  return [
    ...memoryMaps.map((argument) => memoryMapFile(splitArgument(argument), directories)),
    ...snapshots.map((argument) => snapshotFolder(splitArgument(argument), directories)),
  ]
}

/** A file or folder as somebody names it. */
interface Named {
  readonly file: string
  readonly id?: string | undefined
  readonly architecture?: Architecture['name'] | undefined
  readonly argument?: string
}

function splitArgument(argument: string): Named {
  const [, id, architecture, file = argument] =
    /^(?:([\w.-]+)=)?(?:(x64|ia32):)?(.+)$/s.exec(argument) ?? []
  return { id, file, architecture: architecture === 'ia32' ? 'ia32' : undefined, argument }
}

function memoryMapFile(named: Named, { base, working }: Directories): MemoryMapFile {
  const { architecture, argument } = named
  const file = resolve(base, named.file)
  return {
    // Without an id it is the file's name, without extension, in letters that a case id can hold.
    id: named.id ?? idFrom(basename(file, extname(file))),
    file,
    label: relative(working, file).replaceAll('\\', '/'),
    ...(architecture === undefined ? {} : { architecture }),
    ...(argument === undefined ? {} : { argument }),
  }
}

/** A folder, which knows itself what its firmware is built for. */
function snapshotFolder(named: Named, directories: Directories): MemoryMapFile {
  const file = resolve(directories.base, named.file)
  const id = named.id ?? idFrom(basename(file))
  const architecture = snapshotArchitecture(file)
  return { ...memoryMapFile({ ...named, id, architecture }, directories), kind: 'snapshot' }
}

function idFrom(name: string): string {
  return name.replaceAll(/[^\w.-]+/g, '-')
}

/** Throws HARNESS_BAD_CONFIG for an id that no case id can hold, HARNESS_DUPLICATE_NAME for one that two have. */
export function refuseSharedIds(
  maps: readonly MemoryMapFile[],
  found: FoundConfig | undefined,
): void {
  for (const [index, map] of maps.entries()) {
    if (!/^[\w.-]+$/.test(map.id)) {
      throw new HarnessError('HARNESS_BAD_CONFIG', {
        expected: 'an id of letters, digits, ".", "_" and "-"',
        found: `"${map.id}" for ${map.file}`,
        file: found?.source.file,
      })
    }
    const other = maps.findIndex(({ id }) => id === map.id)
    if (other === index) continue
    throw new HarnessError('HARNESS_DUPLICATE_NAME', {
      expected: 'memory maps with different ids',
      found: `"${map.id}" for ${maps[other]!.file} and for ${map.file}`,
      hint: 'give one an id: {"id": "…", "file": "…"} in a configuration, id=FILE after --memory-map',
      file: found?.source.file,
    })
  }
}
