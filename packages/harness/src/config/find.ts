import { spawnSync } from 'node:child_process'
import { realpathSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { pathToFileURL } from 'node:url'
import { cosmiconfig } from 'cosmiconfig'
import { parse as parseJson, type ParseError, printParseErrorCode } from 'jsonc-parser'
import { parseDocument } from 'yaml'
import { HarnessError } from '../error.ts'
import { issueWording } from '../issue-wording.ts'
import { nameHint } from '../nearest.ts'
import { CONFIG_KEYS, configSchema, type TrapdoorConfig } from './config.ts'
import { type ConfigSource, lineAt, placeOf } from './source.ts'

/** The files that are looked for, in this order, in the working directory. */
export const CONFIG_FILES: readonly string[] = [
  'trapdoor.config.ts',
  'trapdoor.config.mts',
  'trapdoor.config.mjs',
  'trapdoor.config.js',
  'trapdoor.config.json',
  'trapdoor.config.yaml',
  'trapdoor.config.yml',
  'package.json',
]

/** A configuration as it was written, checked for its shape. */
export interface FoundConfig {
  readonly config: TrapdoorConfig
  readonly source: ConfigSource
}

/**
 * Reads `file`, or what {@link CONFIG_FILES} finds in `directory`; undefined when there is none. Throws
 * HARNESS_CONFIG_NOT_FOUND for a `file` that is not there, HARNESS_CONFIG_SYNTAX and HARNESS_BAD_CONFIG with file and line.
 */
export async function findConfig(
  directory: string,
  file: string | undefined,
): Promise<FoundConfig | undefined> {
  const explorer = cosmiconfig('trapdoor', {
    searchPlaces: [...CONFIG_FILES],
    cache: false,
    loaders: {
      '.ts': loadModule,
      '.mts': loadModule,
      '.mjs': loadModule,
      '.js': loadModule,
      '.json': loadJson,
      '.yaml': loadYaml,
      '.yml': loadYaml,
    },
  })
  let result
  try {
    result = await (file === undefined ? explorer.search(directory) : explorer.load(file))
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
    if (code !== 'ENOENT' && code !== 'EISDIR') throw cause
    throw new HarnessError('HARNESS_CONFIG_NOT_FOUND', {
      expected: 'a configuration file',
      found: code === 'ENOENT' ? 'no such file' : 'a directory',
      hint: '`trapdoor init` writes one',
      file,
      cause,
    })
  }
  if (result === null) return undefined
  const { filepath } = result
  const source: ConfigSource = {
    file: filepath,
    format: formatOf(filepath),
    text: await readFile(filepath, 'utf8'),
    prefix: basename(filepath) === 'package.json' ? ['trapdoor'] : [],
  }
  const config: unknown = result.isEmpty === true ? {} : result.config
  return { config: checkConfig(config, source), source }
}

function formatOf(file: string): ConfigSource['format'] {
  if (file.endsWith('.json')) return 'json'
  return /\.ya?ml$/.test(file) ? 'yaml' : 'module'
}

/** Throws HARNESS_BAD_CONFIG unless `config` has the shape of a configuration. */
function checkConfig(config: unknown, source: ConfigSource): TrapdoorConfig {
  const parsed = configSchema.safeParse(config)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]!
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0]!
    const { file, line } = placeOf(source, [...issue.path, key])
    const { property } = placeOf(source, issue.path)
    throw new HarnessError('HARNESS_BAD_CONFIG', {
      expected: 'a setting that Trapdoor has',
      found: `"${key}" in ${property}`,
      hint: nameHint(key, CONFIG_KEYS[issue.path.join('.')] ?? []),
      file,
      line,
    })
  }
  const { expected, received } = issueWording(issue)
  const { file, line, property } = placeOf(source, issue.path)
  throw new HarnessError('HARNESS_BAD_CONFIG', {
    expected,
    found: `${received ?? 'something else'} in ${property}`,
    file,
    line,
  })
}

async function loadModule(file: string): Promise<unknown> {
  let exported: { default?: unknown }
  try {
    exported = (await import(pathToFileURL(realpathSync(file)).href)) as { default?: unknown }
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && 'expected' in cause) throw cause
    throw new HarnessError('HARNESS_CONFIG_SYNTAX', {
      expected: 'a module that loads',
      found: cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause),
      hint: missingPackageHint(cause),
      file,
      line: lineOfError(cause, file),
      cause,
    })
  }
  if (exported.default !== undefined) return exported.default
  throw new HarnessError('HARNESS_BAD_CONFIG', {
    expected: 'a default export: export default defineConfig({ … })',
    found: 'none',
    file,
  })
}

function loadJson(file: string, text: string): unknown {
  const errors: ParseError[] = []
  const value: unknown = parseJson(text, errors, { allowTrailingComma: true })
  const [error] = errors
  if (error === undefined) return value
  throw new HarnessError('HARNESS_CONFIG_SYNTAX', {
    expected: 'JSON (comments and trailing commas are fine)',
    found: printParseErrorCode(error.error),
    file,
    line: lineAt(text, error.offset),
  })
}

function loadYaml(file: string, text: string): unknown {
  const document = parseDocument(text)
  const [error] = document.errors
  if (error === undefined) return document.toJS()
  throw new HarnessError('HARNESS_CONFIG_SYNTAX', {
    expected: 'YAML',
    found: error.message.split('\n')[0]!,
    file,
    line: error.linePos?.[0].line,
  })
}

/** The line of the file, from 1, where an error stopped it: the stack says it of what was thrown and of TypeScript, of JavaScript that cannot be read only a look at the file alone. */
function lineOfError(error: unknown, file: string): number | undefined {
  const place = `${realpathSync(file)}:`
  const stack = error instanceof Error ? (error.stack ?? '') : ''
  const said = stack.includes(place) ? stack : checkSyntax(file)
  const line = Number.parseInt(said.split(place)[1] ?? '', 10)
  return Number.isNaN(line) ? undefined : line
}

function checkSyntax(file: string): string {
  return spawnSync(process.execPath, ['--check', realpathSync(file)], { encoding: 'utf8' }).stderr
}

/** What to do where a configuration imports a package that is not installed beside it. */
function missingPackageHint(cause: unknown): string | undefined {
  const name =
    cause instanceof Error ? /Cannot find package '([^']+)'/.exec(cause.message)?.[1] : undefined
  return name === undefined
    ? undefined
    : `npm install ${name} beside the configuration, or write it in YAML (\`trapdoor init --format yaml\`), which imports nothing`
}
