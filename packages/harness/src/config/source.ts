import { findNodeAtLocation, type JSONPath, parseTree } from 'jsonc-parser'
import { isMap, isNode, isScalar, LineCounter, parseDocument } from 'yaml'

/** The text that a configuration was read from, to say where something in it stands. */
export interface ConfigSource {
  readonly file: string
  readonly format: 'json' | 'yaml' | 'module'
  readonly text: string
  /** Keys that lead to the configuration in the file: `['trapdoor']` in a package.json. */
  readonly prefix: readonly string[]
}

/** A place in a configuration. */
export interface ConfigPlace {
  readonly file: string
  /** From 1. Undefined for a module, whose properties have no line. */
  readonly line: number | undefined
  /** `firmware[2]`, or "the configuration" for the whole. */
  readonly property: string
}

/** Where the property at `path` stands, or the nearest one around it. */
export function placeOf(source: ConfigSource, path: readonly PropertyKey[]): ConfigPlace {
  const keys = path.map((part) => (typeof part === 'number' ? part : String(part)))
  let property = ''
  for (const key of keys) {
    if (typeof key === 'number') property += `[${key}]`
    else property += property === '' ? key : `.${key}`
  }
  return {
    file: source.file,
    line: lineOf(source, [...source.prefix, ...keys]),
    property: property === '' ? 'the configuration' : property,
  }
}

function lineOf(source: ConfigSource, path: JSONPath): number | undefined {
  if (source.format === 'module') return undefined
  if (source.format === 'json') {
    const root = parseTree(source.text, undefined, { allowTrailingComma: true })
    if (root === undefined) return 1
    const node = findNodeAtLocation(root, path)
    // A property's node is its value; the line that counts is the one of the key.
    const keyed = node?.parent?.type === 'property' ? node.parent : node
    return lineAt(source.text, keyed?.offset ?? root.offset)
  }
  const lines = new LineCounter()
  const document = parseDocument(source.text, { lineCounter: lines })
  const around = document.getIn(path.slice(0, -1), true)
  const pair = isMap(around)
    ? around.items.find(({ key }) => nameOf(key) === path.at(-1))
    : undefined
  const node = pair?.key ?? document.getIn(path, true)
  const start = isNode(node) ? node.range?.[0] : undefined
  return start === undefined ? 1 : lines.linePos(start).line
}

function nameOf(key: unknown): unknown {
  return isScalar(key) ? key.value : key
}

/** Line of an offset, from 1. */
export function lineAt(text: string, offset: number): number {
  return text.slice(0, offset).split('\n').length
}
