import type { Cpu } from '@trapdoor/core'
import { cpuDown, cpuUp } from '../hotplug/cpu-hotplug.ts'
import type { Kernel } from '../kernel.ts'
import { runOnIdentityMap } from '../memory/identity-map.ts'

/**
 * Suspend to RAM (ACPI S3): the other CPUs go down, the registers are saved, CPUs lose everything and memory keeps what it holds. Firmware wakes the boot CPU in real mode at
 * the waking vector below 1 MiB; from there it comes back on an identity map (arch/x86/kernel/acpi/wakeup_64.S, suspend_64.c). EFI is told nothing of it.
 */
export function suspendToRam(kernel: Kernel): void {
  const others = kernel.onlineCpus.filter((cpu) => cpu !== kernel.bootCpu)
  for (const cpu of others) cpuDown(kernel, cpu)
  kernel.print('PM: Entering mem sleep')
  resumeBootCpu(kernel)
  kernel.print('PM: resume of devices complete')
  for (const cpu of others) cpuUp(kernel, cpu)
}

/** The boot CPU loses what it holds, and comes back to where it was: the registers that the kernel had saved are loaded again. */
export function resumeBootCpu(kernel: Kernel): void {
  const { bootCpu, machine } = kernel
  const restore = saveProcessorState(kernel, bootCpu)
  for (const cpu of machine.cpus) cpu.reset()
  runOnIdentityMap(kernel, bootCpu, kernel.realModeMemory)
  restore()
}

/** __save_processor_state(), and what undoes it. */
function saveProcessorState(kernel: Kernel, cpu: Cpu): () => void {
  const { cr0, cr3, cr4, efer, pat, rsp, interruptFlag } = cpu
  return () => {
    cpu.writeEfer(efer)
    cpu.writeCr4(cr4)
    cpu.writeCr3(cr3)
    cpu.writeCr0(cr0)
    cpu.pat = pat
    cpu.rsp = rsp
    kernel.loadDescriptorTables(cpu)
    cpu.interruptFlag = interruptFlag
  }
}
