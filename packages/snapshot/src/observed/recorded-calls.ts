import { RUNTIME_SERVICES, type RuntimeServiceName } from '@trapdoor/uefi'
import { z } from 'zod'
import type { CpuState, PageRun } from '../snapshot.ts'
import { hexBigint, hexBytes, hexNumber, ObservedFolder } from './folder.ts'
import {
  type InstructionCounts,
  type PageTouches,
  parseCounts,
  parsePageTouches,
} from './counted-lines.ts'
import { observedSnapshot, readTablePages } from './read-snapshot.ts'

/** A word of eight bytes that was changed. */
export interface WordChange {
  readonly address: number
  readonly before: bigint
  readonly after: bigint
}

/** An access that a device answered. */
export interface DeviceAccess {
  readonly kind: 'read' | 'write'
  /** As QEMU calls it, such as "rtc" or "system.flash1". */
  readonly device: string
  /** A port below 0x10000, else a physical address. */
  readonly address: number
  readonly value: number
  /** Bytes. */
  readonly size: number
}

/** One call as it was recorded. */
export interface RecordedCall {
  /** Such as "phys/GetTime". */
  readonly name: string
  readonly service: RuntimeServiceName
  readonly functionAddress: bigint
  readonly args: readonly bigint[]
  /** What the caller had put into memory, where all of its scratch memory was zero. */
  readonly memory: readonly PageRun[]
  /** Top of the caller's stack when it entered the stub that calls the firmware. */
  readonly stack: bigint
  /** RAX. */
  readonly status: bigint
  /** Changes in runtime memory, in the order of addresses. */
  readonly runtimeChanges: readonly WordChange[]
  /** Changes in the first {@link RecordedCalls.comparedScratch} bytes of scratch memory. */
  readonly scratchChanges: readonly WordChange[]
  readonly devices: readonly DeviceAccess[]
  readonly counts: InstructionCounts
  readonly pages: readonly PageTouches[]
  /** Whether runtime memory was then put back to what it was before the last call of SetVirtualAddressMap so far: calls that only try a map out. */
  readonly restored: boolean
}

/** Calls that a real firmware carried out one after the other, and the machine that they began on. */
export interface RecordedCalls {
  /** The processor, on the kernel's EFI page tables, about to call SetVirtualAddressMap. */
  readonly cpu: CpuState
  readonly tables: readonly PageRun[]
  /** Memory of the caller: zero before each call, but for what the call says. */
  readonly scratch: { readonly address: number; readonly bytes: number }
  readonly comparedScratch: number
  readonly calls: readonly RecordedCall[]
}

const FILE = 'vectors.json.gz'
const STAGE = 'D-svam-call'
/** Bytes of scratch memory that are compared: arguments, but not the stack above them. */
export const COMPARED_SCRATCH = 0x8000

const word = z
  .string()
  .regex(/^[\da-f]{16}$/i, 'eight bytes as hexadecimal digits, the highest first')
  .transform((digits) => BigInt(`0x${digits}`))
const change = z
  .tuple([hexNumber, word, word])
  .transform(([address, before, after]): WordChange => ({ address, before, after }))
const access = z
  .tuple([z.enum(['read', 'write']), z.string(), hexNumber, hexNumber, z.number().int().positive()])
  .transform(([kind, device, address, value, size]): DeviceAccess => ({
    kind,
    device,
    address,
    value,
    size,
  }))
const callLine = parsed(parseCounts)
const pageLine = parsed(parsePageTouches)

const recorded = z.object({
  name: z.string(),
  fn: z.enum(RUNTIME_SERVICES),
  fn_addr: hexBigint,
  efi_args: z.array(hexBigint).max(5),
  argmem: z.array(z.tuple([hexNumber, hexBytes])),
  rsp: hexBigint,
  rax: hexBigint,
  rt_diff: z.array(change),
  scratch_diff: z.array(change),
  io: z.array(access),
  plugin: z.array(callLine).min(1),
  pages: z.array(pageLine),
  restored_pages: z.number().int().optional(),
})
const recording = z.object({
  scratch: hexNumber,
  scratch_pages: z.number().int().positive(),
  vectors: z.array(recorded).min(1),
})

/** Reads `vectors.json.gz` of a folder, with the page tables and registers that its calls began with. Throws a SnapshotError that names file and place. */
export function readRecordedCalls(path: string): RecordedCalls {
  const folder = new ObservedFolder(path)
  const { scratch, scratch_pages: pages, vectors } = folder.json(FILE, recording)
  const cpu = folder.json('snapshot.json', observedSnapshot).stages[STAGE]
  if (cpu === undefined) {
    throw folder.bad('snapshot.json', `registers of stage ${STAGE}`, ['stages'], 'none')
  }
  return {
    cpu,
    tables: readTablePages(folder, 'D').pages,
    scratch: { address: scratch, bytes: pages * 4096 },
    comparedScratch: COMPARED_SCRATCH,
    calls: vectors.map((vector): RecordedCall => ({
      name: vector.name,
      service: vector.fn,
      functionAddress: vector.fn_addr,
      args: vector.efi_args,
      memory: vector.argmem.map(([address, bytes]) => ({ address, bytes })),
      stack: vector.rsp,
      status: vector.rax,
      runtimeChanges: vector.rt_diff,
      scratchChanges: vector.scratch_diff,
      devices: vector.io,
      counts: vector.plugin.at(-1)!,
      pages: vector.pages,
      restored: vector.restored_pages !== undefined,
    })),
  }
}

/** A line that `parse` takes apart, or throws a RangeError that says what it wants. */
function parsed<Result>(parse: (line: string) => Result): z.ZodType<Result> {
  return z.string().transform((line, context) => {
    try {
      return parse(line)
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      context.addIssue(error.message)
      return z.NEVER
    }
  })
}
