import {
  type CaseTrace,
  createEnvironment,
  findCase,
  loadConfig,
  type Scenario,
  type TableSurvey,
  traceCase,
} from '@trapdoor/harness'
import plugin from '../src/index.ts'

/** What a scenario of the test's own does on the machine of every-type.txt, under the strategy with these options. */
export async function play(
  options: string,
  { run, cpus = 1 }: Pick<Scenario['steps'][number], 'run'> & { cpus?: number },
): Promise<CaseTrace> {
  const scenario: Scenario = { name: 'test', title: 'a test', cpus, steps: [{ name: 'test', run }] }
  const config = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [plugin, { name: 'test', apiVersion: 1, scenarios: [scenario] }],
    overrides: { memoryMaps: ['every-type.txt'] },
  })
  const id = `every-type/none/private-efi-pgd:${options}/test`
  return traceCase(createEnvironment(config), findCase(config, id))
}

/** The table of that name after a boot and a call. */
export async function tablesAfterBoot(options: string): Promise<(name: string) => TableSurvey> {
  const { surveys } = await play(options, {
    run: (context) => {
      context.boot()
      context.call(context.services().getTime())
    },
  })
  return (name) => surveys.find((survey) => survey.name === name)!
}
