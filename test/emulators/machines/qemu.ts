import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { QEMU_TCG } from '@trapdoor/core'

import { BITS_32, BITS_32_PSE, FIVE_LEVEL, FOUR_LEVEL, PAE } from '../cases/table-layout.ts'
import type { GuestImage, Span } from '../guest/image.ts'
import { Physical } from '../guest/layout.ts'
import { EXIT_PORT, EXIT_VALUE } from '../guest/program.ts'
import { assembleRom } from '../guest/rom.ts'
import type { Emulator, GuestMemory } from './emulator.ts'
import { runEmulator } from './process.ts'

/** 3 GiB from address 0, 2 GiB from 4 GiB on, and a module of 1 GiB far above, so that high address bits count. */
const MEMORY_GIB = 5
const MODULE_GIB = 662
const MEMORY_BYTES = MEMORY_GIB * 2 ** 30

/** What isa-debug-exit makes of the guest's value. */
const EXIT_AT_PORT = 2 * EXIT_VALUE + 1
/** A guest that triple faults ends too: the case of which it did so has no result. */
const EXIT_AT_RESET = 0

/** QEMU without hardware acceleration. Its memory is a file that both sides see. */
export const QEMU: Emulator = {
  name: 'qemu',
  stream: 1,
  features: QEMU_TCG,
  places: { gibibytes: [1, 2, 4, 5, MODULE_GIB], physicalBits: QEMU_TCG.maxPhysicalAddressBits },
  accessedFlags: 'eager',
  layouts: [FOUR_LEVEL, FIVE_LEVEL, PAE, BITS_32_PSE, FOUR_LEVEL, FIVE_LEVEL, BITS_32],
  casesPerRun: 20_000,
  defaultCases: 1_000_000,
  run: runQemu,
}

async function runQemu(image: GuestImage, directory: string): Promise<GuestMemory> {
  const rom = join(directory, 'rom')
  const memory = join(directory, 'memory')
  await writeFile(rom, assembleRom({ header: Physical.Header }))
  const file = await open(memory, 'wx+')
  try {
    await file.truncate(MEMORY_BYTES)
    await file.write(image.bytes, 0, image.bytes.length, Physical.Header)
    await runEmulator('qemu-system-x86_64', qemuArguments(rom, memory), {
      directory,
      packages: ['qemu-system-x86'],
      exitCodes: [EXIT_AT_PORT, EXIT_AT_RESET],
    })
    const read = async ({ start, length }: Span): Promise<Buffer> => {
      const bytes = Buffer.alloc(length)
      await file.read(bytes, 0, length, Physical.Header + start)
      return bytes
    }
    return { results: await read(image.results), tables: await read(image.tables) }
  } finally {
    await file.close()
  }
}

function qemuArguments(rom: string, memory: string): string[] {
  return [
    ['-nodefaults', '-no-user-config', '-no-reboot'],
    ['-display', 'none'],
    ['-accel', 'tcg'],
    ['-cpu', 'max'],
    ['-machine', 'pc,memory-backend=main'],
    ['-m', `${MEMORY_GIB}G,slots=1,maxmem=1000G`],
    ['-object', `memory-backend-file,id=main,size=${MEMORY_GIB}G,mem-path=${memory},share=on`],
    ['-object', 'memory-backend-ram,id=far,size=1G'],
    ['-device', `pc-dimm,memdev=far,addr=${MODULE_GIB * 2 ** 30}`],
    ['-device', `isa-debug-exit,iobase=${EXIT_PORT},iosize=1`],
    ['-bios', rom],
  ].flat()
}
