import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const PACKAGE = join(import.meta.dirname, '..')

/** The text of the README's code block in a language. */
function codeBlock(language: string): string {
  const readme = readFileSync(join(PACKAGE, 'README.md'), 'utf8')
  const block = readme.split(`\`\`\`${language}\n`)[1]?.split('```')[0]
  if (block === undefined) throw new Error(`no ${language} block in the README`)
  return block
}

test('the example in the README prints what the README says', () => {
  // From the package's folder, its own name resolves to its sources.
  const output = execFileSync(
    process.execPath,
    ['--conditions=@trapdoor/source', '--input-type=module-typescript'],
    { cwd: PACKAGE, input: codeBlock('ts'), encoding: 'utf8' },
  )
  expect(output).toBe(codeBlock('text'))
})
