import { QUIRK_HOOK_NAMES } from '@trapdoor/firmware'
import type { AddressSpaceLayout } from '@trapdoor/kernel'
import { z } from 'zod'
import { HarnessError } from '../error.ts'
import { issueWording } from '../issue-wording.ts'
import { nameHint } from '../nearest.ts'

const callable = z.custom<(...args: never[]) => unknown>(
  (value) => typeof value === 'function',
  'a function',
)
const name = z.string().regex(/^[^\s/+:#,=]+$/, 'a name without spaces and without / + : # , =')
const sources = z.array(z.string().min(1))

const hookShape = Object.fromEntries(QUIRK_HOOK_NAMES.map((hook) => [hook, callable.optional()]))

const quirk = z.strictObject({
  id: name,
  name,
  title: z.string().min(1),
  sources,
  architectures: z
    .array(z.enum(['x64', 'ia32']))
    .min(1)
    .optional(),
  hooks: z.strictObject(hookShape),
})

const strategyOption = z.strictObject({
  values: z.array(name).min(1),
  default: name,
  title: z.string().min(1),
})

const version = z.string().regex(/^\d+\.\d+$/, 'a version such as "6.1"')
const isLayout = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && 'pageOffset' in value && 'mode' in value

const strategy = z.strictObject({
  name,
  title: z.string().min(1),
  mode: z.enum(['virtual', 'physical']),
  sources,
  alternatives: z.array(name).optional(),
  chosenByEfi: name.optional(),
  linux: z
    .strictObject({ from: version, before: version.optional(), as: version.optional() })
    .optional(),
  layout: z
    .union(
      [z.custom<AddressSpaceLayout>(isLayout), callable],
      'a layout of @trapdoor/kernel, or a function of the options',
    )
    .optional(),
  firmware: z.enum(['x64', 'ia32']).optional(),
  efiOnlyWithRuntimeMap: z.boolean().optional(),
  rewindable: z.boolean().optional(),
  hardening: z
    .strictObject({
      ibt: z.enum(['before-setup', 'after-setup']).optional(),
      lass: z.literal('after-setup').optional(),
    })
    .optional(),
  options: z.record(name, strategyOption).optional(),
  create: callable,
})

const scenarioStep = z.strictObject({
  name: z.string().min(1),
  anyStrategy: z.boolean().optional(),
  run: callable,
})

const scenario = z.strictObject({
  name,
  title: z.string().min(1),
  cpus: z.int().min(1).optional(),
  steps: z.array(scenarioStep).min(1),
  programs: z.array(z.array(callable).min(1)).min(2).optional(),
})

const rule = z.strictObject({
  id: name,
  title: z.string().min(1),
  severity: z.enum(['error', 'warning', 'info']),
  advice: z.string().min(1),
  sources,
  rewindable: z.boolean().optional(),
  watch: callable,
})

const pluginShape = {
  name: z.string().min(1),
  apiVersion: z.literal(1),
  version: z.string().optional(),
  quirks: z.array(quirk).optional(),
  strategies: z.array(strategy).optional(),
  scenarios: z.array(scenario).optional(),
  rules: z.array(rule).optional(),
}
const pluginSchema = z.strictObject(pluginShape)

const LEGAL_KEYS: Readonly<Record<string, readonly string[]>> = {
  '': Object.keys(pluginShape),
  quirks: Object.keys(quirk.shape),
  'quirks.hooks': QUIRK_HOOK_NAMES,
  strategies: Object.keys(strategy.shape),
  'strategies.options': Object.keys(strategyOption.shape),
  scenarios: Object.keys(scenario.shape),
  'scenarios.steps': Object.keys(scenarioStep.shape),
  rules: Object.keys(rule.shape),
}

/** Throws HARNESS_BAD_PLUGIN unless `candidate` is a plugin. */
export function checkPlugin(candidate: unknown): void {
  const label = pluginLabel(candidate)
  const parsed = pluginSchema.safeParse(candidate)
  if (!parsed.success) throw badPlugin(label, candidate, parsed.error.issues[0]!)
  const { quirks = [], strategies = [], scenarios = [], rules = [] } = parsed.data
  refuseTwice(
    label,
    'quirk id',
    quirks.map(({ id }) => id),
  )
  refuseTwice(
    label,
    'quirk name',
    quirks.map((each) => each.name),
  )
  refuseTwice(
    label,
    'strategy',
    strategies.map((each) => each.name),
  )
  refuseTwice(
    label,
    'scenario',
    scenarios.map((each) => each.name),
  )
  refuseTwice(
    label,
    'rule',
    rules.map(({ id }) => id),
  )
  for (const { name: owner, options = {} } of strategies) {
    for (const [option, { values, default: fallback }] of Object.entries(options)) {
      if (values.includes(fallback)) continue
      throw new HarnessError('HARNESS_BAD_PLUGIN', {
        expected: `the default of option "${option}" among its values (${values.join(', ')})`,
        found: `"${fallback}" in strategy "${owner}" of ${label}`,
      })
    }
  }
}

/** `plugin "name"`, or what there is instead of a name. */
export function pluginLabel(candidate: unknown): string {
  const named = z.object({ name: z.string() }).safeParse(candidate)
  return named.success ? `plugin "${named.data.name}"` : 'a plugin without a name'
}

function badPlugin(label: string, candidate: unknown, issue: z.core.$ZodIssue): HarnessError {
  const place = issue.path.length === 0 ? label : `${placeName(candidate, issue.path)} of ${label}`
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0]!
    const parents = issue.path.filter((part) => typeof part === 'string').slice(0, 2)
    const legal = LEGAL_KEYS[parents.join('.')] ?? []
    return new HarnessError('HARNESS_BAD_PLUGIN', {
      expected: parents[1] === 'hooks' ? 'a hook of the firmware' : 'a key that plugins have',
      found: `"${key}" in ${place}`,
      hint: nameHint(key, legal),
    })
  }
  if (issue.path[0] === 'apiVersion') {
    return new HarnessError('HARNESS_BAD_PLUGIN', {
      expected: 'apiVersion 1',
      found: `${JSON.stringify(valueAt(candidate, issue.path))} in ${label}`,
      hint: 'this Trapdoor speaks plugin interface 1; a plugin for another needs another Trapdoor',
    })
  }
  return new HarnessError('HARNESS_BAD_PLUGIN', {
    expected: issueWording(issue).expected,
    found: `${describe(valueAt(candidate, issue.path))} in ${place}`,
  })
}

/** `quirks[2] "Q06".hooks.powerOn`: indexes carry the name that the element has. */
function placeName(candidate: unknown, path: readonly PropertyKey[]): string {
  let text = ''
  for (const [depth, part] of path.entries()) {
    if (typeof part !== 'number') {
      text += text === '' ? String(part) : `.${String(part)}`
      continue
    }
    const element = z
      .object({ id: z.string().optional(), name: z.string().optional() })
      .safeParse(valueAt(candidate, path.slice(0, depth + 1)))
    const known = element.success ? (element.data.id ?? element.data.name) : undefined
    text += known === undefined ? `[${part}]` : `[${part}] "${known}"`
  }
  return text
}

function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  let value = root
  for (const part of path) {
    if (typeof value !== 'object' || value === null) return undefined
    value = Reflect.get(value, part)
  }
  return value
}

function describe(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (Array.isArray(value)) return 'a list'
  return typeof value === 'object' || typeof value === 'function'
    ? `a ${typeof value}`
    : JSON.stringify(value)
}

function refuseTwice(label: string, kind: string, names: readonly string[]): void {
  const twice = names.find((each, index) => names.indexOf(each) !== index)
  if (twice === undefined) return
  throw new HarnessError('HARNESS_BAD_PLUGIN', {
    expected: `every ${kind} once`,
    found: `"${twice}" twice in ${label}`,
  })
}
