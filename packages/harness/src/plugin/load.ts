import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { HarnessError } from '../error.ts'
import { pluginLabel } from './check.ts'
import { definePlugin, type Plugin, type PluginFactory } from './plugin.ts'

/** A plugin as a configuration lists it: the value, the name of its module, or the name and options for its factory. */
export type PluginReference = Plugin | string | readonly [string, unknown]

const SHORT_NAME_PREFIXES = [
  '@trapdoor/firmware-',
  '@trapdoor/strategy-',
  '@trapdoor/scenario-',
  '@trapdoor/rule-',
  'trapdoor-plugin-',
  '',
]

/** The modules that a name may mean, in the order in which they are tried: `svam` → `@trapdoor/firmware-svam`, …. */
function moduleCandidates(name: string): string[] {
  if (/^(?:\.{0,2}\/|@|file:|trapdoor-plugin-)/.test(name)) return [name]
  return SHORT_NAME_PREFIXES.map((prefix) => prefix + name)
}

/**
 * Loads a plugin. Names are resolved from the directory of `fromFile`; a name of one of `known` stands for that plugin
 * when no module has it. Throws HARNESS_PLUGIN_NOT_FOUND, HARNESS_PLUGIN_THREW or HARNESS_BAD_PLUGIN.
 */
export async function loadPlugin(
  reference: PluginReference,
  fromFile: string,
  known: readonly Plugin[],
): Promise<Plugin> {
  if (typeof reference !== 'string' && !isNameWithOptions(reference)) return definePlugin(reference)
  const [name, ...options] = typeof reference === 'string' ? [reference] : reference
  const candidates = moduleCandidates(name)
  const resolved = candidates
    .map((candidate) => resolveModule(candidate, fromFile))
    .find((file) => file !== undefined)
  if (resolved === undefined) {
    const builtIn = known.find((plugin) => candidates.includes(plugin.name))
    if (builtIn !== undefined && options.length === 0) return builtIn
    throw new HarnessError('HARNESS_PLUGIN_NOT_FOUND', {
      expected: 'the name of an installed plugin, or a path that starts with ./',
      found: `"${name}"`,
      hint: `searched from ${dirname(fromFile)}: ${candidates.join(', ')}`,
      file: fromFile,
    })
  }
  return fromModule(name, await importDefault(name, resolved), options)
}

function isNameWithOptions(
  reference: Plugin | readonly [string, unknown],
): reference is readonly [string, unknown] {
  return Array.isArray(reference)
}

function fromModule(name: string, exported: unknown, options: readonly unknown[]): Plugin {
  if (typeof exported !== 'function') {
    if (options.length > 0) {
      throw new HarnessError('HARNESS_BAD_PLUGIN', {
        expected: 'a default export that is a function of the options',
        found: `${pluginLabel(exported)} itself in "${name}"`,
        hint: 'list it without options',
      })
    }
    return definePlugin(exported as Plugin)
  }
  let made: Plugin
  try {
    made = (exported as PluginFactory)(options[0])
  } catch (cause) {
    throw threw(name, 'while it was made from its options', cause)
  }
  return definePlugin(made)
}

async function importDefault(name: string, file: string): Promise<unknown> {
  try {
    const module = (await import(pathToFileURL(file).href)) as { default?: unknown }
    return module.default
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && 'expected' in cause) throw cause
    throw threw(name, 'while its module was loaded', cause)
  }
}

function threw(name: string, when: string, cause: unknown): HarnessError {
  return new HarnessError('HARNESS_PLUGIN_THREW', {
    expected: `plugin "${name}" to load`,
    found: `${cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause)}, ${when}`,
    cause,
  })
}

/** The file of a module, undefined where there is none. */
function resolveModule(specifier: string, fromFile: string): string | undefined {
  const require = createRequire(fromFile)
  try {
    return require.resolve(specifier)
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
    if (code !== 'ERR_PACKAGE_PATH_NOT_EXPORTED') return undefined
    return importOnlyEntry(specifier, require.resolve.paths(specifier) ?? [])
  }
}

/** The entry of a package whose `exports` have no condition but `import`, which require.resolve does not see. */
function importOnlyEntry(name: string, folders: readonly string[]): string | undefined {
  for (const folder of folders) {
    const root = join(folder, name)
    try {
      const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
        exports?: { import?: unknown; '.'?: { import?: unknown } }
      }
      const entry = manifest.exports?.['.']?.import ?? manifest.exports?.import
      return typeof entry === 'string' ? join(root, entry) : undefined
    } catch {
      continue
    }
  }
  return undefined
}
