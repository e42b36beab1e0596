import { statSync } from 'node:fs'

import { BUILT_IN_PLUGINS } from '@trapdoor/cli'
import { PluginRegistry } from '@trapdoor/harness'
import { readObservedSnapshot } from '@trapdoor/snapshot'
import { Command } from 'commander'

import { IS_INSTALLED, ovmf, snapshotOf } from '../capture/firmwares.ts'
import { type Build, compareWithTwin } from '../twins/comparison.ts'
import { stepNamed } from '../twins/calls.ts'
import { type MadeCall, Session } from '../twins/session.ts'
import { Trace } from './processor-state.ts'
import { QemuTrace } from './qemu-trace.ts'
import { TraceComparison } from './trace-comparison.ts'

/** MiB of the machines. */
const MEMORY = 128
/** Where firmware is called at virtual addresses, and SetVirtualAddressMap is called. */
const STRATEGY = 'linux-6.1'
const SERVICES = [
  'GetTime',
  'GetVariable',
  'SetVariable',
  'GetNextVariableName',
  'QueryVariableInfo',
]

const program = new Command('traces')
  .description(
    "Makes calls of Debian's OVMF, and each again on QEMU instruction by instruction: before every one the general registers, RIP, RFLAGS, the control registers and EFER have to agree.",
  )
  .option('--all', 'both chipsets and both sizes of firmware')
  .option('--strategy <name>', 'whose page tables', STRATEGY)
  .addHelpText(
    'after',
    '\nExit codes: 0 all agree, 1 differences, 2 bad usage, or QEMU or OVMF is missing.',
  )
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
  .parse()
const { all = false, strategy } = program.opts<{ all?: boolean; strategy: string }>()

if (!IS_INSTALLED) {
  console.error('error TRACES_MISSING: QEMU or OVMF is not installed')
  console.error('hint apt-get install --no-install-recommends qemu-system-x86 ovmf')
  process.exit(2)
}

const builds = [
  await build('q35', 'OVMF_CODE_4M.fd'),
  ...(all ? [await build('pc', 'OVMF_CODE.fd')] : []),
]
const definition = new PluginRegistry(BUILT_IN_PLUGINS).strategy(strategy)
let [calls, instructions, iterations, differing] = [0, 0, 0, 0]
for (const each of builds) await traceCalls(each)
console.log(
  `\n${calls} calls, ${instructions.toLocaleString('en-US')} instructions and ${iterations.toLocaleString('en-US')} further iterations of string instructions, ${differing} differences`,
)
process.exitCode = differing === 0 ? 0 : 1

async function build(board: 'pc' | 'q35', code: string): Promise<Build> {
  const firmware = ovmf(code)
  return {
    name: `${board} ${code}`,
    firmware,
    snapshot: readObservedSnapshot(await snapshotOf({ board, firmware, memory: MEMORY })),
    codeFlashBytes: statSync(firmware).size,
  }
}

async function traceCalls(each: Build): Promise<void> {
  let trace = new Trace()
  const session = Session.start({
    snapshot: each.snapshot,
    strategy: { definition },
    onInstruction: (cpu) => {
      trace.note(cpu)
    },
  })
  if (session.virtualAddressMap !== undefined) {
    await judge('SetVirtualAddressMap', session.virtualAddressMap, trace, each)
  }
  for (const service of SERVICES) {
    trace = new Trace()
    const made = stepNamed(service).run(session)
    if (made !== undefined) await judge(service, made.call, trace, each)
  }
}

async function judge(name: string, call: MadeCall, trace: Trace, each: Build): Promise<void> {
  const comparison = new TraceComparison(trace)
  const theirs = await QemuTrace.create((state) => {
    comparison.compare(state)
  })
  const differences = [...(await compareWithTwin(call, each, theirs))]
  if (comparison.difference !== undefined) differences.unshift(comparison.difference)
  calls++
  instructions += comparison.compared
  iterations += comparison.iterations
  if (differences.length > 0) differing++
  const sign = differences.length === 0 ? '✓' : '✗'
  console.log(
    `${sign} ${each.name}, ${name}: ${comparison.compared.toLocaleString('en-US')} instructions`,
  )
  for (const difference of differences) console.log(`    ${difference}`)
}
