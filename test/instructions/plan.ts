import { recordShape } from './experiment.ts'
import { describeForm, type Form } from './forms/form.ts'
import {
  answeredByHypervisor,
  absentFeature,
  type FormTraits,
  missingFeature,
  reasonNotNative,
  traitsOf,
} from './forms/traits.ts'
import type { HostFeatures } from './native/host.ts'
import type { RecordShape } from './native/layout.ts'

/** Forms that are run together, as their records have the same shape. */
export interface FormGroup {
  readonly shape: RecordShape
  readonly forms: readonly Form[]
}

export interface Plan {
  readonly groups: readonly FormGroup[]
  /** Forms that are not run on the host, by why. */
  readonly skipped: ReadonlyMap<string, readonly Form[]>
  /** Lines of forms that need privilege level 0, so that the host shows no more than that a process may not have them. */
  readonly privileged: ReadonlySet<string>
}

/** Sorts forms: which are run on the host, and with what in their records. */
export function planForms(forms: readonly Form[], host: HostFeatures): Plan {
  const groups = new Map<string, { shape: RecordShape; forms: Form[] }>()
  const skipped = new Map<string, Form[]>()
  const privileged = new Set<string>()
  for (const form of forms) {
    const traits = traitsOf(form)
    const reason = reasonSkipped(traits, host)
    if (reason !== undefined) {
      const others = skipped.get(reason)
      if (others === undefined) skipped.set(reason, [form])
      else others.push(form)
      continue
    }
    if (traits.privileged) privileged.add(describeForm(form))
    const key = `${traits.fpu} ${traits.storesState}`
    const group = groups.get(key)
    const shape = recordShape({ fpu: traits.fpu, wide: traits.storesState })
    if (group === undefined) groups.set(key, { shape, forms: [form] })
    else group.forms.push(form)
  }
  return { groups: [...groups.values()], skipped, privileged }
}

function reasonSkipped(traits: FormTraits, host: HostFeatures): string | undefined {
  const reason = reasonNotNative(traits)
  if (reason !== undefined) return reason
  const answered = answeredByHypervisor(traits, host)
  if (answered !== undefined) return `this host has a hypervisor, ${answered}`
  const absent = absentFeature(traits, host)
  if (absent !== undefined) return `this host has ${absent}, which is not modelled`
  const lacking = missingFeature(traits, host)
  return lacking === undefined ? undefined : `this host has no ${lacking}`
}
