/** Words of 32 bits of a record, by their place: 16 registers of 64 bits, then what the processor pushed, and registers that tell what a probe has changed. */
export const Slot = {
  Registers: 0,
  Vector: 32,
  ErrorCode: 33,
  Rip: 34,
  Cs: 35,
  Flags: 36,
  Rsp: 37,
  Ss: 38,
  SsNow: 39,
  Ds: 40,
  Es: 41,
  Fs: 42,
  Gs: 43,
  Cr0: 44,
  Cr2: 45,
  Cr4: 46,
  Dr6: 47,
  Count: 48,
} as const

const REGISTERS = [
  'RAX',
  'RCX',
  'RDX',
  'RBX',
  'RSP',
  'RBP',
  'RSI',
  'RDI',
  'R8',
  'R9',
  'R10',
  'R11',
  'R12',
  'R13',
  'R14',
  'R15',
]
const NAMES: readonly string[] = [
  ...REGISTERS.flatMap((name) => [name, `${name} (high)`]),
  ...Object.keys(Slot).filter((name) => name !== 'Registers' && name !== 'Count'),
]

/** How a probe ended, word by word. */
export type ProbeRecord = readonly number[]

/** The records that an image has printed, one a line. */
export function readRecords(text: string): ProbeRecord[] {
  return text
    .split(/\r?\n/)
    .filter((line) => line !== '')
    .map((line) => {
      const words = line.match(/.{8}/g) ?? []
      if (words.length !== Slot.Count) throw new RangeError(`no record: "${line}"`)
      return words.map((digits) => Number.parseInt(digits, 16))
    })
}

/** A record with some words changed. */
export function withWords(record: ProbeRecord, changes: ReadonlyMap<number, number>): ProbeRecord {
  return record.map((value, slot) => changes.get(slot) ?? value)
}

/** Where two records differ, in words. */
export function differences(ours: ProbeRecord, theirs: ProbeRecord): string[] {
  return NAMES.flatMap((name, slot) =>
    ours[slot] === theirs[slot]
      ? []
      : [`${name} is ${ours[slot]!.toString(16)}, QEMU has ${theirs[slot]!.toString(16)}`],
  )
}
