import { relative } from 'node:path'
import type { Paint } from './text/paint.ts'

/** What the errors of all packages have in common; `instanceof` would miss those of a second copy of a package. */
interface CodedError {
  readonly code: string
  readonly message: string
  readonly expected: string
  readonly found: string
  readonly hint?: string
  readonly file?: string
  readonly line?: number
  /** Byte of the file, from 0. */
  readonly offset?: number
}

/** Lines of a stack that are worth showing. */
const MOST_FRAMES = 2

/** Whether an error says what was expected, so that its stack is of no use to the user. */
function isCodedError(error: unknown): error is Error & CodedError {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'string' &&
    'expected' in error &&
    typeof error.expected === 'string'
  )
}

/** An error as the command line prints it: `error CODE: …`, where, what was expected and found, and a hint. */
export function formatError(error: unknown, cwd: string, paint: Paint): string {
  const label = paint(['red', 'bold'], 'error')
  if (!isCodedError(error)) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    return `${label} TRAPDOOR_INTERNAL: ${text}\n  hint: this is a fault of Trapdoor or of a plugin, not of your input\n`
  }
  const { code, message, expected, found, hint, file, line, offset } = error
  const lines = [`${label} ${code}: ${message}`]
  if (file !== undefined) {
    const inside = relative(cwd, file)
    const shown = inside.startsWith('..') ? file : inside
    const place = offset === undefined ? '' : `, offset 0x${offset.toString(16)}`
    lines.push(`  at ${line === undefined ? shown : `${shown}:${line}`}${place}`)
  }
  // Most messages are made of these two already.
  if (!message.includes(expected)) lines.push(`  expected: ${expected}`, `  found: ${found}`)
  // What does not parse is the user's file, wherever here it was parsed.
  const { cause } = error
  if (cause instanceof Error && !('code' in cause) && !(cause instanceof SyntaxError)) {
    lines.push(...whereThrown(cause))
  }
  if (hint !== undefined) lines.push(`  hint: ${hint}`)
  return `${lines.join('\n')}\n`
}

/** The first places in the stack of an error that are neither Node.js nor a library. */
function whereThrown(cause: Error): string[] {
  const frames = (cause.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line))
  return frames
    .filter((line) => !/node:|\(<anonymous>\)|[/\\]node_modules[/\\]/.test(line))
    .slice(0, MOST_FRAMES)
    .map((line) => `  ${line.trim()}`)
}
