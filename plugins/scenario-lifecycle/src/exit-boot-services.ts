import type { Scenario } from '@trapdoor/harness'
import { everydayStep } from './steps.ts'

/** A memory map that changes at the last moment. */
export const exitBootServices: Scenario = {
  name: 'exit-boot-services',
  title:
    'the memory map changes after it was read: ExitBootServices fails once and is called again',
  steps: [
    {
      name: 'boot, with ExitBootServices called twice',
      run: (context) => {
        context.boot({ allocatesLate: true })
      },
    },
    everydayStep,
  ],
}
