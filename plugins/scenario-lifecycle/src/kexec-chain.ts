import type { KernelChoice, Scenario } from '@trapdoor/harness'
import type { Architecture } from '@trapdoor/uefi'
import { everydayCalls } from './everyday-calls.ts'
import { bootStep, everydayStep } from './steps.ts'

/** The strategies of an old kernel and of a newer one, by what they are built for: 3.14 and 6.1, on i386 2.6.35 and 3.4. */
const OLD: Readonly<Record<Architecture['name'], KernelChoice>> = {
  x64: { strategy: 'linux-3.14' },
  ia32: { strategy: 'i386-legacy-virtual' },
}
const NEW: typeof OLD = {
  x64: { strategy: 'linux-6.1' },
  ia32: { strategy: 'i386-linux-3.4' },
}
const OWN: typeof OLD = { x64: {}, ia32: {} }

/** Four kernels, one after the other: the case's own, two of other versions, and the case's own again. */
function chain(title: string, name: string, between: readonly (typeof OLD)[]): Scenario {
  return {
    name,
    title,
    steps: [
      bootStep,
      everydayStep,
      ...[...between, OWN].flatMap(
        (choices) =>
          [
            {
              name: `kexec into ${choices.x64.strategy ?? 'a kernel as the first'}`,
              run: (context) => {
                context.kexec(choices[context.kernel.architecture.name])
              },
            },
            { name: 'calls from there', run: everydayCalls },
          ] satisfies Scenario['steps'],
      ),
    ],
  }
}

/** Old kernels in between, then newer ones. */
export const kexecChainUp: Scenario = chain(
  'four kernels by kexec: the case’s own, Linux 3.14, Linux 6.1 (on i386 2.6.35 and 3.4), the case’s own again',
  'kexec-chain-up',
  [OLD, NEW],
)

/** The other way round. */
export const kexecChainDown: Scenario = chain(
  'four kernels by kexec: the case’s own, Linux 6.1, Linux 3.14 (on i386 3.4 and 2.6.35), the case’s own again',
  'kexec-chain-down',
  [NEW, OLD],
)
