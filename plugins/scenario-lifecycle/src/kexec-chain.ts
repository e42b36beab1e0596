import type { KernelChoice, Scenario, ScenarioStep } from '@trapdoor/harness'
import type { Architecture } from '@trapdoor/uefi'
import { everydayCalls } from './everyday-calls.ts'
import { bootStep, everydayStep } from './steps.ts'

/** A kernel of a chain on each architecture; `{}` is the case's own. */
export type ChainedKernel = Readonly<Record<Architecture['name'], KernelChoice>>

/** The case's own kernel. */
export const OWN_KERNEL: ChainedKernel = { x64: {}, ia32: {} }

/** An old kernel, a newer one, and one that leaves firmware in physical mode, by what they are built for: 3.14, 6.1 and RHEL 6, on i386 2.6.35, 3.4 and the patch carried over. */
const OLD: ChainedKernel = {
  x64: { strategy: 'linux-3.14' },
  ia32: { strategy: 'i386-legacy-virtual' },
}
const NEW: ChainedKernel = {
  x64: { strategy: 'linux-6.1' },
  ia32: { strategy: 'i386-linux-3.4' },
}
const PHYSICAL: ChainedKernel = {
  x64: { strategy: 'private-efi-pgd' },
  ia32: { strategy: 'i386-private-efi-pgd' },
}
const SHARED_MAP: ChainedKernel = {
  x64: { strategy: 'global-identity-map' },
  ia32: { strategy: 'i386-paging-off' },
}

const CALLS: ScenarioStep = { name: 'calls from there', anyStrategy: true, run: everydayCalls }

function boots(choices: ChainedKernel): ScenarioStep {
  if (choices === OWN_KERNEL) return bootStep
  return {
    name: `boot ${nameOf(choices)}`,
    anyStrategy: true,
    run: (context) => {
      context.boot(choices[context.architecture.name])
    },
  }
}

function kexecs(choices: ChainedKernel): ScenarioStep {
  return {
    name: `kexec into ${nameOf(choices)}`,
    anyStrategy: choices !== OWN_KERNEL,
    run: (context) => {
      context.kexec(choices[context.kernel.architecture.name])
    },
  }
}

function nameOf(choices: ChainedKernel): string {
  return choices.x64.strategy ?? 'a kernel as the case says'
}

/**
 * Kernels one after the other by kexec, the first from the boot loader, each with everyday calls. At least one; kernels after the fifth have numbers for names. A configuration in TypeScript makes
 * scenarios of its own with it.
 */
export function kexecChain(
  name: string,
  title: string,
  [first, ...others]: readonly [ChainedKernel, ...ChainedKernel[]],
): Scenario {
  return {
    name,
    title,
    steps: [boots(first), everydayStep, ...others.flatMap((next) => [kexecs(next), CALLS])],
  }
}

/** Old kernels in between, then newer ones. */
export const kexecChainUp: Scenario = kexecChain(
  'kexec-chain-up',
  'four kernels by kexec: the case’s own, Linux 3.14, Linux 6.1 (on i386 2.6.35 and 3.4), the case’s own again',
  [OWN_KERNEL, OLD, NEW, OWN_KERNEL],
)

/** The other way round. */
export const kexecChainDown: Scenario = kexecChain(
  'kexec-chain-down',
  'four kernels by kexec: the case’s own, Linux 6.1, Linux 3.14 (on i386 3.4 and 2.6.35), the case’s own again',
  [OWN_KERNEL, NEW, OLD, OWN_KERNEL],
)

/** Strategies that leave firmware in physical mode, whatever the case's own then does. */
export const kexecChainPhysical: Scenario = kexecChain(
  'kexec-chain-physical',
  'four kernels by kexec: one with the patch of 2010, one with a shared identity map (on i386 with paging off), the case’s own, and that again',
  [PHYSICAL, SHARED_MAP, OWN_KERNEL, OWN_KERNEL],
)

/** The case's own kernel finds what an older one has left. */
export const kexecFromOld: Scenario = kexecChain(
  'kexec-from-old',
  'Linux 3.14 (on i386 2.6.35) boots, and kexecs into the case’s own kernel',
  [OLD, OWN_KERNEL],
)

/** The case's own kernel finds what a newer one has left. */
export const kexecFromNew: Scenario = kexecChain(
  'kexec-from-new',
  'Linux 6.1 (on i386 3.4) boots, and kexecs into the case’s own kernel',
  [NEW, OWN_KERNEL],
)
