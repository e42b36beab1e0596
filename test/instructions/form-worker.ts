import { Interpreter } from '@trapdoor/cpu'

import { type CaseSelection, Experiment, type FormResult } from './experiment.ts'
import { parseForm } from './forms/form.ts'
import { Model } from './model.ts'
import { type HostMode, HostProcessor } from './native/host.ts'
import type { RecordShape } from './native/layout.ts'
import { smallestCase } from './smallest-case.ts'

/** Forms that a thread runs together. */
export interface FormTask {
  /** The compiled oracle.c. */
  readonly program: string
  readonly mode: HostMode
  /** Lines of forms. */
  readonly forms: readonly string[]
  readonly shape: RecordShape
  readonly selection: CaseSelection
}

let model: Model | undefined

/** What became of the forms of a task, each with its first difference made small. */
export default async function runForms(task: FormTask): Promise<FormResult[]> {
  model ??= new Model(new Interpreter(), task.mode)
  const experiment = new Experiment(new HostProcessor(task.program), model)
  const forms = task.forms.map((line) => parseForm(line)!)
  const results = await experiment.run(forms, task.selection, task.shape)
  for (const result of results) {
    if (result.first !== undefined) result.first = await smallestCase(experiment, result.first)
  }
  return results
}
