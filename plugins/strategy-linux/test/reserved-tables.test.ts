import { PAGE_SIZE } from '@trapdoor/core'
import type { Plugin } from '@trapdoor/harness'
import type { Kernel } from '@trapdoor/kernel'
import { Guid, isRuntime, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { boot, inEfiTables, play, said } from './machine.ts'

type Quirk = NonNullable<Plugin['quirks']>[number]
type FirmwareSetup = Parameters<NonNullable<Quirk['hooks']['powerOn']>>[0]

/** A kernel on firmware that does `powerOn`. */
async function bootOn(
  strategy: string,
  powerOn: (setup: FirmwareSetup) => void,
): Promise<{ kernel: Kernel; said: string[] }> {
  const quirk = { id: 'T1', name: 'test', title: 'a test', sources: ['a test'], hooks: { powerOn } }
  const { kernels, events } = await play(strategy, boot, {
    plugins: [{ name: 'firmware', apiVersion: 1, quirks: [quirk] }],
    quirk: 'T1',
  })
  return { kernel: kernels[0]!, said: said(events) }
}

const page = (setup: FirmwareSetup, name: string): number =>
  setup.allocate({ type: MemoryType.BootServicesData, pages: 1, name })

/** An ESRT of two entries, as UEFI 2.10, 23.4 has it. */
function installEsrt(setup: FirmwareSetup, version = 1n): number {
  const table = page(setup, 'ESRT')
  setup.write64(table, 2n | (2n << 32n))
  setup.write64(table + 8, version)
  setup.setConfigTable(Guid.ESRT, table)
  return table
}

/** RSDP, XSDT and BGRT (ACPI 6.5, 5.2.5.3, 5.2.8 and 5.2.23), and a bitmap of two pages in boot-services data. */
function installBgrt(setup: FirmwareSetup, magic = 0x4d42n): number {
  const acpi = setup.allocate({ type: MemoryType.ACPIReclaimMemory, pages: 1, name: 'ACPI' })
  const image = setup.allocate({ type: MemoryType.BootServicesData, pages: 2, name: 'logo' })
  const [xsdt, bgrt] = [acpi + 0x40, acpi + 0x80]
  setup.write64(acpi, 0x2052_5450_2044_5352n)
  setup.write64(acpi + 24, BigInt(xsdt))
  setup.write64(xsdt, 0x5444_5358n | (44n << 32n))
  // The entry is not aligned to eight bytes: the header has 36.
  setup.write64(xsdt + 32, BigInt(bgrt) << 32n)
  setup.write64(xsdt + 40, BigInt(bgrt) >> 32n)
  setup.write64(bgrt, 0x5452_4742n | (56n << 32n))
  // Version 1, status 1, type 0.
  setup.write64(bgrt + 32, 0x0001_0001n << 32n)
  setup.write64(bgrt + 40, BigInt(image))
  setup.write64(image, magic | (BigInt(PAGE_SIZE + 1) << 16n))
  setup.setConfigTable(Guid.ACPI_20, acpi)
  return image
}

/** The region that covers an address, once the kernel runs. */
function regionOf(kernel: Kernel, address: number): MemoryDescriptor | undefined {
  return kernel.requireEfi.memoryMap.find(
    ({ physicalStart, numberOfPages }) =>
      physicalStart <= address && address < physicalStart + numberOfPages * PAGE_SIZE,
  )
}

/** Who has a page. */
function ownerOf(kernel: Kernel, address: number): string | undefined {
  return kernel.machine.memory.owners.get(address / PAGE_SIZE)?.name
}

describe('the ESRT', () => {
  test.each(['linux-4.9', 'linux-4.14', 'linux-5.4', 'linux-6.1', 'linux-7.1'])(
    'has a runtime region of its own with %s, one page, and stays mapped and unused',
    async (strategy) => {
      let table = 0
      const { kernel, said: messages } = await bootOn(strategy, (setup) => {
        table = installEsrt(setup)
      })
      const region = regionOf(kernel, table)!
      expect(region).toMatchObject({ type: MemoryType.BootServicesData, numberOfPages: 1 })
      expect(isRuntime(region)).toBe(true)
      expect(inEfiTables(kernel, region.virtualStart)).toMatchObject({ physical: table })
      expect(ownerOf(kernel, table)).not.toContain('page cache')
      const start = table.toString(16).padStart(16, '0')
      const end = (table + 16 + 2 * 40).toString(16).padStart(16, '0')
      expect(messages).toContain(`esrt: Reserving ESRT space from 0x${start} to 0x${end}.`)
    },
  )

  test.each([
    ['linux-4.3', false],
    ['linux-4.6', true],
  ])('keeps all of its region with %s, and is passed to firmware: %s', async (strategy, passed) => {
    let table = 0
    const { kernel } = await bootOn(strategy, (setup) => {
      table = installEsrt(setup)
    })
    const region = regionOf(kernel, table)
    expect(region !== undefined && isRuntime(region)).toBe(passed)
    expect(ownerOf(kernel, table)).not.toContain('page cache')
  })

  test('is memory like any other before 4.2, and where its version is not 1', async () => {
    for (const [strategy, version] of [
      ['linux-3.14', 1n],
      ['linux-6.1', 2n],
    ] as const) {
      let table = 0
      const { kernel, said: messages } = await bootOn(strategy, (setup) => {
        table = installEsrt(setup, version)
      })
      expect(ownerOf(kernel, table)).toContain('page cache')
      expect(messages.filter((text) => text.startsWith('esrt: Reserving'))).toEqual([])
    }
  })
})

describe('the image of the BGRT', () => {
  test.each([
    ['linux-4.6', false],
    ['linux-4.9', true],
    ['linux-6.1', true],
  ])('is kept by %s: %s', async (strategy, isKept) => {
    let image = 0
    const { kernel } = await bootOn(strategy, (setup) => {
      image = installBgrt(setup)
    })
    for (const address of [image, image + PAGE_SIZE]) {
      expect(ownerOf(kernel, address)?.includes('page cache')).toBe(!isKept)
    }
    const region = regionOf(kernel, image)
    expect(region?.numberOfPages === 2).toBe(isKept)
  })

  test('is not looked for behind a bitmap that is none', async () => {
    let image = 0
    const { kernel, said: messages } = await bootOn('linux-6.1', (setup) => {
      image = installBgrt(setup, 0x5a4dn)
    })
    expect(ownerOf(kernel, image)).toContain('page cache')
    expect(messages).toContain(
      'efi_bgrt: Ignoring BGRT: Incorrect BMP magic number 0x5a4d (expected 0x4d42)',
    )
  })
})
