import type { Scenario } from '@trapdoor/harness'
import { type AddressSpaceLayout, type Kernel, LAYOUT_2_6_26, splitAt } from '@trapdoor/kernel'
import { everydayCalls } from './everyday-calls.ts'
import { bootStep, everydayStep } from './steps.ts'

const firstKernel = [bootStep, everydayStep] satisfies Scenario['steps']

const secondCalls = { name: 'calls in the second kernel', run: everydayCalls }

/** kexec to the same kernel with the same strategy. */
export const kexec: Scenario = {
  name: 'kexec',
  title: 'boots, calls, kexecs into the same kernel, calls again',
  steps: [
    ...firstKernel,
    {
      name: 'kexec',
      run: (context) => {
        context.kexec()
      },
    },
    secondCalls,
  ],
}

/** The layout of a kernel of the same width whose direct map begins elsewhere. */
function otherLayout({ architecture, tables }: Kernel): AddressSpaceLayout {
  if (architecture.name === 'x64') return LAYOUT_2_6_26
  const { layout } = tables
  return splitAt(layout, layout.pageOffset === 0x8000_0000n ? 3 : 2)
}

/** kexec to a kernel whose direct map begins elsewhere, with `virtefi` on its command line. */
export const kexecOther: Scenario = {
  name: 'kexec-other',
  title:
    'as kexec, into a kernel with the layout of 2.6.26 (on i386, with less for processes) that uses virtual mode',
  steps: [
    ...firstKernel,
    {
      name: 'kexec into another kernel',
      run: (context) => {
        context.kexec({ layout: otherLayout(context.kernel), commandLine: 'virtefi' })
      },
    },
    secondCalls,
  ],
}
