import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { type ObservedBoot, type ObservedFirmware, readObservedBoot } from '@trapdoor/intake'
import type { StrategyDefinition } from '@trapdoor/kernel'
import { HarnessError } from '../error.ts'
import { compareKernels, type Difference } from './differences.ts'
import { type Evidence, explainDifference, type Explanation } from './explanations.ts'
import { replayBoot } from './replay.ts'

/** A boot that was observed, held against the model. */
export interface VerifiedBoot {
  readonly name: string
  readonly kernels: readonly VerifiedKernel[]
}

/** One kernel of it. */
export interface VerifiedKernel {
  readonly stage: string
  readonly version: string
  readonly strategy: string
  /** Descriptors and leaves that were compared: those of the observed kernel. */
  readonly descriptors: number
  readonly leaves: number
  /** "runtime services on", or how else it ended. */
  readonly ending: string
  readonly differences: readonly VerifiedDifference[]
}

/** A difference, and why it is none of the model's where that is known. */
export type VerifiedDifference = Difference & { readonly explanation: Explanation | undefined }

/**
 * Reads the boot in `folder`, or those in its subfolders, and runs the model on each. Throws an IntakeError for a folder that is no observed boot, HARNESS_UNREADABLE_FILE
 * where there is none, and HARNESS_NO_MEMORY_MAP where no map of the machine is at hand.
 */
export function verifyFolder(
  folder: string,
  strategies: Iterable<StrategyDefinition>,
): VerifiedBoot[] {
  const boots = foldersOfBoots(folder).map(readObservedBoot)
  const known = [...strategies]
  return boots.map((boot) => verifyBoot(boot, firmwareOf(boot, boots), known))
}

function verifyBoot(
  boot: ObservedBoot,
  firmware: ObservedFirmware,
  strategies: readonly StrategyDefinition[],
): VerifiedBoot {
  const replayed = replayBoot(boot, firmware, (version) => strategyOf(version, strategies))
  const kernels = replayed.map((model, index) => {
    const observed = boot.kernels[index]!
    const differences = compareKernels(observed, model)
    const evidence: Evidence = {
      observed,
      model,
      differences,
      attributesTable: {
        inMap: firmware.memoryAttributes?.address,
        inLog: observed.memoryAttributesTable,
      },
    }
    return {
      stage: observed.stage,
      version: observed.version,
      strategy: model.strategy,
      descriptors: observed.runtimeMap?.length ?? 0,
      leaves: observed.leaves?.length ?? 0,
      ending:
        observed.ending.panic ??
        (observed.ending.runtimeServices ? 'runtime services on' : 'no runtime services'),
      differences: differences.map((difference) =>
        Object.assign(difference, { explanation: explainDifference(difference, evidence) }),
      ),
    }
  })
  return { name: boot.name, kernels }
}

function foldersOfBoots(folder: string): string[] {
  if (isBoot(folder)) return [folder]
  const found = existsSync(folder)
    ? readdirSync(folder)
        .map((name) => join(folder, name))
        .filter(isBoot)
    : []
  if (found.length > 0) return found
  throw new HarnessError('HARNESS_UNREADABLE_FILE', {
    expected:
      'the folder of an observed boot (command.txt, boot1.dmesg.gz, …), or one of such folders',
    found: existsSync(folder) ? 'a folder without command.txt' : 'no such folder',
    file: folder,
  })
}

function isBoot(folder: string): boolean {
  return existsSync(join(folder, 'command.txt'))
}

/** The firmware that a boot ran on: what it printed, or what another boot of the same machine did. */
function firmwareOf(boot: ObservedBoot, boots: readonly ObservedBoot[]): ObservedFirmware {
  const firmware =
    boot.firmware ??
    boots.find((each) => each.machine === boot.machine && each.firmware !== undefined)?.firmware
  if (firmware !== undefined) return firmware
  throw new HarnessError('HARNESS_NO_MEMORY_MAP', {
    expected: `the memory map of the firmware of ${boot.name}`,
    found: 'no firmware-map.txt, and no other boot of the same machine that has one',
    hint: 'boot the same machine once with efi=debug, and put its log there',
  })
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

/** Compares by the first two numbers of a version. */
function compareVersions(a: string, b: string): number {
  const [majorA, minorA] = numbersOf(a)
  const [majorB, minorB] = numbersOf(b)
  return majorA - majorB || minorA - minorB
}

function numbersOf(version: string): readonly [major: number, minor: number] {
  const [major = '', minor = ''] = version.split('.', 2)
  return [Number.parseInt(major, 10), Number.parseInt(minor, 10)]
}
