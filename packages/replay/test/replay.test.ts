import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { replayFolder } from '../src/index.ts'

const SNAPSHOTS = join(import.meta.dirname, '../../../../shared/data/observed/snapshots')

describe.skipIf(!existsSync(SNAPSHOTS))(
  'recorded calls (skipped where the shared data is absent)',
  () => {
    test('are the same here in every word, access, instruction and page', () => {
      const calls = [...replayFolder(join(SNAPSHOTS, 'pc-2M-512M'))]
      expect(calls).toHaveLength(57)
      expect(calls.filter(({ differences }) => differences.length > 0)).toEqual([])
      expect(calls.every(({ extent }) => extent === 'whole')).toBe(true)
      expect(calls.reduce((sum, { instructions }) => sum + instructions, 0)).toBe(4_528_195)
    }, 120_000)
  },
)
