import { Gpr } from '@trapdoor/core'
import { Decoder, DecoderOptions, Formatter, FormatterSyntax } from 'iced-x86'

import { describeFlags, hex } from './comparison.ts'
import type { DifferingCase } from './experiment.ts'
import { FXSAVE_BYTES, RecordOffset } from './native/layout.ts'

const NAMES = Object.keys(Gpr)

/** A case that differed: bytes, disassembly, what was before, and what each side left. */
export function describeCase({
  index,
  encoding,
  before,
  shape,
  differences,
}: DifferingCase): string {
  const record = new DataView(before.buffer, before.byteOffset)
  const registers = NAMES.map(
    (name, register) => `${name} ${hex(record.getBigUint64(register * 8, true))}`,
  )
  const window = record.getBigUint64(RecordOffset.Window, true)
  const bytes = before.subarray(
    RecordOffset.WindowBytes,
    RecordOffset.WindowBytes + shape.windowBytes,
  )
  const lines = [
    `  case ${index}: ${Buffer.from(encoding.bytes).toString('hex')}  ${disassemble(encoding.bytes, encoding.form.bits, encoding.rip)}`,
    `  before  ${registers.slice(0, 8).join(' ')}`,
    `          ${registers.slice(8).join(' ')}`,
    `          RIP ${hex(encoding.rip)} RFLAGS ${describeFlags(record.getUint32(RecordOffset.Rflags, true))} FS ${hex(record.getBigUint64(RecordOffset.FsBase, true))} GS ${hex(record.getBigUint64(RecordOffset.GsBase, true))}`,
    `          memory at ${hex(window)}: ${Buffer.from(bytes).toString('hex')}`,
    ...(shape.fpu ? [describeFpu(before.subarray(before.length - FXSAVE_BYTES))] : []),
    ...differences.map(
      ({ what, ours, theirs }) => `  ${what.padEnd(9)} ours ${ours}, the host's ${theirs}`,
    ),
  ]
  return lines.join('\n')
}

function describeFpu(image: Uint8Array): string {
  return `          FXSAVE image ${Buffer.from(image.subarray(0, 416)).toString('hex')}`
}

function disassemble(bytes: Uint8Array, bits: 32 | 64, rip: bigint): string {
  const decoder = new Decoder(bits, bytes, DecoderOptions.None)
  decoder.ip = rip
  const formatter = new Formatter(FormatterSyntax.Nasm)
  const text = formatter.format(decoder.decode())
  formatter.free()
  decoder.free()
  return text
}
