import type { Kernel } from '@trapdoor/kernel'

/** Whether a linear address may have been meant as a physical one: below the kernel's half, or with 32 bits any, as devices are there where the kernel's half is. */
export function couldBePhysical(kernel: Kernel | undefined, address: bigint): boolean {
  if (kernel === undefined) return false
  const { tables, architecture } = kernel
  return address < (architecture.name === 'ia32' ? 2n ** 32n : tables.lowHalfEnd)
}
