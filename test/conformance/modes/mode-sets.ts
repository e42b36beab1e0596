import type { ConformanceSet, Size } from '../runner/conformance-set.ts'
import { ControlMachine, describeRegisters, type NamedWrite } from './control-machine.ts'
import { ALL_WRITES, MODE_WRITES } from './writes.ts'
import type { Manuals } from '../runner/manuals.ts'
import type { Recorder } from '../runner/recorder.ts'

function names(writes: readonly NamedWrite[]): string {
  return writes.map((write) => write.name).join(', ')
}

/** Lengths of the sequences; a sequence is compared after its last write, its beginnings being sequences themselves. */
function longest(size: Size): number {
  return size === 'full' ? 5 : 4
}

/** Every order of writes, right or wrong, from RESET on. */
export const MODE_SEQUENCES_SET: ConformanceSet = {
  name: 'mode-sequences',
  title: `every sequence of up to 4 (full: 5) of ${MODE_WRITES.length} writes after RESET: #GP or not, registers, mode, translation`,
  chunks: () => MODE_WRITES.length,
  run(chunk, size, recorder, manuals) {
    const extend = (prefix: readonly NamedWrite[], left: number): void => {
      runSequence(prefix, recorder, manuals)
      if (left === 0) return
      for (const write of MODE_WRITES) extend([...prefix, write], left - 1)
    }
    extend([MODE_WRITES[chunk]!], longest(size) - 1)
  },
}

function runSequence(writes: readonly NamedWrite[], recorder: Recorder, manuals: Manuals): void {
  const machine = new ControlMachine(manuals)
  let last = { expected: '', found: '' }
  for (const write of writes) {
    last = machine.write(write)
    // Once the two have parted, what follows says nothing.
    if (last.expected !== last.found) break
  }
  recorder.compare(last.expected, last.found, () => `after RESET: ${names(writes)}`)
}

/** Every write from every state of the registers that writes can lead to. */
export const MODE_TRANSITIONS_SET: ConformanceSet = {
  name: 'mode-transitions',
  title: `${ALL_WRITES.length} writes in every state of the registers that ${MODE_WRITES.length} of them lead to from RESET`,
  chunks: () => 2,
  run(chunk, _size, recorder, manuals) {
    for (const [index, path] of reachablePaths(manuals).entries()) {
      if (index % 2 !== chunk) continue
      for (const write of ALL_WRITES) runSequence([...path, write], recorder, manuals)
    }
  },
}

/** The shortest sequence to each state of the registers, by breadth-first search. */
function reachablePaths(manuals: Manuals): NamedWrite[][] {
  const seen = new Set<string>()
  const found: NamedWrite[][] = []
  let frontier: NamedWrite[][] = [[]]
  while (frontier.length > 0) {
    const next: NamedWrite[][] = []
    for (const path of frontier) {
      const machine = new ControlMachine(manuals)
      for (const write of path) machine.write(write)
      const key = describeRegisters(machine.registers)
      if (seen.has(key)) continue
      seen.add(key)
      found.push(path)
      for (const write of MODE_WRITES) next.push([...path, write])
    }
    frontier = next
  }
  return found
}
