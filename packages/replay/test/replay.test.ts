import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type ReplayedCall, replayFolder } from '../src/index.ts'

const SNAPSHOTS = join(import.meta.dirname, '../../../../shared/data/observed/snapshots')

describe.skipIf(!existsSync(SNAPSHOTS))(
  'recorded calls (skipped where the shared data is absent)',
  () => {
    test('are the same here in every word, access, instruction and page', () => {
      const calls = [...replayFolder(join(SNAPSHOTS, 'pc-2M-512M'))]
      const named = (name: string): ReplayedCall => calls.find((call) => call.name === name)!
      expect(calls).toHaveLength(57)
      expect(named('phys/QueryVariableInfo')).toEqual({
        name: 'phys/QueryVariableInfo',
        extent: 'whole',
        instructions: 4080,
        differences: [],
      })
    }, 60_000)
  },
)
