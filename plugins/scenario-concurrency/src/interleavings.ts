import type { CpuProgram, Scenario, ScenarioStep } from '@trapdoor/harness'
import { bootStep } from '@trapdoor/scenario-lifecycle'
import { Guid } from '@trapdoor/uefi'

const NAME = 'TrapdoorProbe'
/** NON_VOLATILE, BOOTSERVICE_ACCESS, RUNTIME_ACCESS. */
const KEPT = 0x7
const writeStep: ScenarioStep = {
  name: 'write the variable',
  run: (context) => {
    const data = new Uint8Array([1, 2, 3, 4])
    context.call(context.services().setVariable(NAME, Guid.LINUX_CRASH, KEPT, data))
  },
}

const reader: CpuProgram = [
  (services) => services.getVariable(NAME, Guid.LINUX_CRASH),
  (services) => services.getTime(),
]
const writer: CpuProgram = [
  (services) => services.setVariable(NAME, Guid.LINUX_CRASH, KEPT, new Uint8Array([5, 6, 7, 8])),
  (services) => services.getNextVariableName(),
]

/** Two CPUs, one reading a variable that the other writes. */
export const interleavings: Scenario = {
  name: 'interleavings',
  title: 'two CPUs with two calls each, in every order of their steps that can make a difference',
  cpus: 2,
  steps: [bootStep, writeStep],
  programs: [reader, writer],
}

const clock: CpuProgram = [(services) => services.getTime()]

/** Four CPUs, three of them alike. */
export const interleavingsOfFour: Scenario = {
  name: 'interleavings-4',
  title: 'four CPUs with a call each, in every order of their steps that can make a difference',
  cpus: 4,
  steps: [bootStep, writeStep],
  programs: [[(services) => services.getVariable(NAME, Guid.LINUX_CRASH)], clock, clock, clock],
}
