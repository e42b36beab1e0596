import { access, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline/promises'
import { CONFIG_FILES, HarnessError } from '@trapdoor/harness'
import { type Command, Option } from 'commander'
import { ExitCode } from '../exit-code.ts'
import type { CliIo } from '../io.ts'

const FORMATS = ['ts', 'json', 'yaml'] as const
type Format = (typeof FORMATS)[number]

const TEMPLATES: Readonly<Record<Format, string>> = {
  ts: `import { defineConfig } from '@trapdoor/harness'

export default defineConfig({
  // The kernel log of a real machine, booted with efi=debug: dmesg > machine.txt
  memoryMaps: ['machine.txt'],
  // none and every quirk alone; or a list such as ['none', 'Q06', ['Q01', 'Q20']]
  firmware: ['*'],
  strategies: ['*'],
  scenarios: ['*'],
  kernel: { commandLine: '' },
  seed: 1,
  output: 'results.json',
})
`,
  json: `{
  // The kernel log of a real machine, booted with efi=debug: dmesg > machine.txt
  "memoryMaps": ["machine.txt"],
  // none and every quirk alone; or a list such as ["none", "Q06", ["Q01", "Q20"]]
  "firmware": ["*"],
  "strategies": ["*"],
  "scenarios": ["*"],
  "kernel": { "commandLine": "" },
  "seed": 1,
  "output": "results.json"
}
`,
  yaml: `# The kernel log of a real machine, booted with efi=debug: dmesg > machine.txt
memoryMaps: [machine.txt]
# none and every quirk alone; or a list such as [none, Q06, [Q01, Q20]]
firmware: ['*']
strategies: ['*']
scenarios: ['*']
kernel: { commandLine: '' }
seed: 1
output: results.json
`,
}

/** Adds `trapdoor init`. `finish` is told the exit code. */
export function addInitCommand(program: Command, io: CliIo, finish: (code: number) => void): void {
  program
    .command('init')
    .description('write a configuration to start from')
    .addOption(new Option('--format <format>', 'of the file').choices(FORMATS))
    .option('-y, --yes', 'ask nothing')
    .action(async ({ format, yes }: { format?: Format; yes?: true }) => {
      await refuseSecond(io.cwd)
      const chosen = format ?? (yes === true || !io.isTTY ? 'ts' : await askFormat(io))
      const name = `trapdoor.config.${chosen}`
      await writeFile(join(io.cwd, name), TEMPLATES[chosen], { flag: 'wx' })
      io.stdout.write(
        `wrote ${name}\nput the kernel log of a machine into machine.txt, then: trapdoor run\n`,
      )
      finish(ExitCode.Ok)
    })
}

async function refuseSecond(directory: string): Promise<void> {
  for (const name of CONFIG_FILES) {
    if (name === 'package.json') continue
    const file = join(directory, name)
    const isThere = await access(file).then(
      () => true,
      () => false,
    )
    if (!isThere) continue
    throw new HarnessError('HARNESS_BAD_CONFIG', {
      expected: 'no configuration yet',
      found: name,
      hint: 'remove it first, or go on with it',
      file,
    })
  }
}

async function askFormat(io: CliIo): Promise<Format> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const question = `Format (${FORMATS.join(', ')}) [ts]: `
    const { signal } = io
    const answer = await (signal === undefined
      ? terminal.question(question)
      : terminal.question(question, { signal }))
    return FORMATS.find((format) => format === answer.trim()) ?? 'ts'
  } finally {
    terminal.close()
  }
}
