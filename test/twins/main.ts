import { statSync } from 'node:fs'

import { BUILT_IN_PLUGINS } from '@trapdoor/cli'
import { PluginRegistry } from '@trapdoor/harness'
import type { ArgumentPlace, StrategyChoice } from '@trapdoor/kernel'
import { type FirmwareSnapshot, readObservedSnapshot } from '@trapdoor/snapshot'
import { MemoryType } from '@trapdoor/uefi'
import { Command } from 'commander'

import { IS_INSTALLED, ovmf, snapshotOf } from '../capture/firmwares.ts'
import { CALLS } from './calls.ts'
import { type Gap, strategyWith } from './gaps.ts'
import { compareWithTwin, describe } from './real-call.ts'

interface Build {
  readonly name: string
  readonly snapshot: FirmwareSnapshot
  readonly codeFlashBytes: number
}

/** A call to be made here and on QEMU. */
interface Cell {
  readonly strategy: StrategyChoice
  /** Undefined: SetVirtualAddressMap. */
  readonly service: string | undefined
  readonly place?: ArgumentPlace
}

const program = new Command('twins')
  .description(
    "Makes calls of Debian's OVMF under every strategy, and under tables with gaps, and makes each again on QEMU from the same memory, page tables and registers: how it ends, every register, all memory and the flash have to agree.",
  )
  .option('--all', 'every call on every build, which takes some minutes')
  .addHelpText(
    'after',
    '\nExit codes: 0 all agree, 1 differences, 2 bad usage, or QEMU or OVMF is missing.',
  )
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
  .parse()
const { all = false } = program.opts<{ all?: boolean }>()

if (!IS_INSTALLED) {
  console.error('error TWINS_MISSING: QEMU or OVMF is not installed')
  console.error('hint apt-get install --no-install-recommends qemu-system-x86 ovmf ovmf-ia32')
  process.exit(2)
}

const builds = [await build('pc', 'OVMF_CODE.fd'), await build('q35', 'OVMF_CODE_4M.fd')]
const registry = new PluginRegistry(BUILT_IN_PLUGINS)
const services = Object.keys(CALLS)
let calls = 0
let faults = 0
let differing = 0

const cells = [...strategyCells(), ...gapCells()]
// Neighbours are on different builds, and so are the calls of one strategy.
for (const [index, cell] of cells.entries()) {
  for (const each of all ? builds : [builds[index % builds.length]!]) await judge(cell, each)
}
console.log(
  `\n${calls} calls, ${faults} of them ending in an exception here and on QEMU, ${differing} differences`,
)
process.exitCode = differing === 0 ? 0 : 1

async function build(board: 'pc' | 'q35', code: string): Promise<Build> {
  const snapshot = readObservedSnapshot(await snapshotOf({ board, firmware: ovmf(code) }))
  return { name: `${board} ${code}`, snapshot, codeFlashBytes: statSync(ovmf(code)).size }
}

/** Every strategy with SetVirtualAddressMap, where it is called, and with a service by turns, or with all. */
function strategyCells(): Cell[] {
  return [...registry.strategies.values()].flatMap((definition, index) => {
    const turn = services[index % services.length]!
    const called: (string | undefined)[] = all ? services : [turn]
    const made: (string | undefined)[] =
      definition.mode === 'virtual' ? [undefined, ...called] : called
    return made.map((service): Cell => ({ strategy: { definition }, service }))
  })
}

/** Tables that lack what firmware touches, and arguments that state A of the patch does not map. */
function gapCells(): Cell[] {
  const { RuntimeServicesCode: code, RuntimeServicesData: data, MemoryMappedIO: flash } = MemoryType
  const gaps: readonly (readonly [Gap, readonly string[]])[] = [
    [{ type: data, as: 'absent' }, ['GetVariable', 'SetVariable', 'GetNextVariableName']],
    [{ type: data, as: 'read-only' }, ['SetVariable', 'GetNextHighMonotonicCount']],
    [{ type: flash, as: 'absent' }, ['SetVariable', 'GetNextHighMonotonicCount']],
    [{ type: flash, as: 'read-only' }, ['SetVariable']],
    [{ type: code, as: 'absent' }, ['GetTime']],
    [{ type: code, as: 'no-execute' }, ['GetVariable', 'QueryVariableInfo']],
    [{ type: code, as: 'read-only' }, ['GetVariable', 'SetVariable']],
    [{ type: code, as: 'user' }, ['GetTime']],
  ]
  const stateA = {
    definition: registry.strategy('private-efi-pgd'),
    options: { state: 'A', saveArea: 'perCpu', page0: 'unmapped' },
  }
  return [
    ...gaps.flatMap(([gap, names]) =>
      names.map((service) => ({ strategy: { definition: strategyWith(gap) }, service })),
    ),
    ...['GetTime', 'GetVariable', 'SetVariable'].map((service): Cell => ({
      strategy: stateA,
      service,
      place: 'vmalloc',
    })),
  ]
}

async function judge({ strategy, service, place }: Cell, each: Build): Promise<void> {
  const { snapshot, codeFlashBytes } = each
  const name = `${strategy.definition.name}, ${service ?? 'SetVirtualAddressMap'}, ${each.name}`
  const compared = await compareWithTwin({
    snapshot,
    codeFlashBytes,
    strategy,
    ...(place === undefined ? {} : { place }),
    ...(service === undefined ? {} : { prepare: CALLS[service]! }),
  })
  if (compared === undefined) {
    console.log(`- ${name}: firmware is not entered`)
    return
  }
  const { ours, differences } = compared
  calls++
  if (ours.ended.kind === 'exception') faults++
  if (differences.length > 0) differing++
  console.log(`${differences.length === 0 ? '✓' : '✗'} ${name}: ${describe(ours.ended)}`)
  for (const difference of differences) console.log(`    ${difference}`)
}
