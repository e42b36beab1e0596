import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import {
  IntakeError,
  isObservedBoot,
  type ObservedBoot,
  type ObservedFirmware,
  type ObservedKernel,
  readObservedBoot,
} from '@trapdoor/intake'
import { compareVersions, KernelError, type StrategyDefinition } from '@trapdoor/kernel'
import { HarnessError } from '../error.ts'
import type { Difference } from './difference.ts'
import { afterBoot, type ComparedKernels, compareKernels, endingOf } from './differences.ts'
import { explainDifference, type Explanation } from './explanations.ts'
import { firmwareOf } from './observed-firmware.ts'
import { replayBoot, type ReplayedKernel } from './replay.ts'

/** A boot that was observed, held against the model. */
export interface VerifiedBoot {
  readonly name: string
  readonly kernels: readonly VerifiedKernel[]
  /** Why it could not be held against the model: a file that is missing or cut, a version of Linux that nobody knows. Then `kernels` is empty. */
  readonly error: VerifyError | undefined
}

/** What a boot that cannot be verified is refused with. */
export type VerifyError = IntakeError | HarnessError | KernelError

/** One kernel of it. */
export interface VerifiedKernel {
  readonly stage: string
  readonly version: string
  readonly strategy: string
  /** The version that the strategy was read at, such as "7.1", where the kernel is a later one than any strategy knows of; undefined else. */
  readonly takenFor: string | undefined
  /** Descriptors and leaves of the observed kernel that were compared with what the model made. A first kernel's EFI map is no such: it is what the model was given. */
  readonly descriptors: number
  readonly leaves: number
  /** Entries of e820 maps that were compared: as given, and as corrected. */
  readonly e820Entries: number
  /** "runtime services on", or how else it ended. */
  readonly ending: string
  /** What firmware did in calls that user space made after the boot, which the model was not asked for; undefined where it did nothing that the log tells. */
  readonly notCompared: string | undefined
  /** What the boot has left nothing of, so that nothing of the model's was compared with it: a file each, by its name. */
  readonly notSeen: readonly string[]
  readonly differences: readonly VerifiedDifference[]
}

/** A difference, and why it is none of the model's where that is known. */
export type VerifiedDifference = Difference & { readonly explanation: Explanation | undefined }

/**
 * Reads the boot in `folder`, or those in its subfolders, and runs the model on each. A boot among several that cannot be read or run says so in `error`; a single one throws that: an
 * IntakeError for a folder that is no observed boot, HARNESS_NO_MEMORY_MAP where no map of the machine is at hand, HARNESS_UNKNOWN_NAME for a version of Linux without a strategy. Throws
 * HARNESS_UNREADABLE_FILE where there is no boot at all.
 */
export function verifyFolder(
  folder: string,
  strategies: Iterable<StrategyDefinition>,
): VerifiedBoot[] {
  const known = [...strategies]
  if (isObservedBoot(folder)) {
    const boot = readObservedBoot(folder)
    return [verifyBoot(boot, firmwareOf(boot, [boot]), known)]
  }
  const read = foldersOfBoots(folder).map((name) => ({
    name,
    boot: orError(() => readObservedBoot(join(folder, name))),
  }))
  const boots = read.flatMap(({ boot }) => (boot instanceof Error ? [] : [boot]))
  return read.map(({ name, boot }) => {
    const verified =
      boot instanceof Error ? boot : orError(() => verifyBoot(boot, firmwareOf(boot, boots), known))
    return verified instanceof Error ? { name, kernels: [], error: verified } : verified
  })
}

/** What `run` returns, or the error by which it refuses its input. */
function orError<Result>(run: () => Result): Result | VerifyError {
  try {
    return run()
  } catch (error) {
    if (
      error instanceof IntakeError ||
      error instanceof HarnessError ||
      error instanceof KernelError
    ) {
      return error
    }
    throw error
  }
}

function verifyBoot(
  boot: ObservedBoot,
  firmware: ObservedFirmware,
  strategies: readonly StrategyDefinition[],
): VerifiedBoot {
  const replayed = replayBoot(boot, firmware, (version, architecture) =>
    strategyOf(
      version,
      strategies.filter((definition) => calls(definition, architecture)),
    ),
  )
  const kernels: VerifiedKernel[] = []
  let before: ComparedKernels | undefined
  for (const [index, observed] of boot.kernels.entries()) {
    const model = replayed[index]
    if (model === undefined) {
      kernels.push(neverStarted(observed.stage, observed.version, replayed.at(-1)))
      continue
    }
    const compared: ComparedKernels = { observed, model, before }
    const differences = compareKernels(compared)
    const attributesTable = {
      inMap: firmware.memoryAttributes?.address,
      inLog: observed.tables.get('MEMATTR'),
    }
    kernels.push({
      stage: observed.stage,
      version: observed.version,
      strategy: model.strategy,
      takenFor: takenFor(observed.version, strategies, model.strategy),
      descriptors:
        (observed.runtimeMap?.length ?? 0) +
        (before === undefined ? 0 : (observed.efiMap?.length ?? 0)),
      leaves: observed.leaves?.length ?? 0,
      e820Entries: (observed.e820?.length ?? 0) + (observed.iomem?.e820.length ?? 0),
      ending: endingOf(observed.ending),
      notCompared: afterBoot(observed),
      notSeen: notSeen(observed),
      differences: differences.map((difference) =>
        Object.assign(difference, {
          explanation: explainDifference(difference, { ...compared, differences, attributesTable }),
        }),
      ),
    })
    before = compared
  }
  return { name: boot.name, kernels, error: undefined }
}

/** A kernel without runtime services has neither regions nor tables. */
function notSeen({ stage, e820, iomem, runtimeMap, leaves, ending }: ObservedKernel): string[] {
  const has = ending.runtimeServices
  const files: readonly (readonly [file: string, isMissing: boolean])[] = [
    ['firmware-memmap.txt', e820 === undefined],
    ['iomem.txt', ending.panic === undefined && iomem === undefined],
    ['runtime-map.txt', has && runtimeMap === undefined],
    ['efi-pgd.json', has && leaves === undefined],
  ]
  return files.flatMap(([file, isMissing]) => (isMissing ? [`${stage}.${file}`] : []))
}

/** A kernel that ran on the observed machine, while the model's had died before. */
function neverStarted(
  stage: string,
  version: string,
  last: ReplayedKernel | undefined,
): VerifiedKernel {
  return {
    stage,
    version,
    strategy: 'none',
    takenFor: undefined,
    descriptors: 0,
    leaves: 0,
    e820Entries: 0,
    ending: 'it ran',
    notCompared: undefined,
    notSeen: [],
    differences: [
      {
        subject: 'ending',
        observed: 'a kernel that ran',
        model: `none, as the one before died: ${last?.death?.message ?? 'nobody knows why'}`,
        explanation: undefined,
      },
    ],
  }
}

function foldersOfBoots(folder: string): string[] {
  const isFolder = statSync(folder, { throwIfNoEntry: false })?.isDirectory() === true
  const found = isFolder
    ? readdirSync(folder, { withFileTypes: true })
        .filter((entry) => entry.isDirectory() && isObservedBoot(join(folder, entry.name)))
        .map(({ name }) => name)
        .toSorted()
    : []
  if (found.length > 0) return found
  throw new HarnessError('HARNESS_UNREADABLE_FILE', {
    expected:
      'the folder of an observed boot (command.txt, boot1.dmesg.gz, …), or one of such folders',
    found: isFolder
      ? 'a folder without command.txt'
      : existsSync(folder)
        ? 'a file'
        : 'no such folder',
    file: folder,
  })
}

/** Whether a strategy of 64-bit kernels calls firmware of this width. */
function calls({ firmware = 'x64' }: StrategyDefinition, architecture: 'x64' | 'ia32'): boolean {
  return firmware === architecture
}

/** What a kernel is taken for that is newer than the last version a strategy was read at: that strategy stands for all to come. */
function takenFor(
  version: string,
  strategies: readonly StrategyDefinition[],
  strategy: string,
): string | undefined {
  const { linux } = strategies.find(({ name }) => name === strategy) ?? {}
  const release = /^\d+\.\d+/.exec(version)?.[0] ?? version
  const isLater =
    linux?.as !== undefined && linux.before === undefined && compareVersions(release, linux.as) > 0
  return isLater ? linux.as : undefined
}

/** The strategy of a version of Linux, such as "6.1.0-56-cloud-amd64". */
function strategyOf(
  version: string,
  strategies: readonly StrategyDefinition[],
): StrategyDefinition {
  const found = strategies.find(
    ({ linux }) =>
      linux !== undefined &&
      compareVersions(version, linux.from) >= 0 &&
      (linux.before === undefined || compareVersions(version, linux.before) < 0),
  )
  if (found !== undefined) return found
  throw new HarnessError('HARNESS_UNKNOWN_NAME', {
    expected: 'a version of Linux that a strategy stands for',
    found: version,
    hint: '`trapdoor list strategies` shows them; a strategy plugin says its versions in `linux`',
  })
}
