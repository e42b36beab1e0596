import { z } from 'zod'
import { HarnessError } from '../error.ts'
import { issueWording } from '../issue-wording.ts'
import { OUTCOMES, type Results } from './results.ts'

const count = z.int().min(0)
const hex = z.string().regex(/^0x[0-9a-f]+$/)

const titled = z.strictObject({ name: z.string(), title: z.string() })

const finding = z.strictObject({
  rule: z.string(),
  severity: z.enum(['error', 'warning', 'info']),
  outcome: z.enum(OUTCOMES),
  title: z.string(),
  message: z.string(),
  kernel: z.string(),
  phase: z.string(),
  service: z.string().nullable(),
  actor: z.string(),
  access: z
    .strictObject({
      kind: z.enum(['read', 'write', 'execute']),
      address: hex,
      errorCode: z.string().nullable(),
    })
    .nullable(),
  instruction: z.string().optional(),
  walk: z.array(
    z.strictObject({ entry: z.string(), table: hex, index: z.int().min(0).max(1023), value: hex }),
  ),
  physical: z
    .strictObject({ address: hex, descriptor: z.string().nullable(), owner: z.string().nullable() })
    .nullable(),
  explanation: z.string(),
  advice: z.string(),
  sources: z.array(z.string()),
  reproduce: z.string(),
})

const caseResult = z.strictObject({
  id: z.string(),
  memoryMap: z.string(),
  quirks: z.array(z.string()),
  strategy: z.string(),
  kernel: z.strictObject({
    profile: z.string(),
    commandLine: z.string(),
    ran: z.array(z.string()),
  }),
  scenario: z.string(),
  seed: count,
  outcome: z.enum(OUTCOMES),
  reason: z.string(),
  findings: z.array(finding),
  services: z.array(
    z.strictObject({ name: z.string(), status: z.string(), ok: z.boolean(), kernel: z.string() }),
  ),
  cost: z
    .strictObject({
      tablePages: count,
      mappedBytes: count,
      writableExecutableBytes: count,
      pageZeroMapped: z.boolean(),
      bootServicesBytes: count,
      conflictingTypeBytes: count,
      perCall: z.strictObject({
        cr3Writes: z.number().min(0),
        globalFlushes: z.number().min(0),
        tlbMisses: z.number().min(0),
        walkReferences: z.number().min(0),
      }),
      price: z
        .strictObject({
          times: count,
          cr3Writes: z.number().min(0),
          globalFlushes: z.number().min(0),
          tlbMisses: z.number().min(0),
          walkReferences: z.number().min(0),
        })
        .nullable(),
    })
    .nullable(),
})

/** What a results.json has to look like; `results.schema.json` beside this file is the same as JSON Schema. */
export const resultsSchema: z.ZodType<Results> = z.strictObject({
  schemaVersion: z.literal(1),
  tool: z.strictObject({ name: z.literal('trapdoor'), version: z.string() }),
  seed: count,
  memoryMaps: z.array(
    z.strictObject({
      id: z.string(),
      file: z.string().nullable(),
      architecture: z.enum(['x64', 'ia32']).optional(),
      format: z.string(),
      descriptors: count,
      runtimeDescriptors: count,
      bytesOfRam: count,
      warnings: z.array(z.string()),
    }),
  ),
  legend: z.strictObject({
    quirks: z.array(z.strictObject({ id: z.string(), name: z.string(), title: z.string() })),
    strategies: z.array(titled),
    scenarios: z.array(titled),
  }),
  cases: z.array(caseResult),
  totals: z.strictObject({
    fault: count,
    corrupt: count,
    hang: count,
    degraded: count,
    refused: count,
    ok: count,
  }),
})

/** The JSON Schema of results.json, as text. */
export function resultsJsonSchema(): string {
  return `${JSON.stringify(z.toJSONSchema(resultsSchema), null, 2)}\n`
}

/** Reads a results.json. `file` is for errors only. Throws HARNESS_BAD_RESULTS. */
export function parseResults(text: string, file?: string): Results {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new HarnessError('HARNESS_BAD_RESULTS', {
      expected: 'JSON',
      found: cause instanceof Error ? cause.message : String(cause),
      file,
      cause,
    })
  }
  const parsed = resultsSchema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]!
  throw new HarnessError('HARNESS_BAD_RESULTS', {
    expected: 'results of schemaVersion 1',
    found: `${issueWording(issue).received ?? issue.message} at ${issue.path.join('.')}`,
    file,
  })
}
