import { Command, InvalidArgumentError } from 'commander'

import { Random } from '../emulators/cases/random.ts'
import type { Probe } from './probe.ts'
import { type ImageMode, probeImage } from './probe-image.ts'
import { expectedOfQemu, runProbesHere, runProbesOnQemu } from './probe-runs.ts'
import { AVOIDED_FAULTS } from './known-faults.ts'
import { EVERYWHERE } from './probes/places.ts'
import { EXTENSION_FORMS } from './extension-probes.ts'
import { type PrivilegedForm, PRIVILEGED_FORMS, randomProbes } from './random-probes.ts'
import { differences } from './record.ts'

const MOST_SHOWN = 5

function parseCount(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('expected a whole number')
  return Number(text)
}

const program = new Command('privileged')
  .description(
    'Carries out privileged instructions with random operands, flags, modes and privilege levels on our CPU and on QEMU without hardware acceleration, and compares exceptions, registers and flags.',
  )
  .option('--cases <n>', 'cases of each form', parseCount, 1000)
  .option('--seed <n>', 'which cases', parseCount, 1)
  .option('--form <text>', 'only forms with this text in their name')
  .addHelpText('after', '\nExit codes: 0 all agree, 1 differences, 2 bad usage, or no QEMU.')
  .showHelpAfterError()
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
  .parse()
const options = program.opts<{ cases: number; seed: number; form?: string }>()
const wanted = options.form ?? ''
const forms = [...PRIVILEGED_FORMS, ...EXTENSION_FORMS].filter(({ name }) => name.includes(wanted))

let cases = 0
let differing = 0
const faults = new Map<string, number>()
const shown = new Map<string, number>()
for (const [index, form] of forms.entries()) {
  const modes = modesOf(form)
  for (const mode of modes) {
    const random = new Random(options.seed, index, mode === 'protected' ? 0 : 1)
    await judge(mode, randomProbes(form, Math.ceil(options.cases / modes.length), random, mode))
  }
}
for (const [id, count] of faults) console.log(`${id}: ${count.toLocaleString('en-US')} cases`)
for (const { id, fault } of AVOIDED_FAULTS) console.log(`not chosen, ${id}: ${fault}`)
console.log(
  `${forms.length} forms, ${cases.toLocaleString('en-US')} cases, ${differing.toLocaleString('en-US')} of them differ`,
)
process.exitCode = differing === 0 ? 0 : 1

/** The images that a form's probes are in, each of which gets a part of its cases. */
function modesOf({ places = EVERYWHERE }: PrivilegedForm): ImageMode[] {
  const modes = places.map(({ mode }) => (mode === 'protected' ? mode : 'ia32e'))
  return [...new Set(modes)]
}

async function judge(mode: ImageMode, probes: readonly Probe[]): Promise<void> {
  const image = probeImage(mode, probes)
  const { records: ours } = runProbesHere(image)
  const theirs = await runProbesOnQemu(image)
  for (const [index, probe] of probes.entries()) {
    cases++
    const [mine, other] = [ours[index], theirs[index]]
    const found =
      mine === undefined || other === undefined
        ? [`ended ${mine === undefined ? 'here' : 'on QEMU'} before it`]
        : differences(expectedOfQemu(probe, mine, note), other)
    if (found.length === 0) continue
    differing++
    const form = probe.name.split(' (')[0]!
    const already = shown.get(form) ?? 0
    shown.set(form, already + 1)
    if (already < MOST_SHOWN) console.log(`✗ ${probe.name}\n    ${found.join('\n    ')}`)
  }
}

function note(id: string): void {
  faults.set(id, (faults.get(id) ?? 0) + 1)
}
