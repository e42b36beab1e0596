import type { IntakeWarning, MapFormat, MapKind, MemoryMapText } from './memory-map-text.ts'
import type { ReadMaps } from './read-memory-maps.ts'

/** A number below 2^53, or hex with `0x` from there on. */
export type JsonNumber = number | string

/** What `trapdoor inspect map FILE --reporter json` prints. */
export interface MapInspection {
  readonly maps: readonly {
    readonly format: MapFormat
    readonly kind: MapKind
    readonly complete: boolean
    readonly missing?: string
    readonly descriptors: readonly {
      /** EFI_MEMORY_TYPE as its number, since firmware uses values without a name. */
      readonly type: number
      /** Bytes. */
      readonly start: JsonNumber
      readonly pages: JsonNumber
      /** Null where the form prints none. */
      readonly attribute: JsonNumber | null
    }[]
    readonly warnings: readonly IntakeWarning[]
  }[]
  readonly warnings: readonly IntakeWarning[]
}

/** The maps as JSON can hold them. */
export function toInspection(read: ReadMaps): MapInspection {
  return { maps: read.maps.map(inspectMap), warnings: read.warnings }
}

function inspectMap(map: MemoryMapText): MapInspection['maps'][number] {
  return {
    format: map.format,
    kind: map.kind,
    complete: map.complete,
    ...(map.missing === undefined ? {} : { missing: map.missing }),
    descriptors: map.entries.map(({ type, start, pages, attribute }) => ({
      type,
      start: toJson(start),
      pages: toJson(pages),
      attribute: attribute === null ? null : toJson(attribute),
    })),
    warnings: map.warnings,
  }
}

function toJson(value: bigint): JsonNumber {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : `0x${value.toString(16)}`
}
