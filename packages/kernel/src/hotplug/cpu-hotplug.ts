import type { Cpu } from '@trapdoor/core'
import { runOnIdentityMap } from '../memory/identity-map.ts'
import type { Kernel } from '../kernel.ts'
import { Task } from '../task/task.ts'

/**
 * cpu_up(): a CPU that `maxcpus=` left out, or that was taken down, starts in the trampoline below 1 MiB, on an identity map, and goes on with a process of its own
 * (arch/x86/kernel/smpboot.c, trampoline_64.S).
 */
export function cpuUp(kernel: Kernel, cpu: Cpu): void {
  runOnIdentityMap(kernel, cpu, kernel.realModeMemory)
  kernel.bringUp(cpu)
  const task = kernel.tasks.find((each) => each.cpu === cpu) ?? new Task(kernel, cpu)
  if (!kernel.tasks.includes(task)) kernel.tasks = [...kernel.tasks, task]
  task.switchTo()
  cpu.interruptFlag = true
  kernel.print(`Booting processor ${cpu.id}`)
}

/** cpu_down(): the CPU waits for INIT and makes no more calls. */
export function cpuDown(kernel: Kernel, cpu: Cpu): void {
  kernel.takeDown(cpu)
  cpu.interruptFlag = false
  kernel.print(`CPU ${cpu.id} is now offline`)
}
