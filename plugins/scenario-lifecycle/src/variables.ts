import type { Scenario, ScenarioContext } from '@trapdoor/harness'
import { efivarInit } from '@trapdoor/kernel'
import { Guid } from '@trapdoor/uefi'
import { bootStep, everydayStep } from './steps.ts'

/** Mounting efivarfs, and reading the first variable that it shows. */
function listVariables(context: ScenarioContext): void {
  const [first] = efivarInit(context.kernel, context.services('kmalloc'))
  if (first === undefined) return
  const { name, guid } = first
  context.call(context.services('kmalloc').getVariable(name, guid))
}

/** A running system that shows its variables to programs. */
export const variables: Scenario = {
  name: 'variables',
  title: 'boots, lists all variables as efivarfs does, writes one, lists them again',
  steps: [
    bootStep,
    { name: 'list all variables', run: listVariables },
    everydayStep,
    {
      name: 'list them again',
      run: (context) => {
        listVariables(context)
        context.call(context.services().getVariable('TrapdoorProbe', Guid.LINUX_CRASH))
      },
    },
  ],
}
