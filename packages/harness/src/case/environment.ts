import { CPU_MODELS, type Machine } from '@trapdoor/core'
import { Interpreter } from '@trapdoor/cpu'
import { createFirmware, type Firmware } from '@trapdoor/firmware'
import {
  type IntakeWarning,
  readMemoryMaps,
  selectFirmwareMap,
  toMemoryDescriptors,
} from '@trapdoor/intake'
import {
  createKernelHooks,
  type HandOff,
  type Kernel,
  type LoaderHabits,
  loadKernel,
  type RuntimeCall,
} from '@trapdoor/kernel'
import { type FirmwareSnapshot, readObservedSnapshot } from '@trapdoor/snapshot'
import { descriptorEnd, isRuntime, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { SyncHook } from 'tapable'
import type { CaseSpec } from '../config/case-spec.ts'
import { explainCommand } from '../config/reproduce.ts'
import type { MemoryMapFile, ResolvedConfig } from '../config/resolved-config.ts'
import { HarnessError } from '../error.ts'
import type { MemoryMapSummary } from '../results/results.ts'
import type { Death, FindingDraft, Rule, RuleHooks, TableInspection } from '../rules/rule.ts'
import { explainsItself, isMachineOutcome } from './error-kind.ts'
import { readMapFile } from './map-file.ts'
import { GuardedTaps, RuleGuard } from './rule-guard.ts'
import { RuleMemory } from './rule-memory.ts'

/** A memory map that cases run on, and the real firmware that has it, where there is one. */
interface LoadedMap {
  readonly summary: MemoryMapSummary
  readonly descriptors: readonly MemoryDescriptor[]
  readonly snapshot?: FirmwareSnapshot
}

/** Told what happens on one machine. */
export interface CaseListener {
  finding(rule: Rule, kernel: Kernel, draft: FindingDraft): void
  phase(kernel: Kernel): void
  entered(call: RuntimeCall): void
  left(call: RuntimeCall): void
  refused(kernel: Kernel, reason: string): void
}

/** What a rule says of a death. */
export interface Diagnosis {
  readonly rule: Rule
  readonly draft: FindingDraft
}

/** Variants of firmware that are kept powered on: those of a row, with one, two and four CPUs, and of the row before. */
const MOST_FIRMWARE = 8

/** What the cases of a run share: memory maps that were read, firmware that was powered on, rules that watch. */
export class CaseEnvironment {
  readonly config: ResolvedConfig
  readonly hooks: RuleHooks
  /** What the rules know of the kernels of the case that runs. */
  readonly rules: RuleMemory = new RuleMemory()
  /** Whether cases may share what they have in common: where every rule can be rewound. */
  readonly sharesBoots: boolean
  readonly #maps: ReadonlyMap<string, LoadedMap>
  readonly #firmware: Map<string, Firmware> = new Map()
  /** Runs the instructions of real firmware; what it has decoded serves all cases. */
  readonly #executor: Interpreter = new Interpreter()
  readonly #loaded: WeakMap<Firmware, Map<string, HandOff>> = new WeakMap()
  readonly #listeners: WeakMap<Machine, CaseListener> = new WeakMap()
  readonly #diagnoses: (readonly [Rule, (death: Death) => FindingDraft | undefined])[] = []

  constructor(config: ResolvedConfig, maps: ReadonlyMap<string, LoadedMap>) {
    this.config = config
    this.#maps = maps
    this.hooks = Object.freeze({
      ...createKernelHooks(),
      tablesInspected: new SyncHook<[TableInspection]>(['inspection']),
    })
    const listener = (kernel: Kernel): CaseListener | undefined =>
      this.#listeners.get(kernel.machine)
    // The harness listens before the rules do, so that it knows the state that a rule reports in.
    const name = 'harness'
    this.hooks.phase.tap(name, (kernel) => listener(kernel)?.phase(kernel))
    this.hooks.callEntered.tap(name, (call) => listener(call.kernel)?.entered(call))
    this.hooks.refused.tap(name, (kernel, reason) => listener(kernel)?.refused(kernel, reason))
    const taps = new GuardedTaps(this.hooks)
    for (const rule of config.registry.rules.values()) {
      const guard = new RuleGuard(rule, config.registry)
      taps.during(guard, () => {
        rule.watch({
          hooks: this.hooks,
          perKernel: (state) => this.rules.perKernel(state),
          report: (kernel, draft) => listener(kernel)?.finding(rule, kernel, draft),
          diagnose: (explain) => {
            this.#diagnoses.push([rule, (death) => guard.run(() => explain(death))])
          },
        })
      })
    }
    this.hooks.callLeft.tap(name, (call) => listener(call.kernel)?.left(call))
    const { rules } = config.registry
    this.sharesBoots = [...rules.values()].every(({ rewindable }) => rewindable === true)
  }

  /** Whether all that watches a kernel and calls firmware for it can be rewound. */
  isRewindable({ strategy }: Kernel): boolean {
    return this.sharesBoots && (strategy === undefined || strategy.definition.rewindable === true)
  }

  /** The memory maps, in the order of the configuration. */
  get memoryMaps(): readonly MemoryMapSummary[] {
    return [...this.#maps.values()].map(({ summary }) => summary)
  }

  /** The variant of a case. It is powered on once for all cases that share it and follow one another. */
  firmware(spec: CaseSpec, cpus: number): Firmware {
    const key = `${spec.memoryMapId}/${spec.quirks.join('+')}/${cpus}`
    let firmware = this.#firmware.get(key)
    if (firmware === undefined) {
      const map = this.#maps.get(spec.memoryMapId)
      if (map === undefined) {
        throw new HarnessError('HARNESS_NO_MEMORY_MAP', {
          expected: 'a memory map of the configuration',
          found: `"${spec.memoryMapId}"`,
        })
      }
      const variant = {
        name: spec.memoryMapId,
        quirks: spec.quirks.map((id) => this.config.registry.quirk(id)),
        cpus,
      }
      const { cpu, instructionLimit } = this.config
      const { snapshot, descriptors: memoryMap, summary } = map
      firmware =
        snapshot === undefined
          ? createFirmware({
              ...variant,
              memoryMap,
              architecture: summary.architecture ?? 'x64',
              features: CPU_MODELS[cpu ?? 'nehalem'],
            })
          : createFirmware({
              ...variant,
              snapshot,
              executor: this.#executor,
              instructionLimit,
              ...(cpu === undefined ? {} : { features: CPU_MODELS[cpu] }),
            })
    }
    // The last ones are kept: cases come by firmware, and a machine of each of hundreds would only be in the garbage collector's way.
    this.#firmware.delete(key)
    this.#firmware.set(key, firmware)
    if (this.#firmware.size > MOST_FIRMWARE) {
      const [oldest] = this.#firmware.keys()
      this.#firmware.delete(oldest!)
    }
    return firmware
  }

  /**
   * A machine that was switched on with a firmware and whose loader is about to jump into a kernel, each time a copy of one that was taken so far once. Undefined where it does
   * not get there: whoever loads a kernel on a machine of the case's own sees why.
   */
  loaded(firmware: Firmware, commandLine: string, habits: LoaderHabits): HandOff | undefined {
    const known = this.#loaded.get(firmware) ?? new Map<string, HandOff>()
    this.#loaded.set(firmware, known)
    const key = `${habits.allocatesLate === true} ${commandLine}`
    let handOff = known.get(key)
    if (handOff === undefined) {
      try {
        handOff = loadKernel(firmware.powerOn(), commandLine, habits)
      } catch (error) {
        if (isMachineOutcome(error) || explainsItself(error)) return undefined
        throw error
      }
      known.set(key, handOff)
    }
    return { ...handOff, machine: handOff.machine.fork() }
  }

  /** The command that explains a case. */
  reproduce(spec: CaseSpec): string {
    return explainCommand(this.config, spec.id)
  }

  /** From now on what happens on this machine is told to `listener`. */
  listen(machine: Machine, listener: CaseListener): void {
    this.#listeners.set(machine, listener)
  }

  /** Asks the rules what killed a machine, in their order. */
  diagnose(death: Death): Diagnosis | undefined {
    for (const [rule, explain] of this.#diagnoses) {
      const draft = explain(death)
      if (draft !== undefined) return { rule, draft }
    }
    return undefined
  }
}

/**
 * Reads the memory maps of a configuration, and real firmware, and gets ready to run its cases. Throws an IntakeError where a file holds no map that can be run,
 * HARNESS_UNREADABLE_FILE where there is no such file, a SnapshotError where a folder is no snapshot.
 */
export function createEnvironment(config: ResolvedConfig): CaseEnvironment {
  const maps = new Map(config.memoryMaps.map((file) => [file.id, loadMap(file)]))
  return new CaseEnvironment(config, maps)
}

function loadMap(source: MemoryMapFile): LoadedMap {
  if (source.kind === 'snapshot') return loadSnapshot(source)
  const file = source.label ?? source.file
  const read = readMemoryMaps({ file, bytes: source.bytes ?? readMapFile(source.file) })
  const map = selectFirmwareMap(read.maps)
  const descriptors = toMemoryDescriptors(map)
  const warnings = [...read.warnings, ...map.warnings]
  return {
    descriptors,
    summary: {
      id: source.id,
      file: source.bytes === undefined ? file : null,
      ...(source.architecture === undefined ? {} : { architecture: source.architecture }),
      format: map.format,
      ...countsOf(descriptors),
      warnings: describeWarnings(warnings),
    },
  }
}

function loadSnapshot(source: MemoryMapFile): LoadedMap {
  const snapshot = readObservedSnapshot(source.file)
  const { architecture, memoryMap: descriptors, smm } = snapshot
  const file = source.label ?? source.file
  return {
    descriptors,
    snapshot,
    summary: {
      id: source.id,
      file,
      ...(architecture === 'x64' ? {} : { architecture }),
      format: SNAPSHOT_FORMAT,
      ...countsOf(descriptors),
      warnings: smm
        ? [
            `${file}: this firmware keeps its variables in system-management mode, which is not there`,
          ]
        : [],
    },
  }
}

/** What stands for the text form of a memory map that comes with a real firmware. */
const SNAPSHOT_FORMAT = 'snapshot'

function countsOf(
  descriptors: readonly MemoryDescriptor[],
): Pick<MemoryMapSummary, 'descriptors' | 'runtimeDescriptors' | 'bytesOfRam'> {
  return {
    descriptors: descriptors.length,
    runtimeDescriptors: descriptors.filter(isRuntime).length,
    bytesOfRam: bytesOfRam(descriptors),
  }
}

/** One line for each kind of warning, at the first place where it was given. */
function describeWarnings(warnings: readonly IntakeWarning[]): string[] {
  return [...Map.groupBy(warnings, ({ message }) => message).values()].map((alike) => {
    const { file, line, message } = alike[0]!
    const more = alike.length === 1 ? '' : ` (and on ${alike.length - 1} more lines)`
    return `${file}:${line}: ${message}${more}`
  })
}

/** Types that are no memory. */
const DEVICE_TYPES: ReadonlySet<number> = new Set([
  MemoryType.ReservedMemoryType,
  MemoryType.MemoryMappedIO,
  MemoryType.MemoryMappedIOPortSpace,
])

/** Bytes that are memory, whoever has them. */
function bytesOfRam(descriptors: readonly MemoryDescriptor[]): number {
  return descriptors
    .filter((descriptor) => !DEVICE_TYPES.has(descriptor.type))
    .reduce((sum, each) => sum + descriptorEnd(each) - each.physicalStart, 0)
}
