import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BUILT_IN_PLUGINS } from '@trapdoor/cli'
import {
  createEnvironment,
  definePlugin,
  loadConfig,
  planCases,
  runCase,
  type Scenario,
  type ScenarioStep,
} from '@trapdoor/harness'
import { Guid, VariableAttribute } from '@trapdoor/uefi'
import { runTimed } from '../guests/processor-time.ts'

const FIRMWARE = '/usr/share/OVMF/OVMF_CODE_4M.fd'
const COMMAND = join(import.meta.dirname, '../../packages/cli/src/bin.ts')
const TIME_LIMIT_SECONDS = 300
/** Times that a case runs, and that a variable is read so many times; the fastest counts, as other load on the machine only ever adds to a time. */
const CASES = 20
const WINDOWS = 200
const READS = 25
const NAME = 'TrapdoorBench'
const KEPT =
  VariableAttribute.NON_VOLATILE |
  VariableAttribute.BOOTSERVICE_ACCESS |
  VariableAttribute.RUNTIME_ACCESS

const bootStep: ScenarioStep = {
  name: 'boot',
  run: (context) => {
    context.boot()
  },
}
/** What a warm GetVariable, and a case, are to stay under. */
const MOST_MICROSECONDS = 150
const MOST_MILLISECONDS = 30

/** Measures calls, cases and a column of strategies on OVMF's own code, beside the capture that its snapshot comes from, a boot in QEMU. */
export async function benchRealFirmware(): Promise<void> {
  console.log('OVMF’s own code under linux-6.1 with all rules watching, in CPU time')
  if (!existsSync(FIRMWARE)) {
    console.log('  left out: there is no OVMF (apt-get install ovmf)')
    return
  }
  const folder = await mkdtemp(join(tmpdir(), 'trapdoor-bench-'))
  try {
    const snapshot = join(folder, 'ovmf')
    const args = [
      '--conditions=@trapdoor/source',
      COMMAND,
      'capture',
      FIRMWARE,
      '--output',
      snapshot,
    ]
    const boot = await runTimed(process.execPath, args, TIME_LIMIT_SECONDS)
    if (boot?.code !== 0) {
      console.log('  left out: there is no QEMU (apt-get install qemu-system-x86)')
      return
    }
    await measureCalls(snapshot)
    const column = await measureColumn(snapshot)
    console.log(
      `  all strategies, booted once each  ${column.seconds.toFixed(2)} s for ${column.cases} cases  one capture in QEMU ${boot.cpuSeconds.toFixed(2)} s  ratio ${(column.seconds / boot.cpuSeconds).toFixed(2)}`,
    )
  } finally {
    await rm(folder, { recursive: true })
  }
}

async function measureCalls(snapshot: string): Promise<void> {
  const reads: { microseconds: number; instructions: number }[] = []
  const plugin = definePlugin({
    name: 'trapdoor-bench',
    apiVersion: 1,
    scenarios: [repeatedReads(reads), tenCalls],
  })
  const config = await loadConfig({
    directory: snapshot,
    builtIn: [...BUILT_IN_PLUGINS, plugin],
    overrides: { snapshots: [snapshot] },
  })
  const environment = createEnvironment(config)
  const [warm, ten] = planCases(config, {
    firmware: ['none'],
    strategies: ['linux-6.1'],
    scenarios: ['repeated-reads', 'ten-calls'],
  })
  runCase(environment, warm!)
  const [fastest] = reads.toSorted((one, other) => one.microseconds - other.microseconds)
  const { microseconds, instructions } = fastest!
  console.log(
    `  a warm GetVariable  ${microseconds.toFixed(0)} µs for ${instructions} instructions  ${microseconds < MOST_MICROSECONDS ? 'reaches' : 'misses'} ${MOST_MICROSECONDS}`,
  )
  const cases = Array.from({ length: CASES }, () => cpuSeconds(() => runCase(environment, ten!)))
  const milliseconds = Math.min(...cases) * 1000
  console.log(
    `  a case: fork, boot, SetVirtualAddressMap, ten calls  ${milliseconds.toFixed(1)} ms  ${milliseconds < MOST_MILLISECONDS ? 'reaches' : 'misses'} ${MOST_MILLISECONDS}`,
  )
}

/** A variable is written and read many times. */
function repeatedReads(reads: { microseconds: number; instructions: number }[]): Scenario {
  return {
    name: 'repeated-reads',
    title: 'boots, and reads one variable again and again',
    steps: [
      bootStep,
      {
        name: 'read',
        run: (context) => {
          const services = context.services()
          context.call(services.setVariable(NAME, Guid.LINUX_CRASH, KEPT, Uint8Array.of(1, 2, 3)))
          const { bootCpu } = context.machine
          for (let window = 0; window < WINDOWS; window++) {
            const before = bootCpu.instructions
            const seconds = cpuSeconds(() => {
              for (let read = 0; read < READS; read++) {
                services.getVariable(NAME, Guid.LINUX_CRASH).run()
              }
            })
            reads.push({
              microseconds: (seconds * 1e6) / READS,
              instructions: (bootCpu.instructions - before) / READS,
            })
          }
        },
      },
    ],
  }
}

/** The clock, and a variable that is written, read and deleted, until there are ten calls. */
const tenCalls: Scenario = {
  name: 'ten-calls',
  title: 'boots, and makes ten calls',
  steps: [
    bootStep,
    {
      name: 'ten calls',
      run: (context) => {
        const services = context.services()
        context.call(services.setVariable(NAME, Guid.LINUX_CRASH, KEPT, Uint8Array.of(1, 2, 3)))
        for (let pair = 0; pair < 4; pair++) {
          context.call(services.getTime())
          context.call(services.getVariable(NAME, Guid.LINUX_CRASH))
        }
        context.call(services.setVariable(NAME, Guid.LINUX_CRASH, KEPT, new Uint8Array()))
      },
    },
  ],
}

/** The boot of every strategy that calls such firmware, with all start-up but the modules'. */
async function measureColumn(snapshot: string): Promise<{ seconds: number; cases: number }> {
  const config = await loadConfig({
    directory: snapshot,
    builtIn: BUILT_IN_PLUGINS,
    overrides: { snapshots: [snapshot] },
  })
  const specs = planCases(config, { firmware: ['none'], scenarios: ['boot'] })
  const seconds = cpuSeconds(() => {
    const environment = createEnvironment(config)
    for (const spec of specs) runCase(environment, spec)
  })
  return { seconds, cases: specs.length }
}

function cpuSeconds(run: () => unknown): number {
  const start = process.cpuUsage()
  run()
  const { user, system } = process.cpuUsage(start)
  return (user + system) / 1e6
}
