import { CPU_MODELS, type CpuModelName } from '@trapdoor/core'
import type { Architecture } from '@trapdoor/uefi'
import { z } from 'zod'
import type { PluginReference } from '../plugin/load.ts'

/** A real firmware: the folder of a snapshot of it, as `trapdoor capture` writes it. */
export interface SnapshotReference {
  /** Relative to the configuration. */
  readonly snapshot: string
}

/** A real firmware from a snapshot, in place of a memory map and a model: `memoryMaps: [{ id: 'ovmf', firmware: fromSnapshot('ovmf-4m') }]`. It brings its own map, and quirks apply on top of it. */
export function fromSnapshot(path: string): SnapshotReference {
  return { snapshot: path }
}

/**
 * A memory map to run on: a file, relative to the configuration, with an id of its own where the file's name will not do, and what the machine's firmware is built for, which is
 * x64 where nothing is said. Or a real firmware, with the map that it has.
 */
export type MemoryMapReference =
  | string
  | {
      readonly id: string
      readonly file: string
      readonly architecture?: Architecture['name'] | undefined
    }
  | SnapshotReference
  | { readonly id: string; readonly firmware: SnapshotReference }

/** What a `trapdoor.config.*` holds. Relative paths start from its directory. */
export interface TrapdoorConfig {
  /** For editors; ignored. */
  readonly $schema?: string
  /** Kernel logs and other texts that hold a machine's memory map. `--memory-map` replaces them. */
  readonly memoryMaps?: readonly MemoryMapReference[]
  /** Plugins beside the built-in ones: values, names of modules, or `[name, options]`. */
  readonly plugins?: readonly PluginReference[]
  /**
   * Firmware variants, a row each: "none", a quirk, a list of quirks that one firmware has together, or "*" for none and
   * every quirk alone (the default).
   */
  readonly firmware?: readonly (string | readonly string[])[]
  /** Strategies, a column each: a name, `name:option=value,…`, `[name, options]`, or "*" for all with their default options (the default). */
  readonly strategies?: readonly (string | readonly [string, Readonly<Record<string, string>>])[]
  /** Scenarios by name, or "*" for all (the default). */
  readonly scenarios?: readonly string[]
  readonly kernel?: {
    /** The first kernel's command line, such as "virtefi crashkernel=128M". */
    readonly commandLine?: string
  }
  /** The CPU to run on. Default: "nehalem", for a real firmware the one that it was captured on. */
  readonly cpu?: CpuModelName
  /** Default: 1. The same seed gives the same bytes. */
  readonly seed?: number
  /** Instructions after which a call of a real firmware is taken for one that does not end: a hang. Default: 100 million, twenty times what the longest known call takes. */
  readonly instructionLimit?: number
  /** A JSON file of expected outcomes by case id; a case that it does not name is expected to be ok. */
  readonly expect?: string
  /** Where the results go. Default: "results.json". */
  readonly output?: string
}

const pluginValue = z.custom<PluginReference>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
)

const memoryMap = z.strictObject({
  id: z.string(),
  file: z.string(),
  architecture: z.enum(['x64', 'ia32']).optional(),
})
const snapshot = z.strictObject({ snapshot: z.string() })
const realFirmware = z.strictObject({ id: z.string(), firmware: snapshot })
const kernel = z.strictObject({ commandLine: z.string().optional() })
const configShape = {
  $schema: z.string().optional(),
  memoryMaps: z
    .array(
      z.union(
        [z.string(), memoryMap, snapshot, realFirmware],
        'the name of a file, {id, file, architecture}, or {id, firmware: {snapshot}}',
      ),
    )
    .optional(),
  plugins: z
    .array(
      z.union(
        [z.string(), z.tuple([z.string(), z.unknown()]), pluginValue],
        'a plugin, the name of a module, or [name, options]',
      ),
    )
    .optional(),
  firmware: z
    .array(
      z.union(
        [z.string(), z.array(z.string()).min(1)],
        '"none", a quirk, a list of quirks, or "*"',
      ),
    )
    .min(1)
    .optional(),
  strategies: z
    .array(
      z.union(
        [z.string(), z.tuple([z.string(), z.record(z.string(), z.string())])],
        'a strategy as "name", "name:option=value" or [name, {option: value}], or "*"',
      ),
    )
    .min(1)
    .optional(),
  scenarios: z.array(z.string()).min(1).optional(),
  kernel: kernel.optional(),
  cpu: z.enum(Object.keys(CPU_MODELS) as [CpuModelName, ...CpuModelName[]]).optional(),
  seed: z.int().min(0).optional(),
  instructionLimit: z.int().min(1).optional(),
  expect: z.string().optional(),
  output: z.string().optional(),
}

/** What a configuration has to look like before its names are looked up. */
export const configSchema: z.ZodType<TrapdoorConfig> = z.strictObject(
  configShape,
) as unknown as z.ZodType<TrapdoorConfig>

/** Legal keys by the property that holds them; '' is the top. */
export const CONFIG_KEYS: Readonly<Record<string, readonly string[]>> = {
  '': Object.keys(configShape).filter((key) => key !== '$schema'),
  kernel: Object.keys(kernel.shape),
}

/** Gives a `trapdoor.config.ts` its types. The configuration is checked when it is loaded. */
export function defineConfig(config: TrapdoorConfig): TrapdoorConfig {
  return config
}
