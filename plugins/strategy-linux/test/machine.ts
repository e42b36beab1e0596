import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
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

const CONFIGS = join(import.meta.dirname, '../../../configs')
/** OVMF on a q35 machine, as its kernel log tells. */
const MACHINE = join(CONFIGS, 'demo/ovmf-q35-4m.txt')
/** OVMF for ia32, with 1 GiB of memory, and with 4 GiB, half of them above 4 GiB. */
export const IA32_1G: string = join(CONFIGS, 'i386/ovmf-ia32-q35-1g.txt')
export const IA32_4G: string = join(CONFIGS, 'i386/ovmf-ia32-q35-4g.txt')

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
    readonly cpus?: number
    /** A machine with firmware of 32 bits. */
    readonly ia32?: string
  } = {},
): Promise<Played> {
  const kernels: Kernel[] = []
  const scenario: Scenario = {
    name: 'test',
    title: 'a test',
    ...(setting.cpus === undefined ? {} : { cpus: setting.cpus }),
    steps: [{ name: 'test', run: (context) => run(context, kernels) }],
  }
  const machine = setting.ia32 ?? MACHINE
  const bytes = setting.bytes ?? readFileSync(machine)
  const config = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [
      plugin,
      ...(setting.plugins ?? []),
      { name: 'test', apiVersion: 1, scenarios: [scenario] },
    ],
    overrides: {
      memoryMaps: [setting.ia32 === undefined ? MACHINE : `ia32:${setting.ia32}`],
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
      `${basename(machine, '.txt')}/${setting.quirk ?? 'none'}/${strategy}/test${setting.seed === undefined ? '' : `#${setting.seed}`}`,
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
