import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, test } from 'vitest'

const PACKAGES = join(import.meta.dirname, '../../packages')

/** The text of a README's first code block in a language. */
function codeBlock(name: string, language: string): string {
  const readme = readFileSync(join(PACKAGES, name, 'README.md'), 'utf8')
  const block = readme.split(`\`\`\`${language}\n`)[1]?.split('```')[0]
  if (block === undefined) throw new Error(`no ${language} block in the README of ${name}`)
  return block.trimEnd()
}

test.each(['core', 'uefi', 'intake'])(
  'the example in the README of %s prints what the README says',
  async (name) => {
    // From the package's folder, its own name resolves to its sources.
    const { stdout } = await execa(
      process.execPath,
      ['--conditions=@trapdoor/source', '--input-type=module-typescript'],
      { cwd: join(PACKAGES, name), input: codeBlock(name, 'ts') },
    )
    expect(stdout).toBe(codeBlock(name, 'text'))
  },
)
