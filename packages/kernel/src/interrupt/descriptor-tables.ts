import {
  type Cpu,
  type DescriptorTable,
  flatSegment,
  highHalf,
  loadTaskRegister,
  lowHalf,
  PAGE_SIZE,
  type PhysicalAddress,
  Segment,
} from '@trapdoor/core'
import type { Kernel } from '../kernel.ts'

/** Selectors of x86-64 (arch/x86/include/asm/segment.h), as a thunk into firmware of 32 bits needs them. */
export const KERNEL32_CS = 0x08
/** __KERNEL_CS: code of 64 bits. */
export const KERNEL_CS = 0x10
/** __KERNEL_DS, of data and stack. */
export const KERNEL_DS = 0x18

/** What the tables of a kernel look like. */
interface TableFormat {
  /** Segment selectors (arch/x86/include/asm/segment.h). */
  readonly kernelCs: number
  /** The code segment of compatibility mode (GDT_ENTRY_KERNEL32_CS); a kernel of 32 bits has none. */
  readonly kernel32Cs?: number
  readonly kernelDs: number
  readonly tss: number
  /** Present, flat, of privilege level 0. */
  readonly codeDescriptor: bigint
  readonly codeKind: 'code-64' | 'code-32'
  /** Bytes of a gate of the IDT, and of the descriptor of a TSS. */
  readonly gateBytes: 8 | 16
  /** Whether the TSS has stacks by number for {@link IST}; without, the stack is the interrupted code's. */
  readonly hasInterruptStacks: boolean
}

const CODE_32 = 0x00cf_9b00_0000_ffffn
const FORMAT_64: TableFormat = {
  kernelCs: KERNEL_CS,
  kernel32Cs: KERNEL32_CS,
  kernelDs: KERNEL_DS,
  tss: 0x40,
  codeDescriptor: 0x00af_9b00_0000_ffffn,
  codeKind: 'code-64',
  gateBytes: 16,
  hasInterruptStacks: true,
}
const FORMAT_32: TableFormat = {
  kernelCs: 0x60,
  kernelDs: 0x68,
  tss: 0x80,
  codeDescriptor: CODE_32,
  codeKind: 'code-32',
  gateBytes: 8,
  hasInterruptStacks: false,
}

const DATA_SEGMENTS = [Segment.SS, Segment.DS, Segment.ES] as const
const DATA_DESCRIPTOR = 0x00cf_9300_0000_ffffn
const TSS_TYPE = 0x89n
const TSS_BYTES = 104
/** RSP0, or ESP0 and SS0. */
const TSS_RSP0 = 0x04
const TSS_SS0 = 0x08
const TSS_IST1 = 0x24
const GDT_OFFSET = 0x100
/** GDT_SIZE on i386, which is the larger. */
const GDT_BYTES = 0x100
const VECTORS = 256
/** Present, privilege level 0, interrupt gate. */
const INTERRUPT_GATE = 0x8e
/** Where the entry points of the vectors are in the kernel's text, and how far apart. */
const ENTRY_OFFSET = 0x1000
const ENTRY_BYTES = 32

/** Exceptions, and the vectors of devices from FIRST_SYSTEM_VECTOR on; the gates of the others are not present. */
const USED_VECTORS: readonly number[] = [
  ...Array.from({ length: 32 }, (_, vector) => vector),
  ...Array.from({ length: 17 }, (_, index) => 0xef + index),
]

/** Stacks that an interrupt gets whatever the interrupted code's stack is worth: NMI, machine check, double fault. */
const IST: ReadonlyMap<number, number> = new Map([
  [2, 1],
  [18, 2],
  [8, 3],
])

/** The kernel's IDT, and a GDT, a TSS and interrupt stacks for each CPU, in the kernel's static data (cpu_init(), trap_init(), arch/x86/kernel). */
export class DescriptorTables {
  readonly #kernel: Kernel
  readonly #format: TableFormat
  readonly #idt: PhysicalAddress
  /** For each CPU a page for TSS and GDT, and one for each stack. */
  readonly #areas: PhysicalAddress

  constructor(kernel: Kernel) {
    const { image, machine } = kernel
    this.#kernel = kernel
    this.#idt = image.staticPages(1)
    this.#areas = image.staticPages(machine.cpus.length * (1 + IST.size))
    this.#format = kernel.architecture.naturalBytes === 8 ? FORMAT_64 : FORMAT_32
    machine.memory.write(this.#idt, this.#encodeIdt())
  }

  /** Where the GDT of a CPU is. */
  gdtOf(cpu: Cpu): DescriptorTable {
    const area = this.#areas + cpu.id * (1 + IST.size) * PAGE_SIZE
    const base = this.#kernel.image.virtualAddress(area) + BigInt(GDT_OFFSET)
    return { base, limit: GDT_BYTES - 1 }
  }

  /** LGDT, LIDT, LTR and the segment registers, once `cpu` runs on the kernel's page tables. */
  load(cpu: Cpu): void {
    const { image, machine } = this.#kernel
    const { kernelCs, kernelDs, codeKind, tss: selector, gateBytes } = this.#format
    const area = this.#areas + cpu.id * (1 + IST.size) * PAGE_SIZE
    machine.memory.write(area, this.#encodeTssAndGdt(area))
    cpu.gdtr = this.gdtOf(cpu)
    cpu.idtr = { base: image.virtualAddress(this.#idt), limit: VECTORS * gateBytes - 1 }
    cpu.loadSegment(Segment.CS, flatSegment(kernelCs, codeKind))
    for (const segment of DATA_SEGMENTS) cpu.loadSegment(segment, flatSegment(kernelDs, 'data'))
    loadTaskRegister(cpu, selector)
  }

  #encodeIdt(): Uint8Array {
    const { kernelCs, gateBytes, hasInterruptStacks } = this.#format
    const { start } = this.#kernel.image
    const idt = new DataView(new ArrayBuffer(VECTORS * gateBytes))
    for (const vector of USED_VECTORS) {
      // An image begins at a multiple of 2 MiB, and its entries are in the first 64 KiB: nothing carries.
      const entry = lowHalf(start) | (ENTRY_OFFSET + vector * ENTRY_BYTES)
      const stack = hasInterruptStacks ? (IST.get(vector) ?? 0) : 0
      const at = vector * gateBytes
      idt.setInt32(at, (kernelCs << 16) | (entry & 0xffff), true)
      idt.setInt32(at + 4, (entry & 0xffff_0000) | (INTERRUPT_GATE << 8) | stack, true)
      if (gateBytes === 16) idt.setInt32(at + 8, highHalf(start), true)
    }
    return new Uint8Array(idt.buffer)
  }

  /** `area` is the physical address of the page that they are in, which the interrupt stacks follow. */
  #encodeTssAndGdt(area: number): Uint8Array {
    const { image } = this.#kernel
    const { kernelCs, kernel32Cs, kernelDs, codeDescriptor, hasInterruptStacks } = this.#format
    const { tss: selector } = this.#format
    const tss = image.virtualAddress(area)
    const bytes = new DataView(new ArrayBuffer(GDT_OFFSET + GDT_BYTES))
    const topOf = (index: number): bigint =>
      image.virtualAddress(area + index * PAGE_SIZE) + BigInt(PAGE_SIZE)
    if (hasInterruptStacks) {
      for (const index of IST.values()) {
        bytes.setBigUint64(TSS_IST1 + (index - 1) * 8, topOf(index), true)
      }
    } else {
      bytes.setUint32(TSS_RSP0, Number(topOf(1)), true)
      bytes.setUint32(TSS_SS0, kernelDs, true)
    }
    if (kernel32Cs !== undefined) bytes.setBigUint64(GDT_OFFSET + kernel32Cs, CODE_32, true)
    bytes.setBigUint64(GDT_OFFSET + kernelCs, codeDescriptor, true)
    bytes.setBigUint64(GDT_OFFSET + kernelDs, DATA_DESCRIPTOR, true)
    const descriptor =
      BigInt(TSS_BYTES - 1) |
      ((tss & 0xff_ffffn) << 16n) |
      (TSS_TYPE << 40n) |
      (((tss >> 24n) & 0xffn) << 56n)
    bytes.setBigUint64(GDT_OFFSET + selector, descriptor, true)
    if (hasInterruptStacks) bytes.setBigUint64(GDT_OFFSET + selector + 8, tss >> 32n, true)
    return new Uint8Array(bytes.buffer)
  }
}
