import {
  type Cpu,
  deliverInterrupt,
  type InterruptEvent,
  returnFromInterrupt,
} from '@trapdoor/core'
import type { Kernel } from '../kernel.ts'

/** What may interrupt a kernel at any point of what it does; the timer only where RFLAGS.IF is set. */
export type Interruption = 'timer' | 'NMI' | 'machine check'

const EVENTS: Readonly<Record<Interruption, InterruptEvent>> = {
  // LOCAL_TIMER_VECTOR (arch/x86/include/asm/irq_vectors.h, 2.6.35)
  timer: { vector: 0xef, source: 'external' },
  NMI: { vector: 2, source: 'nmi' },
  'machine check': { vector: 18, source: 'exception' },
}

/**
 * Takes an interrupt on the page tables of this moment: the processor goes through IDT, GDT and TSS, the first instruction of the handler is fetched, it reads its CPU's
 * variables, a module's data and a buffer in vmalloc space, `handler` runs, and IRET goes back. What is not mapped is a fault, and in the delivery itself a double or triple fault.
 */
export function takeInterrupt(
  kernel: Kernel,
  cpu: Cpu,
  kind: Interruption,
  handler: () => void = () => {},
): void {
  // What ends the machine before the handler is done leaves this as it is: it tells whose code it was.
  kernel.handling.set(cpu.id, kind)
  const delivery = deliverInterrupt(cpu, EVENTS[kind])
  cpu.translate(delivery.handler, 'execute')
  kernel.readPerCpu(cpu)
  const area = kernel.argumentAreas[cpu.id]
  if (area !== undefined) {
    cpu.read64(area.start('module'))
    cpu.read64(area.start('vmalloc'))
  }
  handler()
  returnFromInterrupt(cpu, delivery)
  kernel.handling.delete(cpu.id)
}
