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

/** What a reason begins with that depends on the processor of the machine. */
const ABSENT_FROM_HOST = 'this host has '
/** Forms that no process can run and be asked about: they trap, enter the kernel or a hypervisor, change what the process runs on, or give something else each time. */
const NOT_ON_HOST = [
  '64 Int1',
  '64 Int3',
  '64 Int_imm8',
  '64 Iretq',
  '64 Mov_Sreg_r32m16',
  '64 Mov_Sreg_r32m16 [rip+disp]',
  '64 Rdrand_r64',
  '64 Rdseed_r64',
  '64 Sgdt_m1664 [base+disp]',
  '64 Sgdt_m1664 [disp]',
  '64 Sidt_m1664 [base+disp]',
  '64 Sidt_m1664 [disp]',
  '64 Sldt_rm16',
  '64 Smsw_r32m16 [base+disp]',
  '64 Smsw_rm16',
  '64 Str_rm16',
  '64 Syscall',
  '64 Sysretd',
  '64 Tdcall',
  '64 VEX_Vmovdqa_ymm_ymmm256',
  '64 VEX_Vmovdqa_ymm_ymmm256 [rip+disp]',
  '64 VEX_Vmovdqa_ymmm256_ymm',
  '64 VEX_Vmovdqa_ymmm256_ymm [rip+disp]',
  '64 VEX_Vmovntdq_m256_ymm [rip+disp]',
  '64 VEX_Vmovntdqa_ymm_m256 [rip+disp]',
  '64 VEX_Vzeroall',
  '64 Vmcall',
  '64 Vmgexit',
  '64 Vmmcall',
  '64 Wrpkru',
  '64 Xbegin_rel32',
  '64 Xend',
]

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
    const run: string[] = []
    for (const { forms, shape } of plan.groups) {
      const results = await experiment.run(forms, selection, shape)
      run.push(...results.map(({ form }) => form))
      expect(results.filter(({ differing }) => differing > 0)).toEqual([])
      expect(results.filter(({ beside }) => beside > 0)).toEqual([])
      expect(results.filter(({ missing }) => missing !== undefined)).toEqual([])
      expect(results.filter(({ cases }) => cases === 0)).toEqual([])
    }
    const lacking = [...plan.skipped]
      .filter(([reason]) => reason.startsWith(ABSENT_FROM_HOST))
      .flatMap(([, forms]) => forms.map(describeForm))
    const notRun = new Set([...lacking, ...NOT_ON_HOST])
    const others = usedForms.map(describeForm).filter((line) => !notRun.has(line))
    expect(run.toSorted()).toEqual(others.toSorted())
  },
  LONG_MS,
)

test('of a thousand forms nearly all can be run on a host, and those that cannot are named', async ({
  skip,
}) => {
  expect(new Set(usedForms.map(describeForm)).size).toBeGreaterThan(900)
  if (host === undefined) {
    skip(whyNot)
    return
  }
  const { skipped } = planForms(usedForms, await host.features())
  const named = [...skipped].filter(([reason]) => !reason.startsWith(ABSENT_FROM_HOST))
  const lines = named.flatMap(([, forms]) => forms.map(describeForm))
  expect([...new Set(lines)].toSorted()).toEqual(NOT_ON_HOST.toSorted())
})

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
