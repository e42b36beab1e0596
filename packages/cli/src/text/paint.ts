import { styleText } from 'node:util'
import type { CliIo } from '../io.ts'

/** Formats of `styleText`, such as 'red', or several of them. */
export type Style = Parameters<typeof styleText>[0]

/** Colours a text, or leaves it alone. */
export type Paint = (style: Style, text: string) => string

/** Colours where NO_COLOR is not set and there is a terminal or FORCE_COLOR. */
export function createPaint({ env, isTTY }: CliIo): Paint {
  const refused = (env['NO_COLOR'] ?? '') !== '' || env['FORCE_COLOR'] === '0'
  const forced = env['FORCE_COLOR'] !== undefined
  if (refused || !(isTTY || forced)) return (_style, text) => text
  return (style, text) => styleText(style, text, { validateStream: false })
}
