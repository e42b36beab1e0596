import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { emptyFolder } from './folder.ts'
import { trapdoor } from './terminal.ts'

const DEMO_MAP = join(import.meta.dirname, '../../../configs/demo/ovmf-pc-2m.txt')

/** The line of `explain` that says how to see the case again, under an environment. */
async function again(env: Record<string, string>): Promise<string> {
  const cwd = emptyFolder()
  copyFileSync(DEMO_MAP, join(cwd, 'machine.txt'))
  const id = 'machine/none/legacy-virtual/boot'
  const { stdout } = await trapdoor(['explain', id, '-m', 'machine.txt'], { cwd, env })
  return stdout.trimEnd().split('\n').at(-1)!.trim()
}

test.each([
  ['by itself', {}, 'trapdoor explain'],
  [
    'in the workspace with pnpm',
    { npm_package_name: 'trapdoor-monorepo' },
    'pnpm trapdoor explain',
  ],
  [
    'in the workspace with a pnpm that npx fetched',
    {
      npm_package_name: 'trapdoor-monorepo',
      npm_config_user_agent: 'pnpm/12.21.0 npm/? node/v24.21.0 linux x64',
      PATH: '/home/user/.npm/_npx/0123abcd/node_modules/.bin:/usr/bin',
    },
    'npx -y pnpm@12.21.0 trapdoor explain',
  ],
])('says how to see a case again as one who runs it %s would type it', async (_how, env, start) => {
  expect(await again(env)).toBe(
    `${start} machine/none/legacy-virtual/boot --memory-map machine.txt`,
  )
})
