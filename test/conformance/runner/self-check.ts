import { DEFECTS } from './defects.ts'
import { Recorder } from './recorder.ts'
import { setsNamed } from '../sets.ts'

/** How many combinations it took until a defect showed, or undefined where the set that should notice it did not. */
export function noticedAfter(defect: (typeof DEFECTS)[number]): number | undefined {
  let combinations = 0
  for (const set of setsNamed(defect.set))
    for (let chunk = 0; chunk < set.chunks('small'); chunk++) {
      const recorder = new Recorder()
      set.run(chunk, 'small', recorder, defect.manuals)
      if (recorder.firstDifference !== undefined) return combinations + recorder.firstDifference
      combinations += recorder.combinations
    }
  return undefined
}

/** Tries every seeded defect; tells whether all were noticed. */
export function checkDefects(print: (line: string) => void): boolean {
  let missed = 0
  for (const defect of DEFECTS) {
    const combinations = noticedAfter(defect)
    if (combinations === undefined) missed++
    const outcome =
      combinations === undefined
        ? 'NOT NOTICED'
        : `noticed by combination ${combinations.toLocaleString('en-US')}`
    print(`${defect.name.padEnd(62)}${defect.set.padEnd(18)}${outcome}`)
  }
  print(`${DEFECTS.length - missed} of ${DEFECTS.length} seeded defects noticed`)
  return missed === 0
}
