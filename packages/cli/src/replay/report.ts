import { basename } from 'node:path'
import type { Difference, ReplayedCall } from '@trapdoor/replay'
import { alignColumns, plural } from '../text/layout.ts'
import type { Paint } from '../text/paint.ts'

/** A recording and what became of its calls. */
export interface ReplayedFolder {
  readonly folder: string
  readonly calls: readonly ReplayedCall[]
}

/** Differences of one kind that are told of one call. */
const MOST_OF_A_KIND = 5

/** Every call that was not as recorded, with its differences, and the sums. */
export function renderReplay(folders: readonly ReplayedFolder[], paint: Paint): string {
  return folders.flatMap((each) => [...renderFolder(each, paint), '']).join('\n')
}

function renderFolder({ folder, calls }: ReplayedFolder, paint: Paint): string[] {
  const wrong = calls.filter(({ differences }) => differences.length > 0)
  const lines = wrong.flatMap(({ name, differences }) => [
    `${paint('red', '✗')} ${name}  ${plural(differences.length, 'difference')}`,
    ...describe(differences),
  ])
  const whole = calls.filter(({ extent }) => extent !== 'not')
  const partly = calls.filter(({ extent }) => extent === 'outside of SMM')
  const not = calls.length - whole.length
  const instructions = calls.reduce((sum, call) => sum + call.instructions, 0)
  const differences = calls.reduce((sum, call) => sum + call.differences.length, 0)
  const mark = wrong.length === 0 ? paint('green', '✓') : paint('red', '✗')
  return [
    ...lines,
    `${mark} ${basename(folder)}: ${plural(whole.length, 'call')}, ${instructions.toLocaleString('en')} instructions, ${plural(differences, 'difference')}`,
    ...(partly.length === 0
      ? []
      : [
          `  ${plural(partly.length, 'call')} of them up to system-management mode and from there on: what its handler did was taken from the recording, as SMRAM is not in it`,
        ]),
    ...(not === 0
      ? []
      : [
          `  ${plural(not, 'call')} not replayed: they go to system-management mode more than once, and what they find in between was not recorded`,
        ]),
  ]
}

/** The first differences of each kind, and how many more there are. */
function describe(differences: readonly Difference[]): string[] {
  const rows: string[][] = []
  for (const [compared, alike] of Map.groupBy(differences, (each) => each.compared)) {
    for (const { place, recorded, replayed } of alike.slice(0, MOST_OF_A_KIND)) {
      rows.push([`    ${compared}`, place, `recorded ${recorded}`, `replayed ${replayed}`])
    }
    const more = alike.length - MOST_OF_A_KIND
    if (more > 0) rows.push([`    ${compared}`, `and ${more} more`, '', ''])
  }
  return alignColumns(rows)
}
