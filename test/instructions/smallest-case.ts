import { FxsaveOffset } from './cases/fpu-state.ts'
import type { DifferingCase, Experiment } from './experiment.ts'
import { RecordOffset } from './native/layout.ts'

type Simplification = (record: DataView, subject: DifferingCase) => void

const RFLAGS_PLAIN = 0x202
const MXCSR_PLAIN = 0x1f80
const FCW_PLAIN = 0x37f

/** Changes that leave less to read, each of which is kept where the case still differs. */
const SIMPLIFICATIONS: readonly Simplification[] = [
  (record) => {
    record.setUint32(RecordOffset.Rflags, RFLAGS_PLAIN, true)
  },
  (record, { shape }) => {
    for (let at = 0; at < shape.windowBytes; at++) {
      record.setUint8(RecordOffset.WindowBytes + at, 0)
    }
  },
  ...Array.from({ length: 16 }, (_, register): Simplification => (record) => {
    record.setBigUint64(RecordOffset.Registers + register * 8, 0n, true)
  }),
  onFpu((record, start) => {
    record.setUint32(start + FxsaveOffset.Mxcsr, MXCSR_PLAIN, true)
  }),
  onFpu((record, start) => {
    record.setUint16(start + FxsaveOffset.Fcw, FCW_PLAIN, true)
    record.setUint16(start + FxsaveOffset.Fsw, 0, true)
  }),
  ...Array.from({ length: 8 + 16 }, (_, register) =>
    onFpu((record, start) => {
      const at = start + FxsaveOffset.St + register * 16
      record.setBigUint64(at, 0n, true)
      record.setBigUint64(at + 8, 0n, true)
    }),
  ),
]

function onFpu(change: (record: DataView, start: number) => void): Simplification {
  return (record, { shape }) => {
    if (shape.fpu) change(record, RecordOffset.WindowBytes + shape.windowBytes)
  }
}

/** The same difference with as few registers, flags and bytes as possible. */
export async function smallestCase(
  experiment: Experiment,
  subject: DifferingCase,
): Promise<DifferingCase> {
  let { before, differences } = subject
  for (const simplify of SIMPLIFICATIONS) {
    const simpler = before.slice()
    simplify(new DataView(simpler.buffer), subject)
    if (Buffer.compare(simpler, before) === 0) continue
    const found = await experiment.differencesOf(subject.encoding, simpler, subject.shape)
    if (!isSame(found, subject.differences)) continue
    before = simpler
    differences = found
  }
  return { ...subject, before, differences }
}

/** Whether the same things differ. */
function isSame(
  found: DifferingCase['differences'],
  wanted: DifferingCase['differences'],
): boolean {
  return found.length > 0 && found.every(({ what }) => wanted.some((other) => other.what === what))
}
