// The misbehaving runtime driver of shared/data/observed/bad-drivers as machine code: compiled, captured with the firmware that has loaded it, and called by the model's kernel as the observed machine's
// test called it. The ending of each kernel, the status of each call and what the driver said are as they were under Linux 6.1 and 6.12.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { CaseTrace, Scenario, ScenarioContext } from '@trapdoor/harness'
import { linesOf } from '@trapdoor/intake'
import { efiStatusName, EfiStatus, Guid } from '@trapdoor/uefi'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { play } from '../story/cases.ts'
import {
  type Ending,
  endingsOf,
  observedEnding,
  SHARED_DRIVER,
  sharedRuns,
} from '../story/observed-drivers.ts'
import { buildDriver, CAN_COMPILE, NEEDS_COMPILER } from './bad-driver.ts'
import { IS_INSTALLED, NEEDS, ovmf, snapshotOf } from './firmwares.ts'

const VENDOR = '12345678-1234-5678-9abc-def011223344'
/** NON_VOLATILE, BOOTSERVICE_ACCESS, RUNTIME_ACCESS. */
const KEPT = 0x7
/** BOOTSERVICE_ACCESS, RUNTIME_ACCESS. */
const VOLATILE = 0x6
/** Bytes of the buffer that GetVariable got. */
const CAPACITY = 0x1000
/** Variants whose driver has its data where the firmware put it: that depends on what else was loaded. */
const WITH_POOL: ReadonlySet<string> = new Set(['1p', '2'])

/** A device more, of one variant: with it the page that the driver takes is in the descriptor of the memory attributes table, as it was where that variant was observed. */
const BESIDE_TABLE: readonly string[] = ['-device', 'virtio-rng-pci']

let folder = ''

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'trapdoor-bad-drivers-'))
})

afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
})

/** What the kernel module of the observed machine did for one action "calls": its services in their order, with its arguments. */
function callServices(context: ScenarioContext): void {
  const services = (): ReturnType<ScenarioContext['services']> => context.services('kmalloc')
  const set = (name: string, byte: number, bytes: number, attributes = KEPT): void => {
    const data = new Uint8Array(bytes).fill(byte)
    context.call(services().setVariable(name, VENDOR, attributes, data))
  }
  const get = (name: string, vendor = VENDOR): void => {
    context.call(services().getVariable(name, vendor, CAPACITY))
  }
  context.call(services().getTime())
  context.call(services().getWakeupTime())
  const alarm = context.call(services().getTime())
  if (alarm !== undefined) {
    context.call(services().setWakeupTime({ ...alarm, hour: (alarm.hour + 1) % 24 }))
  }
  const now = context.call(services().getTime())
  if (now !== undefined) context.call(services().setTime(now))
  context.call(services().queryVariableInfo(KEPT))
  listVariables(context)
  context.call(services().getNextHighMonotonicCount())
  context.callIfSupported(services().queryCapsuleCapabilities(VENDOR, 0))
  get('BootOrder', Guid.GLOBAL_VARIABLE)
  get('SetupMode', Guid.GLOBAL_VARIABLE)
  get('NoSuchVariable')
  for (const [byte, bytes] of [
    [0x5a, 16],
    [0x5b, 16],
    [0, 0],
  ] as const) {
    set('PTest', byte, bytes)
    get('PTest')
  }
  set('PBig', 0x33, 4096)
  set('PBig', 0, 0)
  set('PVol', 0x44, 64, VOLATILE)
  get('PVol')
}

/** Its console names the first answer and the last. */
function listVariables(context: ScenarioContext): void {
  let next = context.call(context.services('kmalloc').getNextVariableName())
  while (next !== undefined) {
    const prepared = context.services('kmalloc').getNextVariableName(next)
    prepared.call?.run()
    if (prepared.call?.status === EfiStatus.SUCCESS) next = prepared.finish().value
    else next = context.record(prepared)
  }
}

/** What a run's console says of a kernel. */
interface ObservedKernel {
  /** How often its test called all services. */
  readonly rounds: number
  /** Services with the names of their statuses, in order. */
  readonly answers: readonly string[]
}

function observedKernels(run: string): ObservedKernel[] {
  const kernels: { rounds: number; answers: string[] }[] = []
  for (const { text } of linesOf(join(SHARED_DRIVER, `quirk-${run}.console.log.gz`))) {
    if (text.startsWith('Linux version ')) kernels.push({ rounds: 0, answers: [] })
    const kernel = kernels.at(-1)
    if (text.startsWith('@@@ACTION calls ')) kernel!.rounds++
    const [, service, status] = /^efiprobe: (\w+|next end) status=([\da-f]+)/.exec(text) ?? []
    if (service === undefined) continue
    const name = service === 'next end' ? 'GetNextVariableName' : service
    kernel!.answers.push(`${name} ${efiStatusName(BigInt(`0x${status}`))}`)
  }
  return kernels
}

/** What the driver printed from ExitBootServices on, line by line. */
function driverLines(variant: string, text: string): string[] {
  const lines = text.split('\n').filter((line) => line.startsWith('QUIRK '))
  return lines
    .slice(lines.indexOf('QUIRK OnEbs') + 1)
    .filter((line) => !line.startsWith('QUIRK memattr '))
    .map((line) => (WITH_POOL.has(variant) ? line.replace(/bad=.*/, 'bad=elsewhere') : line))
}

function scenarioOf(kernels: readonly ObservedKernel[]): Scenario {
  return {
    name: 'observed',
    title: 'what was done under the real kernel',
    steps: kernels.map(({ rounds }, index) => ({
      name: index === 0 ? 'boot' : 'kexec',
      run: (context) => {
        if (index === 0) context.boot()
        else context.kexec()
        for (let round = 0; round < rounds; round++) callServices(context)
      },
    })),
  }
}

async function playAsMachineCode(
  variant: string,
  kernels: readonly ObservedKernel[],
  commandLine: string,
): Promise<CaseTrace> {
  const driver = await buildDriver(variant, folder)
  const firmware = { board: 'pc' as const, firmware: ovmf('OVMF_CODE.fd'), drivers: [driver] }
  const snapshot = await snapshotOf(
    variant === '1p' ? { ...firmware, qemu: BESIDE_TABLE } : firmware,
  )
  const setting = { snapshot, commandLine, comesUp: false } as const
  return play('none/linux-6.1/observed', scenarioOf(kernels), setting)
}

describe.skipIf(!IS_INSTALLED || !CAN_COMPILE)(
  `the bad driver as machine code (${NEEDS}; ${NEEDS_COMPILER})`,
  () => {
    test.each([...sharedRuns()])('%s does as under the real kernel', async (run, logs) => {
      const [variant = '', ...options] = run.split('-')
      const endings = logs.map(({ ending }) => observedEnding(ending))
      // A kernel that got no EFI information from the one before does not know of the driver at all.
      const count = endings[0]!.svamFails ? 1 : endings.length
      const observed = observedKernels(run).slice(0, count)
      const commandLine = options.includes('efidebug') ? 'efi=debug' : ''
      const trace = await playAsMachineCode(variant, observed, commandLine)
      const said = readFileSync(join(SHARED_DRIVER, `quirk-${run}.debugcon.txt`), 'latin1')
      expect(endingsOf(trace, count)).toEqual(endings.slice(0, count) satisfies Ending[])
      const { services } = trace.result
      expect(services.map(({ name, status }) => `${name} ${status}`)).toEqual(
        observed.flatMap(({ answers }) => answers),
      )
      expect(driverLines(variant, trace.debugText)).toEqual(driverLines(variant, said))
    })
  },
)
