import { readFileSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { QUIRK_HOOK_NAMES } from '@trapdoor/firmware'
import {
  definePlugin,
  PluginRegistry,
  type RuleHooks,
  createEnvironment,
  runCase,
} from '@trapdoor/harness'
import { createKernelHooks, type Kernel } from '@trapdoor/kernel'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const BIN = join(ROOT, 'packages/cli/src/bin.ts')
const TSC = join(ROOT, 'node_modules/typescript/bin/tsc')
const LOG = join(ROOT, 'configs/demo/ovmf-q35-4m.txt')
const CONSUMER = join(ROOT, 'test/e2e/consumer')
/** Names that the pages give to the kernel log of a machine. */
const LOG_NAMES = ['machine.txt', 'machine.log', 'dmesg.txt']
const PNPM = 'npx -y pnpm@12.21.0 '
/** What a script of the workspace sees when it is run as {@link PNPM} says. */
const THROUGH_PNPM = {
  npm_package_name: 'trapdoor-monorepo',
  npm_config_user_agent: 'pnpm/12.21.0 npm/? node/?',
  PATH: '/home/reader/.npm/_npx/0/node_modules/.bin',
}
/** A line of an output in a page that stands for any number of lines. */
const ELISION = '…'

interface CodeBlock {
  readonly language: string
  /** Name of the file that it is saved as: the second word after the fence. */
  readonly file: string | undefined
  readonly text: string
}

/** Commands of a page, the files that a reader has by then, and what the page says that they print. */
interface Step {
  readonly commands: readonly string[]
  readonly files: ReadonlyMap<string, string>
  readonly expected: string | undefined
}

function codeBlocks(markdown: string): CodeBlock[] {
  return [...markdown.matchAll(/^```(\S*)(?: (\S+))?\n([\s\S]*?)^```$/gm)].map(
    ([, language = '', file, text = '']) => ({ language, file, text }),
  )
}

/** The commands that run Trapdoor; those that install it are not for a test. */
function trapdoorCommands(script: string): string[] {
  return script
    .split('\n')
    .filter((line) => /^npx (?:trapdoor |-y pnpm@12\.21\.0 (?:trapdoor |start$))/.test(line))
}

function stepsOf(blocks: readonly CodeBlock[]): Step[] {
  const files = new Map<string, string>()
  const steps: Step[] = []
  for (const [index, block] of blocks.entries()) {
    if (block.file !== undefined) files.set(block.file, block.text)
    const commands = block.language === 'sh' ? trapdoorCommands(block.text) : []
    if (commands.length === 0) continue
    const next = blocks[index + 1]
    const expected = next?.language === 'text' ? next.text : undefined
    steps.push({ commands, files: new Map(files), expected })
  }
  return steps
}

const PLUGINS = readFileSync(join(ROOT, 'docs/plugins.md'), 'utf8')
const README = readFileSync(join(ROOT, 'README.md'), 'utf8')
const PAGES = [
  { page: 'docs/plugins.md', blocks: codeBlocks(PLUGINS) },
  { page: 'README.md', blocks: codeBlocks(README) },
].map(({ page, blocks }) => ({ page, blocks, steps: stepsOf(blocks) }))

let folder = ''

// Outside node_modules, as Node.js strips no types in there; inside the project, so that @trapdoor/* resolves to the sources.
beforeAll(async () => {
  const parent = join(ROOT, '.vitest')
  await mkdir(parent, { recursive: true })
  folder = await mkdtemp(join(parent, 'docs-'))
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }\n')
  await Promise.all(LOG_NAMES.map((name) => copyFile(LOG, join(folder, name))))
})

afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
})

async function save(files: ReadonlyMap<string, string>): Promise<void> {
  await Promise.all([...files].map(([name, text]) => writeFile(join(folder, name), text)))
}

/** Runs a command of a page from the sources. Returns what it prints: results, and errors where it was used wrongly. */
async function output(command: string): Promise<string> {
  const isPnpm = command.startsWith(PNPM)
  const words = command.slice(isPnpm ? PNPM.length : 'npx '.length).split(' ')
  const isStart = words[0] === 'start'
  const args = isStart
    ? ['run', '--config', 'configs/demo.config.ts', '--output', join(folder, 'results.json')]
    : words.slice(1)
  const { stdout, stderr, exitCode } = await execa(
    process.execPath,
    ['--conditions=@trapdoor/source', BIN, ...args],
    {
      cwd: isStart ? ROOT : folder,
      env: {
        NO_COLOR: '1',
        ...(isPnpm ? THROUGH_PNPM : {}),
      },
      extendEnv: false,
      reject: false,
    },
  )
  return exitCode === 0 || exitCode === 1 ? stdout : `${stdout}${stderr}`
}

function withoutTrailingBlanks(text: string): string {
  return text.replaceAll(/[^\S\n]+$/gm, '')
}

/** The first run of lines of `expected`, elisions apart, that `actual` does not have behind the ones before it. */
function firstMissing(expected: string, actual: string): string | undefined {
  let rest = `\n${withoutTrailingBlanks(actual).trimEnd()}\n`
  for (const part of `\n${withoutTrailingBlanks(expected)}`.split(`\n${ELISION}\n`)) {
    const lines = `\n${part.replaceAll(/^\n|\n$/g, '')}\n`
    if (lines.trim() === '') continue
    const at = rest.indexOf(lines)
    if (at === -1) return lines
    rest = rest.slice(at + lines.length - 1)
  }
  return undefined
}

describe.each(PAGES)('$page', ({ steps, blocks }) => {
  test.each(steps.map((step) => ({ ...step, name: step.commands.join(' && ') })))(
    'prints what it says: $name',
    async ({ commands, files, expected }) => {
      await save(files)
      let printed = ''
      for (const command of commands) printed += `${await output(command)}\n`
      const claimed = expected ?? ''
      expect(/^error .*/m.exec(printed)?.[0]).toBe(/^error .*/m.exec(claimed)?.[0])
      expect(firstMissing(claimed, printed) ?? 'nothing').toBe('nothing')
    },
  )

  test('has only code that the compiler accepts', async () => {
    const sources = blocks.filter(({ language }) => language === 'ts')
    const project = await mkdtemp(join(folder, 'types-'))
    const names = sources.map(({ file }, index) => `${index}/${file ?? 'unnamed.ts'}`)
    for (const [index, { file }] of sources.entries()) {
      expect(file).toBeDefined()
      // Each configuration stands among the files that a reader has when it comes up.
      await mkdir(join(project, String(index)))
      for (const earlier of sources.slice(0, index + 1)) {
        await writeFile(join(project, String(index), earlier.file!), earlier.text)
      }
    }
    await writeFile(
      join(project, 'tsconfig.json'),
      JSON.stringify({
        extends: join(ROOT, 'tsconfig.base.json'),
        compilerOptions: {
          noEmit: true,
          composite: false,
          isolatedDeclarations: false,
          declarationMap: false,
          rewriteRelativeImportExtensions: false,
          allowImportingTsExtensions: true,
        },
        files: names,
      }),
    )
    const { stdout } = await execa(
      process.execPath,
      [TSC, '--project', project, '--pretty', 'false'],
      {
        cwd: project,
        reject: false,
      },
    )
    const complaints = stdout.split('\n').filter((line) => /^\d+\//.test(line))
    expect(complaints).toEqual([])
  })
})

test('README.md shows the quirk and the strategy that the packed packages are tested with', async () => {
  const shown = new Map(codeBlocks(README).map(({ file, text }) => [file, text]))
  for (const name of ['acme-quirk.ts', 'acme-strategy.ts', 'trapdoor.config.ts']) {
    expect(shown.get(name)).toBe(await readFile(join(CONSUMER, name), 'utf8'))
  }
})

/** The names in backticks that begin the rows of the tables between a heading and the next one. */
function tableNames(heading: string): string[] {
  const [, section = ''] = PLUGINS.split(`\n### ${heading}\n`)
  const rows = section.split(/^#/m)[0]!.matchAll(/^\| (`[^|]*) \|/gm)
  return [...rows].flatMap(([, cell]) =>
    [...cell!.matchAll(/`(\w+)[^`]*`/g)].map(([, name]) => name!),
  )
}

describe('the tables of docs/plugins.md', () => {
  let ruleHooks: RuleHooks | undefined
  let kernel: Kernel | undefined

  beforeAll(() => {
    const watcher = definePlugin({
      name: 'watcher',
      apiVersion: 1,
      strategies: [
        {
          name: 'watcher',
          title: 'calls firmware where it is, on page tables that do not map it',
          mode: 'physical',
          sources: [],
          create: () => ({
            setup: (booting) => {
              kernel = booting
            },
          }),
        },
      ],
      scenarios: [
        {
          name: 'boot',
          title: 'boots',
          steps: [{ name: 'boot', run: (context) => void context.boot() }],
        },
      ],
      rules: [
        {
          id: 'W1',
          title: 'looks at the hooks',
          severity: 'info',
          advice: 'none',
          sources: [],
          watch: ({ hooks }) => {
            ruleHooks = hooks
          },
        },
      ],
    })
    const environment = createEnvironment({
      file: undefined,
      memoryMaps: [{ id: 'machine', file: LOG }],
      registry: new PluginRegistry([watcher]),
      quirkSets: [[]],
      strategies: [],
      scenarios: [],
      commandLine: '',
      cpu: 'nehalem',
      seed: 1,
      instructionLimit: 1_000_000,
      output: 'results.json',
      commandArguments: [],
    })
    runCase(environment, {
      id: 'machine/none/watcher/boot',
      memoryMapId: 'machine',
      quirks: [],
      strategy: { name: 'watcher', options: {} },
      scenario: 'boot',
      seed: 1,
    })
  })

  test('name every hook of the firmware, and no other', () => {
    expect(tableNames('FirmwareHooks')).toEqual(QUIRK_HOOK_NAMES)
  })

  test('name every hook of the kernel, and no other', () => {
    expect(tableNames('KernelHooks')).toEqual(Object.keys(createKernelHooks()))
  })

  test('name every hook that rules have beside the kernel’s, and no other', () => {
    const own = Object.keys(ruleHooks!).filter((name) => !(name in createKernelHooks()))
    expect(tableNames('RuleHooks')).toEqual(own)
  })

  test('name members that a kernel has when a strategy is set up', () => {
    const names = tableNames('What a strategy can use')
    expect(names).toContain('requireEfi')
    expect(names.filter((name) => !(name in kernel!) && !(name in kernel!.tables))).toEqual([])
  })
})
