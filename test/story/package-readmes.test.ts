import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, test } from 'vitest'

const PACKAGES = join(import.meta.dirname, '../../packages')

/** The texts of a README's code blocks in a language. */
function codeBlocks(name: string, language: string): string[] {
  const readme = readFileSync(join(PACKAGES, name, 'README.md'), 'utf8')
  const [, ...blocks] = readme.split(`\`\`\`${language}\n`)
  if (blocks.length === 0) throw new Error(`no ${language} block in the README of ${name}`)
  return blocks.map((block) => block.split('```')[0]!.trimEnd())
}

/** The examples of a README: each code block, with the output that follows it. */
function examples(name: string): { name: string; number: number; code: string; output: string }[] {
  const outputs = codeBlocks(name, 'text')
  return codeBlocks(name, 'ts').map((code, index) => ({
    name,
    number: index + 1,
    code,
    output: outputs[index]!,
  }))
}

test.each(['core', 'cpu', 'uefi', 'assembler', 'intake'].flatMap(examples))(
  'example $number in the README of $name prints what the README says',
  async ({ name, code, output }) => {
    // From the package's folder, its own name resolves to its sources.
    const { stdout } = await execa(
      process.execPath,
      ['--conditions=@trapdoor/source', '--input-type=module-typescript'],
      { cwd: join(PACKAGES, name), input: code },
    )
    expect(stdout).toBe(output)
  },
)
