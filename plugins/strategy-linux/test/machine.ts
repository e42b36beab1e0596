import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { inspectAddress, type Inspection, type MachineEvent } from '@trapdoor/core'
import {
  type CaseTrace,
  createEnvironment,
  findCase,
  loadConfig,
  type Plugin,
  type Scenario,
  type ScenarioContext,
  traceCase,
} from '@trapdoor/harness'
import type { Kernel } from '@trapdoor/kernel'
import plugin from '../src/index.ts'

/** OVMF on a q35 machine, as its kernel log tells. */
const MACHINE = join(import.meta.dirname, '../../../configs/demo/ovmf-q35-4m.txt')

/** A run of a test's own steps, and the kernels that it booted. */
export interface Played extends CaseTrace {
  readonly kernels: readonly Kernel[]
}

/** Boots a kernel with `strategy` and does what `run` says. */
export async function play(
  strategy: string,
  run: (context: ScenarioContext, kernels: Kernel[]) => void,
  setting: {
    readonly commandLine?: string
    readonly quirk?: string
    readonly plugins?: readonly Plugin[]
    readonly bytes?: Uint8Array
    readonly cpu?: string
    readonly seed?: number
  } = {},
): Promise<Played> {
  const kernels: Kernel[] = []
  const scenario: Scenario = {
    name: 'test',
    title: 'a test',
    steps: [{ name: 'test', run: (context) => run(context, kernels) }],
  }
  const bytes = setting.bytes ?? readFileSync(MACHINE)
  const config = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [
      plugin,
      ...(setting.plugins ?? []),
      { name: 'test', apiVersion: 1, scenarios: [scenario] },
    ],
    overrides: {
      memoryMaps: [MACHINE],
      ...(setting.commandLine === undefined ? {} : { commandLine: setting.commandLine }),
    },
  })
  const withBytes = {
    ...config,
    memoryMaps: [{ ...config.memoryMaps[0]!, bytes }],
    ...(setting.cpu === undefined ? {} : { cpu: setting.cpu as typeof config.cpu }),
  }
  const trace = traceCase(
    createEnvironment(withBytes),
    findCase(
      withBytes,
      `ovmf-q35-4m/${setting.quirk ?? 'none'}/${strategy}/test${setting.seed === undefined ? '' : `#${setting.seed}`}`,
    ),
  )
  return { ...trace, kernels }
}

/** Boots, and keeps the kernel. */
export function boot(context: ScenarioContext, kernels: Kernel[]): Kernel {
  const kernel = context.boot()
  kernels.push(kernel)
  return kernel
}

/** What the root that firmware runs under says of an address. */
export function inEfiTables(kernel: Kernel, address: bigint): Inspection {
  const root = kernel.roots.find(({ name }) => name === 'efi_pgd' || name === 'trampoline_pgd')!
  return inspectAddress(kernel.bootCpu.translationContext(root.root), address)
}

/** What the kernels printed. */
export function said(events: readonly MachineEvent[]): string[] {
  return events.flatMap((event) =>
    event.kind === 'message' && event.source === 'kernel' ? [event.text] : [],
  )
}
