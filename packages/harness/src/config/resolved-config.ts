import type { CpuModelName } from '@trapdoor/core'
import type { Architecture } from '@trapdoor/uefi'
import type { PluginRegistry } from '../plugin/registry.ts'
import type { StrategySelection } from './case-spec.ts'

/** A file that holds a machine's memory map, or a folder that holds a real firmware. */
export interface MemoryMapFile {
  /** First part of the case ids. */
  readonly id: string
  /** Absolute path, or a name for bytes that come from nowhere on disk. */
  readonly file: string
  /** What results call it: the path from the working directory, which does not depend on the machine. Default: `file`. */
  readonly label?: string
  /** What the machine's firmware is built for; default x64. */
  readonly architecture?: Architecture['name']
  /** What it holds. Default: `memory map`. */
  readonly kind?: 'memory map' | 'snapshot'
  /** What `--memory-map` or `--snapshot` was given, for one that comes from the command line. */
  readonly argument?: string
  /** The text, for a map that is not to be read from `file`. */
  readonly bytes?: Uint8Array
}

/** A configuration with every name looked up, every default filled in, and every path absolute. */
export interface ResolvedConfig {
  /** The file that it came from; undefined when there was none. */
  readonly file: string | undefined
  readonly memoryMaps: readonly MemoryMapFile[]
  readonly registry: PluginRegistry
  /** Quirk ids of each firmware variant, one row of the matrix each. */
  readonly quirkSets: readonly (readonly string[])[]
  /** One column of the matrix each. */
  readonly strategies: readonly StrategySelection[]
  readonly scenarios: readonly string[]
  /** The first kernel's command line. */
  readonly commandLine: string
  /** Undefined where nothing was said. */
  readonly cpu: CpuModelName | undefined
  readonly seed: number
  /** Instructions of machine code that one call may take. */
  readonly instructionLimit: number
  /** File of expected outcomes. */
  readonly expect?: string
  /** Where the results go. */
  readonly output: string
  /** Arguments of the command line that lead to this configuration from the same working directory, but for the memory maps. */
  readonly commandArguments: readonly string[]
}
