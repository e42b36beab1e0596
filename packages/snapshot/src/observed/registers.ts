import type { SegmentRegister } from '@trapdoor/core'
import { z } from 'zod'
import { type CpuState, GENERAL_REGISTERS, SEGMENT_REGISTERS } from '../snapshot.ts'
import { hexBigint, hexNumber } from './folder.ts'

/** The bits of a descriptor's second doubleword that a {@link SegmentRegister} keeps. */
const SEGMENT_RIGHTS = 0xf0_ff00

const table = z.tuple([hexBigint, hexNumber]).transform(([base, limit]) => ({ base, limit }))
/** Selector, base, limit and rights as `info registers` prints them, without 0x. */
const segment = z
  .tuple([z.string(), z.string(), z.string(), z.string()])
  .refine((words) => words.every((word) => /^[\da-f]+$/i.test(word)), 'four hexadecimal numbers')
  .transform(([selector, base, limit, rights]): SegmentRegister => ({
    selector: Number.parseInt(selector, 16),
    base: BigInt(`0x${base}`),
    limit: Number.parseInt(limit, 16),
    rights: Number.parseInt(rights, 16) & SEGMENT_RIGHTS,
  }))

const general = z.object(
  Object.fromEntries(GENERAL_REGISTERS.map((name) => [name.toUpperCase(), hexBigint])),
)
const segments = z.object(
  Object.fromEntries(SEGMENT_REGISTERS.map((name) => [name.toUpperCase(), segment.optional()])),
)

/** Registers as QEMU's monitor prints them, by their names in capitals. */
export const observedRegisters: z.ZodType<CpuState> = z
  .object({
    RIP: hexBigint,
    RFL: hexBigint,
    CR0: hexNumber,
    CR2: hexBigint,
    CR3: hexNumber,
    CR4: hexNumber,
    EFER: hexNumber,
    GDT: table,
    IDT: table,
  })
  .and(general)
  .and(segments)
  .transform((read): CpuState => {
    const words = read as unknown as Readonly<Record<string, bigint>>
    const loaded = read as unknown as Readonly<Record<string, SegmentRegister | undefined>>
    return {
      general: Object.fromEntries(
        GENERAL_REGISTERS.map((name) => [name, words[name.toUpperCase()]]),
      ) as CpuState['general'],
      rip: read.RIP,
      rflags: read.RFL,
      cr0: read.CR0,
      cr2: read.CR2,
      cr3: read.CR3,
      cr4: read.CR4,
      efer: read.EFER,
      gdt: read.GDT,
      idt: read.IDT,
      segments: Object.fromEntries(
        SEGMENT_REGISTERS.flatMap((name) => {
          const register = loaded[name.toUpperCase()]
          return register === undefined ? [] : [[name, register]]
        }),
      ),
    }
  })
