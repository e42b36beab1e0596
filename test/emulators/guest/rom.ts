import { Assembler, Condition, Register } from '@trapdoor/assembler'
import { Header } from './layout.ts'
import { CR0_BETWEEN, EFER_BETWEEN, Msr } from './registers.ts'

const ROM_BYTES = 0x1_0000
const ROM_BASE = 0xffff_0000
const RESET_VECTOR = 0xfff0
const START_16 = 0xff80
const START_32 = 0xf000
const DESCRIPTOR_TABLE = 0xef00

const CODE_32 = 0x08
const DATA_32 = 0x10
const CODE_64 = 0x18
const DESCRIPTORS: readonly bigint[] = [
  0n,
  0x00cf_9b00_0000_ffffn,
  0x00cf_9300_0000_ffffn,
  0x00af_9b00_0000_ffffn,
]

/** Port of the fast A20 gate. */
const SYSTEM_CONTROL = 0x92

/** Bochs gives memory to its guest in blocks of so many bytes, in the order that they are touched. */
const BOCHS_BLOCK = 0x2_0000

/** Where the ROM finds what it needs, in physical bytes. */
export interface RomOptions {
  /** The {@link Header}, of which it reads Cr4, Root and Entry. */
  readonly header: number
  /** The mode in which the entry is jumped to: 64-bit mode (the default), or protected mode without paging, whatever the header says of it. */
  readonly mode?: 'long' | 'protected'
  /** Where an image ends (exclusive) that begins with the header and is to be touched block by block. */
  readonly touchedUpTo?: number
}

/**
 * The 64 KiB below 4 GiB where a processor starts after RESET: through protected mode into 64-bit mode with the page tables that the header names, unless it is to stay there, and on to the
 * program in memory.
 */
export function assembleRom(options: RomOptions): Uint8Array {
  const rom = new Uint8Array(ROM_BYTES).fill(0xf4)
  rom.set(new Uint8Array(BigUint64Array.from(DESCRIPTORS).buffer), DESCRIPTOR_TABLE)
  rom.set(fromReset(), START_16)
  rom.set(toProgram(options), START_32)
  // JMP rel8, backwards.
  rom.set([0xeb, (START_16 - (RESET_VECTOR + 2)) & 0xff], RESET_VECTOR)
  return rom
}

function fromReset(): Uint8Array {
  const { A } = Register
  const code = new Assembler(BigInt(ROM_BASE + START_16), 16)
  code.cli()
  code.in(SYSTEM_CONTROL)
  code.or(32, A, 2)
  code.out(SYSTEM_CONTROL)
  code.lgdtInCode('gdtr')
  code.moveFromControl(A, 0)
  code.or(32, A, 1)
  code.moveToControl(0, A)
  code.jumpFarTo(CODE_32, ROM_BASE + START_32)
  code.label('gdtr')
  code.raw(DESCRIPTORS.length * 8 - 1, 0)
  code.data32(ROM_BASE + DESCRIPTOR_TABLE)
  return code.assemble()
}

function toProgram({ header, mode, touchedUpTo }: RomOptions): Uint8Array {
  const { A, B, C, D, SI } = Register
  const code = new Assembler(BigInt(ROM_BASE + START_32), 32)
  code.moveImmediate(32, A, DATA_32)
  code.moveToSegment('ds', A)
  code.moveToSegment('es', A)
  code.moveToSegment('ss', A)
  if (touchedUpTo !== undefined) {
    // Bochs has loaded the image as if memory began with it: the first blocks that are touched are the image's, in its order.
    code.moveImmediate(32, SI, header)
    code.label('touch')
    code.load(32, A, SI)
    code.add(32, SI, BOCHS_BLOCK)
    code.compare(32, SI, touchedUpTo)
    code.jumpIf(Condition.Below, 'touch')
  }
  code.moveImmediate(32, B, header)
  if (mode === 'protected') {
    code.load(32, A, B, Header.Entry)
    code.jumpRegister(A)
    return code.assemble()
  }
  code.load(32, A, B, Header.Cr4)
  code.moveToControl(4, A)
  code.load(32, A, B, Header.Root)
  code.moveToControl(3, A)
  code.moveImmediate(32, C, Msr.Efer)
  code.moveImmediate(32, A, EFER_BETWEEN)
  code.xorRegister(32, D, D)
  code.wrmsr()
  code.moveImmediate(32, A, CR0_BETWEEN)
  code.moveToControl(0, A)
  code.jumpFar(CODE_64, 'long')
  code.bits = 64
  code.label('long')
  code.load(64, A, B, Header.Entry)
  code.jumpRegister(A)
  return code.assemble()
}
