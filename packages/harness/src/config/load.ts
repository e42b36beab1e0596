import { basename, dirname, extname, join, relative, resolve } from 'node:path'
import { HarnessError } from '../error.ts'
import { loadPlugin } from '../plugin/load.ts'
import type { Plugin } from '../plugin/plugin.ts'
import { PluginRegistry } from '../plugin/registry.ts'
import { DEFAULT_SEED, type StrategySelection, strategyLabel } from './case-spec.ts'
import type { MemoryMapReference } from './config.ts'
import { findConfig, type FoundConfig } from './find.ts'
import { architecturesOf, quirkSetsOf, scenariosOf, strategiesOf, unique } from './names.ts'
import type { MemoryMapFile, ResolvedConfig } from './resolved-config.ts'
import { placeOf } from './source.ts'

/** What a caller says over what the configuration file says. Relative paths start from the working directory. */
export interface ConfigOverrides {
  /** `FILE`, `id=FILE`, `ia32:FILE` or `id=ia32:FILE`; they replace the configuration's. */
  readonly memoryMaps?: readonly string[]
  /** `FOLDER` or `id=FOLDER` of real firmwares; they replace the configuration's memory maps, too. */
  readonly snapshots?: readonly string[]
  readonly commandLine?: string
  readonly seed?: number
  readonly output?: string
}

/** How to come to a {@link ResolvedConfig}. */
export interface LoadConfigOptions {
  /** Working directory: where a configuration is looked for. */
  readonly directory: string
  /** The configuration file, when it was named. */
  readonly file?: string | undefined
  /** Plugins that are always there. */
  readonly builtIn?: readonly Plugin[]
  readonly overrides?: ConfigOverrides
}

/**
 * Finds a configuration, loads its plugins and looks every name up. Without a file everything has its default and there
 * are no memory maps but those of the overrides. Throws a HarnessError that names file, line or property, and the nearest
 * legal name.
 */
export async function loadConfig(options: LoadConfigOptions): Promise<ResolvedConfig> {
  const { directory, builtIn = [], overrides = {} } = options
  const named = options.file === undefined ? undefined : resolve(directory, options.file)
  const found = await findConfig(directory, named)
  const config = found?.config ?? {}
  const base = found === undefined ? directory : dirname(found.source.file)

  const plugins: Plugin[] = [...builtIn]
  for (const [index, reference] of (config.plugins ?? []).entries()) {
    plugins.push(
      await located(found, ['plugins', index], () =>
        loadPlugin(reference, join(base, 'trapdoor.config'), builtIn),
      ),
    )
  }
  const registry = await located(found, ['plugins'], () => new PluginRegistry(plugins))

  const chosenMaps = [
    ...(overrides.memoryMaps ?? []).map((argument) => ({
      ...memoryMapFile(splitArgument(argument), directory, directory),
      argument,
    })),
    ...(overrides.snapshots ?? []).map((argument) => ({
      ...snapshotFolder(splitArgument(argument), directory, directory),
      argument,
    })),
  ]
  const memoryMaps =
    overrides.memoryMaps === undefined && overrides.snapshots === undefined
      ? (config.memoryMaps ?? []).map((map) => placeOfMap(map, base, directory))
      : chosenMaps
  refuseSharedIds(memoryMaps, found)
  const architectures = architecturesOf(memoryMaps)

  const quirkSets = await lookUp(found, 'firmware', config.firmware, (entry) =>
    quirkSetsOf(entry, registry, architectures),
  )
  const strategies = await lookUp(found, 'strategies', config.strategies, (entry) =>
    strategiesOf(typeof entry === 'string' ? entry : chosen(entry), registry, architectures),
  )
  const scenarios = await lookUp(found, 'scenarios', config.scenarios, (entry) =>
    scenariosOf(entry, registry),
  )
  return {
    file: found?.source.file,
    memoryMaps,
    registry,
    quirkSets: unique(quirkSets, (set) => set.join('+')),
    strategies: unique(strategies, strategyLabel),
    scenarios: unique(scenarios, (name) => name),
    commandLine: overrides.commandLine ?? config.kernel?.commandLine ?? '',
    cpu: config.cpu,
    seed: overrides.seed ?? config.seed ?? DEFAULT_SEED,
    ...(config.expect === undefined ? {} : { expect: resolve(base, config.expect) }),
    output:
      overrides.output === undefined
        ? resolve(base, config.output ?? 'results.json')
        : resolve(directory, overrides.output),
    commandArguments: [
      ...(named === undefined ? [] : ['--config', relative(directory, named)]),
      ...(overrides.commandLine === undefined ? [] : ['--command-line', overrides.commandLine]),
    ],
  }
}

function chosen([name, options]: readonly [
  string,
  Readonly<Record<string, string>>,
]): StrategySelection {
  return { name, options }
}

/** Looks up a list of names, all ("*") where the configuration has none. */
async function lookUp<Entry, Value>(
  found: FoundConfig | undefined,
  property: string,
  entries: readonly Entry[] | undefined,
  read: (entry: Entry | '*') => Value[],
): Promise<Value[]> {
  if (entries === undefined) return read('*')
  const values: Value[] = []
  for (const [index, entry] of entries.entries()) {
    values.push(...(await located(found, [property, index], () => read(entry))))
  }
  return values
}

/** Does `work`; a HarnessError that does not know its place gets the one of `path`. */
async function located<Value>(
  found: FoundConfig | undefined,
  path: readonly (string | number)[],
  work: () => Value | Promise<Value>,
): Promise<Value> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof HarnessError) || found === undefined || error.line !== undefined) {
      throw error
    }
    const { file, line, property } = placeOf(found.source, path)
    throw new HarnessError(error.code, {
      expected: error.expected,
      found: `${error.found} in ${property}`,
      hint: error.hint,
      file,
      line,
      cause: error,
    })
  }
}

/** A file as the command line or a configuration names it, with an id. */
type NamedFile = Extract<MemoryMapReference, { readonly file: string }>

function splitArgument(argument: string): NamedFile {
  const [, id, architecture, file = argument] =
    /^(?:([\w.-]+)=)?(?:(x64|ia32):)?(.+)$/s.exec(argument) ?? []
  return {
    id: id ?? idOf(file),
    file,
    architecture: architecture === 'ia32' ? 'ia32' : undefined,
  }
}

/** The id of a file without one is its name, without extension, in letters that a case id can hold. */
function idOf(file: string): string {
  return idFrom(basename(file, extname(file)))
}

function idFrom(name: string): string {
  return name.replaceAll(/[^\w.-]+/g, '-')
}

/** The file or folder that an entry of a configuration names. */
function placeOfMap(map: MemoryMapReference, base: string, directory: string): MemoryMapFile {
  if (typeof map === 'string') return memoryMapFile({ id: idOf(map), file: map }, base, directory)
  if ('file' in map) return memoryMapFile(map, base, directory)
  const file = 'firmware' in map ? map.firmware.snapshot : map.snapshot
  const id = 'firmware' in map ? map.id : idFrom(basename(file))
  return snapshotFolder({ id, file }, base, directory)
}

function memoryMapFile(
  { id, file: name, architecture }: NamedFile,
  base: string,
  directory: string,
): MemoryMapFile {
  const file = resolve(base, name)
  const label = relative(directory, file).replaceAll('\\', '/')
  return { id, file, label, ...(architecture === undefined ? {} : { architecture }) }
}

function snapshotFolder({ id, file }: NamedFile, base: string, directory: string): MemoryMapFile {
  return { ...memoryMapFile({ id, file }, base, directory), kind: 'snapshot' }
}

function refuseSharedIds(maps: readonly MemoryMapFile[], found: FoundConfig | undefined): void {
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
