import { Interpreter } from '@trapdoor/cpu'

import { DEFECTS, type Defect } from './defects.ts'
import { Experiment } from './experiment.ts'
import { describeForm } from './forms/form.ts'
import { FORM_LISTS } from './forms/lists.ts'
import { Model } from './model.ts'
import { type HostProcessor, modeOf } from './native/host.ts'
import { planForms } from './plan.ts'

/** Cases of a form in which a defect must show. */
const CASES = 1000

/** How many cases differ with a defect, of the forms that it names. */
export async function casesNoticing(
  host: HostProcessor,
  { form, families }: Defect,
): Promise<number> {
  const forms = new Map(
    FORM_LISTS.flatMap((list) => list.forms.map((each) => [describeForm(each), each] as const)),
  )
  const chosen = [...forms].filter(([line]) => line.includes(form)).map(([, each]) => each)
  const features = await host.features()
  const model = new Model(new Interpreter({ families }), modeOf(features))
  const experiment = new Experiment(host, model)
  const plan = planForms(chosen.slice(0, 1), features)
  let differing = 0
  for (const { forms: group, shape } of plan.groups) {
    const results = await experiment.run(group, { seed: 1, first: 0, count: CASES }, shape)
    differing += results.reduce((sum, result) => sum + result.differing, 0)
  }
  return differing
}

/** Tries every seeded defect; tells whether all were noticed. */
export async function checkDefects(
  host: HostProcessor,
  print: (line: string) => void,
): Promise<boolean> {
  let missed = 0
  for (const defect of DEFECTS) {
    const cases = await casesNoticing(host, defect)
    if (cases === 0) missed++
    const outcome = cases === 0 ? 'NOT NOTICED' : `noticed in ${cases} of ${CASES} cases`
    print(`${defect.name.padEnd(76)}${outcome}`)
  }
  print(`${DEFECTS.length - missed} of ${DEFECTS.length} seeded defects noticed`)
  return missed === 0
}
