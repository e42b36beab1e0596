import type { FormResult } from './experiment.ts'
import { describeForm } from './forms/form.ts'
import type { FormList } from './forms/lists.ts'
import type { Plan } from './plan.ts'
import { describeCase } from './wording.ts'

/** Progress is told after such a part of the work. */
const PROGRESS_STEP = 0.25

/** Prints what became of forms. */
export class Report {
  readonly #print: (line: string) => void
  readonly #seed: number
  readonly #results: FormResult[] = []
  #told = 0

  constructor(print: (line: string) => void, seed: number) {
    this.#print = print
    this.#seed = seed
  }

  add(results: readonly FormResult[]): void {
    for (const result of results) {
      this.#results.push(result)
      const { form, missing, beside, first, differing, cases } = result
      if (missing !== undefined) this.#print(`missing  ${form}: ${missing}`)
      if (beside > 0) this.#print(`beside   ${form}: ${beside} cases not compared`)
      if (first === undefined) continue
      this.#print(`\n${form}: ${differing} of ${cases} cases differ; the first, made smaller:`)
      this.#print(describeCase(first))
      this.#print(`  again: --seed ${this.#seed} --form '${form}' --case ${first.index}\n`)
    }
  }

  progress(done: number, all: number): void {
    if (done - this.#told < all * PROGRESS_STEP || done === all) return
    this.#told = done
    const cases = this.#results.reduce((sum, each) => sum + each.cases, 0)
    this.#print(`${this.#results.length} forms, ${cases.toLocaleString('en-US')} cases so far`)
  }

  /** Prints what there was in all; whether every form that was planned has run, nothing differed and no instruction was missing. */
  finish({ groups, skipped, privileged }: Plan, sets: readonly FormList[]): boolean {
    for (const [reason, forms] of skipped) {
      this.#print(`skipped  ${forms.length} forms: ${reason}`)
      this.#print(`           ${forms.map((form) => describeForm(form)).join(', ')}`)
    }
    const results = new Map(this.#results.map((result) => [result.form, result]))
    for (const { name, title, forms } of sets) {
      const own = forms.flatMap((form) => results.get(describeForm(form)) ?? [])
      this.#print(`${name.padEnd(16)}${describeResults(own)} (${title}: ${forms.length} forms)`)
    }
    const refused = this.#results.filter(({ form }) => privileged.has(form)).length
    this.#print(`all             ${describeResults(this.#results)}`)
    this.#print(`${refused} of these forms need privilege level 0: the host shows no more than #GP`)
    const planned = groups.flatMap(({ forms }) => forms.map((form) => describeForm(form)))
    const idle = planned.filter((form) => (results.get(form)?.cases ?? 0) === 0)
    if (planned.length === 0) this.#print('no form can be run')
    if (idle.length > 0) this.#print(`not run  ${idle.length} forms: ${idle.join(', ')}`)
    return (
      planned.length > 0 &&
      idle.length === 0 &&
      this.#results.every(({ differing, missing }) => differing === 0 && missing === undefined)
    )
  }
}

function describeResults(results: readonly FormResult[]): string {
  const sum = (count: (result: FormResult) => number): string =>
    results.reduce((total, result) => total + count(result), 0).toLocaleString('en-US')
  const differing = results.filter((result) => result.differing > 0).length
  const missing = results.filter((result) => result.missing !== undefined).length
  return [
    `${results.length} forms`,
    `${sum(({ cases }) => cases)} cases`,
    `${sum(({ exceptions }) => exceptions)} exceptions`,
    `${differing} forms differ`,
    `${missing} missing`,
  ].join(', ')
}
