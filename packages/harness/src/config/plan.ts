import { HarnessError } from '../error.ts'
import { unknownName } from '../plugin/registry.ts'
import {
  caseId,
  type CaseSpec,
  parseCaseId,
  parseStrategyLabel,
  type StrategySelection,
  strategyLabel,
} from './case-spec.ts'
import {
  architecturesOf,
  checkedStrategy,
  fitsQuirks,
  quirkSetsOf,
  scenariosOf,
  strategiesOf,
  unique,
} from './names.ts'
import type { ResolvedConfig } from './resolved-config.ts'

/** Which cells to run instead of all. Each list may hold several values in one string, separated by commas. */
export interface CaseFilters {
  /** Ids of memory maps of the configuration. */
  readonly memoryMaps?: readonly string[] | undefined
  /** Quirks, sets of quirks (`Q01+Q20`), "none" or "*": of all that are known, not only the configuration's. */
  readonly firmware?: readonly string[] | undefined
  /** Strategies, with options where wanted: `name:option=value,option=value`. */
  readonly strategies?: readonly string[] | undefined
  readonly scenarios?: readonly string[] | undefined
}

/**
 * The cells of the matrix, in its order: memory maps, then firmware, strategies, scenarios. Throws HARNESS_UNKNOWN_NAME
 * with the nearest legal name, and HARNESS_NO_MEMORY_MAP when there is nothing to run on.
 */
export function planCases(config: ResolvedConfig, filters: CaseFilters = {}): CaseSpec[] {
  const { registry } = config
  if (config.memoryMaps.length === 0) {
    throw new HarnessError('HARNESS_NO_MEMORY_MAP', {
      expected: 'a memory map to run on',
      found: config.file === undefined ? 'no configuration and no --memory-map' : 'none',
      hint: '--memory-map FILE takes the kernel log of a real machine (`dmesg`, booted with efi=debug); `trapdoor init` writes a configuration',
      file: config.file,
    })
  }
  const memoryMaps = memoryMapIds(config, filters.memoryMaps)
  const architectures = architecturesOf(config.memoryMaps)
  const quirkSets =
    filters.firmware === undefined
      ? config.quirkSets
      : unique(
          splitCommas(filters.firmware).flatMap((name) =>
            quirkSetsOf(name, registry, architectures),
          ),
          (set) => set.join('+'),
        )
  const strategies =
    filters.strategies === undefined
      ? config.strategies
      : unique(
          splitStrategies(filters.strategies).flatMap((label) => matching(label, config)),
          strategyLabel,
        )
  const scenarios =
    filters.scenarios === undefined
      ? config.scenarios
      : unique(
          splitCommas(filters.scenarios).flatMap((name) => scenariosOf(name, registry)),
          (name) => name,
        )
  const specs: CaseSpec[] = []
  for (const memoryMapId of memoryMaps) {
    const own = architecturesOf(config.memoryMaps.filter(({ id }) => id === memoryMapId))
    for (const quirks of quirkSets) {
      // A row of other machines' firmware. Where no machine can have it, the firmware says so.
      const isOthers = fitsQuirks(quirks, registry, architectures)
      if (isOthers && !fitsQuirks(quirks, registry, own)) continue
      for (const strategy of strategies) {
        for (const scenario of scenarios) {
          const spec = { memoryMapId, quirks, strategy, scenario, seed: config.seed }
          specs.push({ id: caseId(spec), ...spec })
        }
      }
    }
  }
  return specs
}

/** The case that an id names, with all its names looked up. Throws HARNESS_BAD_CASE_ID and HARNESS_UNKNOWN_NAME. */
export function findCase(config: ResolvedConfig, id: string): CaseSpec {
  const { registry } = config
  const spec = parseCaseId(id)
  const checked = {
    memoryMapId: memoryMapIds(config, [spec.memoryMapId])[0]!,
    quirks: spec.quirks.map((name) => registry.quirk(name).id),
    strategy: checkedStrategy(spec.strategy, registry),
    scenario: registry.scenario(spec.scenario).name,
    seed: spec.seed,
  }
  return { id: caseId(checked), ...checked }
}

function memoryMapIds(config: ResolvedConfig, wanted: readonly string[] | undefined): string[] {
  const ids = config.memoryMaps.map(({ id }) => id)
  if (wanted === undefined) return ids
  return splitCommas(wanted).map((id) => (ids.includes(id) ? id : unknownMap(id, ids)))
}

function unknownMap(id: string, ids: readonly string[]): never {
  if (ids.length > 0) return unknownName('memory map', id, ids)
  throw new HarnessError('HARNESS_NO_MEMORY_MAP', {
    expected: 'a memory map',
    found: `"${id}", and none is given`,
    hint: `--memory-map ${id}=FILE takes the kernel log of a real machine, --snapshot ${id}=FOLDER a real firmware; a configuration names them once and for all`,
  })
}

/** A bare name means the configuration's columns of that strategy, or its defaults where the configuration has none. */
function matching(label: string, config: ResolvedConfig): StrategySelection[] {
  if (!label.includes(':')) {
    const columns = config.strategies.filter(({ name }) => name === label)
    return columns.length > 0
      ? columns
      : strategiesOf(label, config.registry, architecturesOf(config.memoryMaps))
  }
  return [checkedStrategy(parseStrategyLabel(label), config.registry)]
}

function splitCommas(values: readonly string[]): string[] {
  return values.flatMap((value) => value.split(',')).filter((value) => value !== '')
}

/** A comma before `option=value` goes on with the options of the strategy before it. */
function splitStrategies(values: readonly string[]): string[] {
  const labels: string[] = []
  for (const value of values) {
    for (const piece of value.split(',')) {
      const previous = labels.at(-1)
      const continues = piece.includes('=') && !piece.includes(':')
      if (continues && previous !== undefined) labels[labels.length - 1] = `${previous},${piece}`
      else if (piece !== '') labels.push(piece)
    }
  }
  return labels
}
