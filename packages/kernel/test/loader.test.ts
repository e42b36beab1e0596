import { EfiStatus, encodeMemoryMap, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import {
  BOOT_PARAMS_BYTES,
  decodeBootParams,
  E820Type,
  type HandOff,
  KernelError,
  KernelPanic,
  loadKernel,
} from '../src/index.ts'
import { messages } from './booted.ts'
import {
  descriptor,
  MAP,
  RAM_END,
  RUNTIME_CODE_END,
  RUNTIME_DATA,
  type SmallMachine,
  smallMachine,
  STRIDE,
  SYSTEM_TABLE,
} from './small-machine.ts'
import { thrownBy } from './thrown.ts'

/** Whether a descriptor of {@link MAP} is free memory from 1 MiB on. */
function isFree({ type, physicalStart }: MemoryDescriptor): boolean {
  return type === MemoryType.ConventionalMemory && physicalStart >= 0x10_0000
}

/** {@link MAP} with other conventional memory between 1 MiB and the firmware's own. */
function mapWith(...free: readonly MemoryDescriptor[]): MemoryDescriptor[] {
  return [...MAP.filter((each) => !isFree(each)), ...free]
}

const free = (start: number, end: number): MemoryDescriptor =>
  descriptor(MemoryType.ConventionalMemory, start, end)

function paramsOf({ machine, bootParams }: HandOff): ReturnType<typeof decodeBootParams> {
  return decodeBootParams(machine.memory.read(bootParams, BOOT_PARAMS_BYTES))
}

const loadingFails = (small: SmallMachine): KernelError =>
  thrownBy(KernelError, () => loadKernel(small, ''))

describe('placement', () => {
  test('is 16 MiB where that is free, whatever is free below', () => {
    expect(loadKernel(smallMachine(), '').imageBase).toBe(0x100_0000)
  })

  test('is the first 2 MiB boundary with room for image and hand-off', () => {
    // The first range has room for the image, but not for the 128 KiB behind it.
    const map = mapWith(free(0x100_0000, 0x201_f000), free(0x223_4000, 0x400_0000))
    expect(loadKernel(smallMachine({ map }), '').imageBase).toBe(0x240_0000)
  })

  test('may span descriptors that touch, in whatever order the map has them', () => {
    const map = mapWith(free(0x180_0000, 0x210_0000), free(0x100_0000, 0x180_0000))
    expect(loadKernel(smallMachine({ map }), '').imageBase).toBe(0x100_0000)
  })

  test('without room is an error, although there is memory enough in pieces', () => {
    const map = mapWith(free(0x10_0000, 0x180_0000), free(0x190_0000, 0x280_0000))
    const error = loadingFails(smallMachine({ map }))
    expect(error.code).toBe('KERNEL_NO_ROOM')
    expect(error.found).toBe(`none in ${map.length} descriptors`)
  })
})

describe('boot_params', () => {
  test('say where the system table and a copy of the whole map are', () => {
    const handOff = loadKernel(smallMachine(), 'root=/dev/sda1 virtefi')
    const { efi, commandLine, setupData } = paramsOf(handOff)
    expect(efi).toMatchObject({ systab: SYSTEM_TABLE, memdescSize: STRIDE, memdescVersion: 1 })
    expect(handOff.machine.memory.read(efi!.memmap, efi!.memmapSize)).toEqual(
      encodeMemoryMap(MAP, STRIDE),
    )
    expect(commandLine).toBe('root=/dev/sda1 virtefi')
    expect(setupData).toBe(0)
  })

  test('have the map as e820', () => {
    expect(paramsOf(loadKernel(smallMachine(), '')).e820).toEqual([
      { start: 0, end: 0xa_0000, type: E820Type.RAM },
      { start: 0x10_0000, end: RUNTIME_DATA, type: E820Type.RAM },
      { start: RUNTIME_DATA, end: RUNTIME_CODE_END, type: E820Type.RESERVED },
      { start: RUNTIME_CODE_END, end: RAM_END, type: E820Type.RAM },
      { start: 0xffc0_0000, end: 2 ** 32, type: E820Type.RESERVED },
    ])
  })

  test('lie behind the image, in memory that the map calls free', () => {
    const { imageBase, bootParams } = loadKernel(smallMachine(), '')
    expect(bootParams - imageBase).toBe(16 * 2 ** 20)
  })
})

describe('ExitBootServices', () => {
  test('gets the key of the map that was read last', () => {
    const small = smallMachine()
    loadKernel(small, '')
    expect(small.exits).toEqual([0x1ddn])
  })

  test('is tried once more with a new map where the first key was stale', () => {
    const small = smallMachine({ staleKeys: 1 })
    loadKernel(small, '')
    expect(small.exits).toEqual([0x1ddn, 0x1den])
  })

  test('that fails twice ends the boot', () => {
    const small = smallMachine({ staleKeys: 2 })
    expect(() => loadKernel(small, '')).toThrow(
      new KernelPanic('exit_boot() failed! ExitBootServices returned EFI_INVALID_PARAMETER'),
    )
    expect(small.exits).toHaveLength(2)
  })
})

test('a firmware that does not tell its map is no firmware to boot from', () => {
  const small = smallMachine({ getMemoryMapStatus: EfiStatus.DEVICE_ERROR })
  expect(() => loadKernel(small, '')).toThrow(
    new KernelPanic('exit_boot() failed! GetMemoryMap returned EFI_DEVICE_ERROR'),
  )
})

test('the loader leaves the stack pointer where it was, and says what it loaded', () => {
  const small = smallMachine()
  const before = small.machine.bootCpu.rsp
  loadKernel(small, 'quiet')
  expect(small.machine.bootCpu.rsp).toBe(before)
  expect(messages(small.machine.log.events, 'loader')).toEqual([
    'kernel at 0x1000000, command line "quiet"',
  ])
})
