import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { type Form, parseForm } from './form.ts'
import { implementedForms } from './implemented.ts'

/** Forms that belong together: those that some code uses are kept in lists/. */
export interface FormList {
  readonly name: string
  readonly title: string
  readonly forms: readonly Form[]
}

const COMMENT = '#'

/** What the command runs. A list that is kept says in its first lines how it was made. */
export const FORM_LISTS: readonly FormList[] = [
  readList('ovmf', 'runtime code of OVMF, builds of 2 MiB and 4 MiB'),
  readList('kvm-unit-tests', 'kvm-unit-tests for x86-64'),
  {
    name: 'implemented',
    title: 'every opcode that the interpreter has',
    forms: implementedForms(),
  },
]

function readList(name: string, title: string): FormList {
  const text = readFileSync(join(import.meta.dirname, 'lists', `${name}.txt`), 'utf8')
  const forms = text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith(COMMENT))
    .map((line) => {
      const form = parseForm(line)
      if (form === undefined) throw new Error(`lists/${name}.txt: "${line}" is no form`)
      return form
    })
  return { name, title, forms }
}
