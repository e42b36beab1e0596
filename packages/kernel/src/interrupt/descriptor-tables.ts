import { type Cpu, loadTaskRegister, PAGE_SIZE, type PhysicalAddress } from '@trapdoor/core'
import type { Kernel } from '../kernel.ts'

/** Segment selectors of x86-64 Linux (arch/x86/include/asm/segment.h). */
const KERNEL_CS = 0x10
const KERNEL_DS = 0x18
const TSS_SELECTOR = 0x40

/** 64-bit code and flat data, present, of privilege level 0. */
const CODE_DESCRIPTOR = 0x00af_9b00_0000_ffffn
const DATA_DESCRIPTOR = 0x00cf_9300_0000_ffffn
const TSS_TYPE = 0x89n
const TSS_BYTES = 104
const TSS_IST1 = 0x24
const GDT_OFFSET = 0x100
const GDT_BYTES = 0x50
const GATE_BYTES = 16
const VECTORS = 256
/** Present, privilege level 0, interrupt gate. */
const INTERRUPT_GATE = 0x8en
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
  readonly #idt: PhysicalAddress
  /** For each CPU a page for TSS and GDT, and one for each stack. */
  readonly #areas: PhysicalAddress

  constructor(kernel: Kernel) {
    const { image, machine } = kernel
    this.#kernel = kernel
    this.#idt = image.staticPages(1)
    this.#areas = image.staticPages(machine.cpus.length * (1 + IST.size))
    const idt = new BigUint64Array((VECTORS * GATE_BYTES) / 8)
    for (const vector of USED_VECTORS) {
      const entry = image.start + BigInt(ENTRY_OFFSET + vector * ENTRY_BYTES)
      idt[vector * 2] =
        (entry & 0xffffn) |
        (BigInt(KERNEL_CS) << 16n) |
        (BigInt(IST.get(vector) ?? 0) << 32n) |
        (INTERRUPT_GATE << 40n) |
        (((entry >> 16n) & 0xffffn) << 48n)
      idt[vector * 2 + 1] = (entry >> 32n) & 0xffff_ffffn
    }
    machine.memory.write(this.#idt, new Uint8Array(idt.buffer))
  }

  /** LGDT, LIDT, LTR and the segment registers, once `cpu` runs on the kernel's page tables. */
  load(cpu: Cpu): void {
    const { image, machine } = this.#kernel
    const area = this.#areas + cpu.id * (1 + IST.size) * PAGE_SIZE
    const tss = image.virtualAddress(area)
    const bytes = new DataView(new ArrayBuffer(GDT_OFFSET + GDT_BYTES))
    for (const index of IST.values()) {
      const top = image.virtualAddress(area + index * PAGE_SIZE) + BigInt(PAGE_SIZE)
      bytes.setBigUint64(TSS_IST1 + (index - 1) * 8, top, true)
    }
    bytes.setBigUint64(GDT_OFFSET + KERNEL_CS, CODE_DESCRIPTOR, true)
    bytes.setBigUint64(GDT_OFFSET + KERNEL_DS, DATA_DESCRIPTOR, true)
    const descriptor =
      BigInt(TSS_BYTES - 1) |
      ((tss & 0xff_ffffn) << 16n) |
      (TSS_TYPE << 40n) |
      (((tss >> 24n) & 0xffn) << 56n)
    bytes.setBigUint64(GDT_OFFSET + TSS_SELECTOR, descriptor, true)
    bytes.setBigUint64(GDT_OFFSET + TSS_SELECTOR + 8, tss >> 32n, true)
    machine.memory.write(area, new Uint8Array(bytes.buffer))
    cpu.gdtr = { base: tss + BigInt(GDT_OFFSET), limit: GDT_BYTES - 1 }
    cpu.idtr = { base: image.virtualAddress(this.#idt), limit: VECTORS * GATE_BYTES - 1 }
    cpu.cs = KERNEL_CS
    cpu.ss = KERNEL_DS
    loadTaskRegister(cpu, TSS_SELECTOR)
  }
}
