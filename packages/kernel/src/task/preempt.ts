import type { Cpu } from '@trapdoor/core'
import { takeInterrupt } from '../interrupt/interrupts.ts'
import type { Kernel } from '../kernel.ts'
import { Task } from './task.ts'

/**
 * preempt_schedule_irq(): the timer interrupts a CPU inside a runtime call, another process runs on it, and the first goes on with the page tables of its mm. Returns false,
 * with nothing done, where interrupts are off or the strategy keeps preemption disabled in calls.
 */
export function preempt(kernel: Kernel, cpu: Cpu): boolean {
  const current = kernel.tasks.find((task) => task.cpu === cpu)
  if (current === undefined || !cpu.interruptFlag) return false
  if (kernel.strategy?.instance.preemptible !== true) return false
  const other = kernel.otherTasks.get(cpu.id) ?? new Task(kernel, cpu)
  kernel.otherTasks = new Map([...kernel.otherTasks, [cpu.id, other]])
  takeInterrupt(kernel, cpu, 'timer', () => {
    const { rsp } = cpu
    other.switchTo()
    cpu.cpl = 3
    cpu.read32(other.userPage)
    cpu.cpl = 0
    current.switchTo()
    cpu.rsp = rsp
  })
  return true
}
