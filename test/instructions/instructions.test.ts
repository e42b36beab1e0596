import { readFileSync } from 'node:fs'

import { Interpreter } from '@trapdoor/cpu'
import { afterAll, beforeAll, expect, test } from 'vitest'

import { Random } from '../emulators/cases/random.ts'
import { encode } from './cases/encoding.ts'
import { DEFECTS } from './defects.ts'
import { Experiment } from './experiment.ts'
import { collectForms } from './forms/collect.ts'
import { elfImage } from './forms/elf.ts'
import { describeForm, parseForm } from './forms/form.ts'
import { FORM_LISTS } from './forms/lists.ts'
import { reasonNotNative, traitsOf } from './forms/traits.ts'
import { Model } from './model.ts'
import { HostError, HostProcessor, modeOf } from './native/host.ts'
import { planForms } from './plan.ts'
import { casesNoticing } from './self-check.ts'

/** Cases of each form here; the command has a thousand. */
const CASES = 8
/** Thousands of instructions, some of them stepped by signals. */
const LONG_MS = 300_000

let host: HostProcessor | undefined
let whyNot = ''

beforeAll(async () => {
  try {
    host = await HostProcessor.compile()
  } catch (error) {
    if (!(error instanceof HostError) || error.code === 'HOST_FAILED') throw error
    whyNot = `${error.message}: ${error.hint}`
  }
})

afterAll(async () => {
  await host?.dispose()
})

const usedForms = FORM_LISTS.filter(({ name }) => name !== 'implemented').flatMap(
  ({ forms }) => forms,
)

test('a form is read as it was written', () => {
  for (const form of FORM_LISTS.flatMap(({ forms }) => forms)) {
    expect(parseForm(describeForm(form))).toEqual(form)
  }
  expect(parseForm('64 Add_rm64_r64 [nothing')).toBeUndefined()
  expect(parseForm('16 Add_rm64_r64')).toBeUndefined()
})

test('an encoding of a form is an instruction of that form, and the same every time', () => {
  for (const form of usedForms) {
    if (reasonNotNative(traitsOf(form)) !== undefined) continue
    const [one, two] = [encode(form, new Random(5)), encode(form, new Random(5))]
    expect(one).toEqual(two)
    const { bytes, rip } = one!
    const found = collectForms({
      name: 'encoding',
      ranges: [{ address: Number(rip), bytes }],
      roots: [{ address: Number(rip), bits: form.bits }],
      candidates: [],
    })
    expect([...found.forms.keys()]).toEqual([describeForm(form)])
  }
})

test(
  'every form of OVMF and of kvm-unit-tests does what the host’s processor does',
  async ({ skip }) => {
    if (host === undefined) {
      skip(whyNot)
      return
    }
    const features = await host.features()
    const plan = planForms(usedForms, features)
    const experiment = new Experiment(host, new Model(new Interpreter(), modeOf(features)))
    const selection = { seed: 1, first: 0, count: CASES }
    for (const { forms, shape } of plan.groups) {
      const results = await experiment.run(forms, selection, shape)
      expect(results.filter(({ differing }) => differing > 0)).toEqual([])
      expect(results.filter(({ beside }) => beside > 0)).toEqual([])
      expect(results.filter(({ missing }) => missing !== undefined)).toEqual([])
      expect(results.filter(({ cases }) => cases === 0)).toEqual([])
    }
  },
  LONG_MS,
)

test('the forms of a program that gcc made are found', async ({ skip }) => {
  if (host === undefined) {
    skip(whyNot)
    return
  }
  const { forms, instructions } = collectForms(elfImage('oracle', readFileSync(host.program)))
  expect(instructions).toBeGreaterThan(300)
  expect([...forms.keys()]).toEqual(
    expect.arrayContaining([
      '64 Iretq',
      '64 Fxrstor64_m512byte [rip+disp]',
      '64 Movsb_m8_m8 [string] rep',
      '64 Syscall',
    ]),
  )
})

test.for(DEFECTS)('a defect shows: $name', { timeout: LONG_MS }, async (defect, { skip }) => {
  if (host === undefined) {
    skip(whyNot)
    return
  }
  expect(await casesNoticing(host, defect)).toBeGreaterThan(0)
})
