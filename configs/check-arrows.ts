// The arrows of docs/architecture.md, checked: who may import whom, and nobody reaches into another package's src.
import { globSync, readFileSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'

const SCOPE = '@trapdoor/'

/** The packages that each package may import. Those on top and the plugins follow. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  core: [],
  uefi: [],
  assembler: [],
  cpu: ['core'],
  intake: ['uefi'],
  snapshot: ['core', 'uefi'],
  guest: ['core', 'cpu'],
  capture: ['assembler', 'core', 'uefi', 'snapshot'],
  firmware: ['core', 'uefi', 'snapshot'],
  kernel: ['core', 'uefi'],
  'plugin-kit': ['core', 'uefi', 'firmware'],
  replay: ['core', 'uefi', 'snapshot', 'cpu', 'firmware'],
  harness: ['core', 'uefi', 'intake', 'firmware', 'kernel', 'cpu', 'snapshot'],
}
/** The packages that a plugin may import, by the kind in its name; beside these, plugins of its own kind. */
const PLUGIN_MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  firmware: ['core', 'uefi', 'firmware', 'harness'],
  strategy: ['core', 'uefi', 'kernel', 'harness'],
  scenario: ['core', 'uefi', 'kernel', 'harness'],
  rule: ['core', 'uefi', 'firmware', 'kernel', 'harness'],
}
/** On top: these may import everything but what is on top with them. */
const TOP: ReadonlySet<string> = new Set(['cli'])
/** What tests may import beside what the sources may. */
const TESTS_MAY_IMPORT: ReadonlySet<string> = new Set([
  'assembler',
  'core',
  'cpu',
  'uefi',
  'intake',
  'capture',
  'plugin-kit',
])

interface Workspace {
  readonly name: string
  readonly folder: string
  readonly dependencies: readonly string[]
  readonly devDependencies: readonly string[]
}

const root = dirname(import.meta.dirname)
const workspaces = globSync('{packages,plugins}/*/package.json', { cwd: root })
  .toSorted()
  .map(readWorkspace)
const plugins = workspaces
  .filter(({ folder }) => folder.startsWith('plugins'))
  .map(({ name }) => name)

const complaints = workspaces.flatMap((workspace) => [
  ...checkManifest(workspace),
  ...checkImports(workspace),
])
for (const complaint of complaints) console.error(complaint)
console.log(
  complaints.length === 0
    ? `arrows: ${workspaces.length} packages, all in the right direction`
    : `arrows: ${complaints.length} in the wrong direction; docs/architecture.md has the right ones`,
)
process.exitCode = complaints.length === 0 ? 0 : 1

function readWorkspace(manifest: string): Workspace {
  const { name, dependencies, peerDependencies, devDependencies } = JSON.parse(
    readFileSync(join(root, manifest), 'utf8'),
  ) as Record<string, Record<string, string> | undefined> & { name: string }
  const ours = (names: Record<string, string> | undefined): string[] =>
    Object.keys(names ?? {}).filter((each) => each.startsWith(SCOPE))
  return {
    name: name.slice(SCOPE.length),
    folder: dirname(manifest),
    dependencies: [...ours(dependencies), ...ours(peerDependencies)],
    devDependencies: ours(devDependencies),
  }
}

/** Undefined for a package that nobody has given a place. */
function legalFor(name: string): readonly string[] | undefined {
  if (TOP.has(name)) return [...Object.keys(MAY_IMPORT), ...plugins]
  if (!plugins.includes(name)) return MAY_IMPORT[name]
  const kind = name.split('-')[0]!
  const ownKind = plugins.filter((each) => each.startsWith(`${kind}-`))
  return PLUGIN_MAY_IMPORT[kind]?.concat(ownKind)
}

function checkManifest({ name, folder, dependencies, devDependencies }: Workspace): string[] {
  const file = join(folder, 'package.json')
  const legal = legalFor(name)
  if (legal === undefined) {
    return [
      `${file}: ${SCOPE}${name} has no place in the arrows; add it to configs/check-arrows.ts`,
    ]
  }
  return [
    ...dependencies.filter((each) => !legal.includes(each.slice(SCOPE.length))),
    ...devDependencies.filter((each) => {
      const target = each.slice(SCOPE.length)
      return !legal.includes(target) && !TESTS_MAY_IMPORT.has(target)
    }),
  ].map((each) => `${file}: ${SCOPE}${name} must not depend on ${each}`)
}

function checkImports({ name, folder }: Workspace): string[] {
  const legal = legalFor(name) ?? []
  const files = globSync(`${folder}/{src,test}/**/*.ts`, { cwd: root }).toSorted()
  return files.flatMap((file) => {
    const isTest = file.startsWith(join(folder, 'test') + sep)
    return importsOf(join(root, file)).flatMap(({ specifier, line }) => {
      const place = `${file}:${line}`
      if (specifier.startsWith('.')) {
        const target = relative(join(root, folder), join(root, dirname(file), specifier))
        return target.startsWith('..')
          ? [`${place}: "${specifier}" leaves the package; import a package by its name`]
          : []
      }
      if (!specifier.startsWith(SCOPE)) return []
      const [target, ...inside] = specifier.slice(SCOPE.length).split('/')
      if (inside.length > 0 && inside.join('/') !== 'package.json') {
        return [`${place}: "${specifier}" reaches into a package; import ${SCOPE}${target}`]
      }
      const isLegal =
        legal.includes(target!) || (isTest && (target === name || TESTS_MAY_IMPORT.has(target!)))
      return isLegal
        ? []
        : [`${place}: ${SCOPE}${name} must not import ${specifier}; it may import ${named(legal)}`]
    })
  })
}

function named(legal: readonly string[]): string {
  const names = legal.map((each) => SCOPE + each)
  return names.length === 0 ? 'no package of this workspace' : names.join(', ')
}

/** Import specifiers of a file: of types too, static and dynamic. Text in strings and comments is not mistaken for one. */
function importsOf(file: string): { specifier: string; line: number }[] {
  const text = readFileSync(file, 'utf8')
  const pattern =
    /^\s*(?:import|export)\b(?:[^'"`;]*?\bfrom)?\s*(['"])(?<path>[^'"]+)\1|\bimport\(\s*(['"])(?<dynamic>[^'"]+)\3/gm
  return [...withoutComments(text).matchAll(pattern)].map((match) => ({
    specifier: (match.groups?.['path'] ?? match.groups?.['dynamic'])!,
    line: text.slice(0, match.index + match[0].search(/\S/)).split('\n').length,
  }))
}

/** The text with comments blanked, so that lines stay where they are. */
function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/.*$/gm, (comment) =>
    comment.replaceAll(/[^\n]/g, ' '),
  )
}
