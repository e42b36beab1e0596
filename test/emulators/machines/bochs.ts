import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { type CpuFeatures, ICE_LAKE_SP } from '@trapdoor/core'

import { BITS_32, BITS_32_PSE, FOUR_LEVEL, PAE } from '../cases/table-layout.ts'
import type { GuestImage, Span } from '../guest/image.ts'
import { IMAGE_LIMIT, Physical } from '../guest/layout.ts'
import { assembleRom } from '../guest/rom.ts'
import type { Emulator, GuestMemory } from './emulator.ts'
import { runEmulator } from './process.ts'

/** Starting takes seconds more with each GiB. */
const MEMORY_MIB = 3072
/** Bochs allocates what the guest touches. */
const HOST_MIB = 512

/** Bochs 2.7's model "tigerlake" (cpu/cpudb/intel/tigerlake.cc), and the address width that it is built with. */
const FEATURES: CpuFeatures = {
  ...ICE_LAKE_SP,
  name: 'bochs-tigerlake',
  maxPhysicalAddressBits: 40,
  la57: false,
}

/** Bochs in Debian's build, which is the one with the debugger: it runs a script that starts the guest, and at its end writes memory to files. */
export const BOCHS: Emulator = {
  name: 'bochs',
  stream: 2,
  features: FEATURES,
  places: { gibibytes: [1, 2], physicalBits: FEATURES.maxPhysicalAddressBits },
  accessedFlags: 'lazy',
  layouts: [FOUR_LEVEL, PAE, FOUR_LEVEL, BITS_32_PSE, FOUR_LEVEL, BITS_32, FOUR_LEVEL],
  casesPerRun: 20_000,
  defaultCases: 140_000,
  run: runBochs,
}

async function runBochs(image: GuestImage, directory: string): Promise<GuestMemory> {
  const at = (name: string) => join(directory, name)
  await writeFile(at('rom'), assembleRom({ header: Physical.Header, touchedUpTo: IMAGE_LIMIT }))
  await writeFile(at('vgarom'), Buffer.alloc(512))
  await writeFile(at('image'), image.bytes)
  await writeFile(at('bochsrc'), configuration())
  await writeFile(at('script'), debuggerScript(image))
  await runEmulator('bochs', ['-q', '-f', 'bochsrc', '-rc', 'script'], {
    directory,
    packages: ['bochs', 'bochs-term'],
    exitCodes: [0],
  })
  return { results: await readFile(at('results')), tables: await readFile(at('tables')) }
}

function configuration(): string {
  const lines = [
    'cpu: model=tigerlake, ips=50000000, reset_on_triple_fault=0',
    `memory: guest=${MEMORY_MIB}, host=${HOST_MIB}`,
    'romimage: file=rom, address=0xffff0000',
    'vgaromimage: file=vgarom',
    `optramimage1: file=image, address=0x${Physical.Header.toString(16)}`,
    'display_library: rfb, options="timeout=0"',
    'plugin_ctrl: unmapped=0, biosdev=0, speaker=0, extfpuirq=0, parallel=0, serial=0, gameport=0, iodebug=0',
    'magic_break: enabled=1',
    'log: log',
    'panic: action=fatal',
    'error: action=ignore',
    'info: action=ignore',
    'debug: action=ignore',
  ]
  return `${lines.join('\n')}\n`
}

function debuggerScript({ results, tables }: GuestImage): string {
  return `c\n${writeMemory('results', results)}\n${writeMemory('tables', tables)}\nquit\n`
}

function writeMemory(file: string, { start, length }: Span): string {
  return `writemem "${file}" 0x${(Physical.Header + start).toString(16)} ${length}`
}
