import {
  type CpuException,
  describePageFault,
  type FaultSite,
  formatAddress,
  inspectAddress,
  type Machine,
  PageFault,
  type WalkStep,
} from '@trapdoor/core'
import type { Firmware } from '@trapdoor/firmware'
import type { Kernel } from '@trapdoor/kernel'
import type { Finding, FindingPhysical } from '../results/results.ts'
import type { FindingDraft, Rule } from '../rules/rule.ts'

/** Where a finding was made, beside what the rule says. */
export interface FindingPlace {
  readonly machine: Machine
  readonly firmware: Firmware
  readonly kernel: Kernel | undefined
  /** The exception that ended it, where one did. */
  readonly exception?: CpuException | undefined
  /** Image whose code ran. */
  readonly image?: string | undefined
}

/** A finding but for what it is worth in the end, and for the command that shows it again, which depends on the case. */
export type PlacedFinding = Omit<Finding, 'outcome' | 'reproduce'>

/** Makes a finding of what a rule says: adds who and where, the walk level by level, and what lies at the end of it. */
export function placeFinding(rule: Rule, draft: FindingDraft, place: FindingPlace): PlacedFinding {
  const { kernel, exception } = place
  const fault = exception instanceof PageFault ? exception : undefined
  const address = draft.address ?? fault?.address
  const translated =
    address === undefined
      ? undefined
      : translate(place, address, rootOf(draft, exception?.site, place))
  const access = draft.access ?? fault?.access ?? 'read'
  const physical = draft.physical ?? translated?.physical
  const instruction =
    exception === undefined ? undefined : describeInstruction(place, exception.site)
  return {
    rule: rule.id,
    severity: draft.severity ?? rule.severity,
    title: rule.title,
    message: draft.message,
    kernel: kernel?.name ?? place.machine.log.era,
    phase: kernel?.phase ?? 'before any kernel',
    service: draft.call?.service ?? null,
    actor: draft.actor ?? place.image ?? 'kernel',
    access:
      address === undefined
        ? null
        : {
            kind: access,
            address: formatAddress(address),
            errorCode:
              fault !== undefined && fault.address === address
                ? describePageFault(fault.errorCode)
                : null,
          },
    ...(instruction === undefined ? {} : { instruction }),
    walk: (fault !== undefined && fault.address === address && fault.steps.length > 0
      ? fault.steps
      : (translated?.steps ?? [])
    ).map(formatStep),
    physical: physical === undefined ? null : describePhysical(place, physical),
    explanation: draft.explanation,
    advice: rule.advice,
    sources: [...rule.sources],
  }
}

/** Where machine code stood: its address, and where that is in its image. Undefined for a model's functions, which have no instructions. */
function describeInstruction(place: FindingPlace, { rip, cr3 }: FaultSite): string | undefined {
  if (rip === undefined || place.machine.executor === undefined) return undefined
  const { physical } = translate(place, rip, cr3)
  const image = place.firmware.images.find(
    ({ base, bytes }) => physical !== undefined && physical >= base && physical < base + bytes,
  )
  const inImage =
    image === undefined ? '' : ` (${image.name}+0x${(physical! - image.base).toString(16)})`
  return `${formatAddress(rip)}${inImage}`
}

/** What lies at a physical address: the descriptor of the firmware's map, and whose the frame is. */
export function describePhysical(
  place: Pick<FindingPlace, 'machine' | 'firmware'>,
  physical: number,
): FindingPhysical {
  const owner = place.machine.memory.owners.get(Math.floor(physical / 4096))
  return {
    address: formatAddress(physical),
    descriptor: place.firmware.describePhysical(physical) ?? null,
    owner: owner?.name ?? null,
  }
}

function rootOf(draft: FindingDraft, site: FaultSite | undefined, place: FindingPlace): number {
  return draft.root ?? site?.cr3 ?? draft.call?.cpu.cr3 ?? place.machine.bootCpu.cr3
}

function translate(
  { machine }: FindingPlace,
  address: bigint,
  root: number,
): { steps: readonly WalkStep[]; physical: number | undefined } {
  const found = inspectAddress(machine.bootCpu.translationContext(root), address)
  return {
    steps: found.steps,
    physical: found.status === 'mapped' ? found.physical : undefined,
  }
}

function formatStep(step: WalkStep): Finding['walk'][number] {
  return {
    entry: step.entry,
    table: formatAddress(step.table),
    index: step.index,
    value: formatAddress(step.value),
  }
}
