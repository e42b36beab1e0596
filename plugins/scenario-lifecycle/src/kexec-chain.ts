import type { KernelChoice, Scenario } from '@trapdoor/harness'
import { everydayCalls } from './everyday-calls.ts'
import { bootStep, everydayStep } from './steps.ts'

/** Four kernels, one after the other: the case's own, two of other versions, and the case's own again. */
function chain(title: string, name: string, between: readonly [string, string]): Scenario {
  const kernels: readonly KernelChoice[] = [{ strategy: between[0] }, { strategy: between[1] }, {}]
  return {
    name,
    title,
    steps: [
      bootStep,
      everydayStep,
      ...kernels.flatMap(
        (choice) =>
          [
            {
              name: `kexec into ${choice.strategy ?? 'a kernel as the first'}`,
              run: (context) => {
                context.kexec(choice)
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
  'four kernels by kexec: the case’s own, Linux 3.14, Linux 6.1, the case’s own again',
  'kexec-chain-up',
  ['linux-3.14', 'linux-6.1'],
)

/** The other way round. */
export const kexecChainDown: Scenario = chain(
  'four kernels by kexec: the case’s own, Linux 6.1, Linux 3.14, the case’s own again',
  'kexec-chain-down',
  ['linux-6.1', 'linux-3.14'],
)
