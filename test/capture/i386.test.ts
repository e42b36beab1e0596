import { BUILT_IN_PLUGINS } from '@trapdoor/cli'
import { CpuException, Cr0, MachineReset, PAE, Segment } from '@trapdoor/core'
import { Interpreter } from '@trapdoor/cpu'
import { createFirmware, type Firmware } from '@trapdoor/firmware'
import { PluginRegistry } from '@trapdoor/harness'
import {
  bootKernel,
  createKernelHooks,
  EfiServices,
  type Kernel,
  kexec,
  type KernelProfile,
  layoutOf,
  loadKernel,
} from '@trapdoor/kernel'
import { boot, bootToRuntime, smallFirmware } from '@trapdoor/plugin-kit'
import { readObservedSnapshot } from '@trapdoor/snapshot'
import {
  checkTable,
  decodeConfigTable,
  descriptorEnd,
  EfiStatus,
  type EfiTime,
  Guid,
  IA32,
  MemoryType,
  RUNTIME_SERVICES,
  type RuntimeServiceName,
  TableHeader,
} from '@trapdoor/uefi'
import { beforeAll, describe, expect, test } from 'vitest'
import { IS_INSTALLED, NEEDS, ovmf, snapshotOf } from './firmwares.ts'

const registry = new PluginRegistry(BUILT_IN_PLUGINS)
const { tables } = IA32
const executor = new Interpreter()
/** On a machine with 512 MiB of memory, and with 2 GiB, at whose end the firmware is. */
let [firmware, atTwoGibibytes]: Firmware[] = []

/** Kernels with an i386 strategy. */
function profile(strategy: string, options: Readonly<Record<string, string>>): KernelProfile {
  const choice = { definition: registry.strategy(strategy), options }
  return { layout: layoutOf(choice), strategies: [choice] }
}

function start(
  on: Firmware,
  strategy: string,
  options: Readonly<Record<string, string>> = {},
): Kernel {
  return bootKernel(loadKernel(on.powerOn(), ''), {
    name: 'first kernel',
    profile: profile(strategy, options),
    hooks: createKernelHooks(),
  })
}

async function capture(memory: number): Promise<Firmware> {
  const folder = await snapshotOf({ firmware: ovmf('OVMF32_CODE_4M.secboot.fd'), memory })
  const snapshot = readObservedSnapshot(folder)
  return createFirmware({ name: `ovmf-ia32-${memory}m`, snapshot, executor })
}

function services(kernel: Kernel): EfiServices {
  return new EfiServices(kernel, kernel.bootCpu, 'stack')
}

function functionAddress({ images }: Firmware, name: RuntimeServiceName): number {
  return images.flatMap(({ gates }) => gates).find((each) => each.name === name)!.address
}

function timeOf(kernel: Kernel): EfiTime {
  const { status, value } = services(kernel).getTime().run()
  expect(status).toBe(EfiStatus.SUCCESS)
  return value!
}

// Debian has OVMF for ia32 only with its variables in system-management mode, so that calls which ask for them are beyond a snapshot. The clock, the change of addresses and the reset are not.
describe.skipIf(!IS_INSTALLED)(`OVMF for ia32 under kernels of 32 bits (${NEEDS})`, () => {
  beforeAll(async () => {
    firmware = await capture(512)
    atTwoGibibytes = await capture(2048)
  }, 300_000)

  test('hands a processor over as the model of it does', () => {
    const [real, model] = [firmware, smallFirmware([], { architecture: 'ia32' })].map(
      (each) => boot(each!).cpu,
    )
    for (const cpu of [real!, model!]) {
      expect(cpu.mode).toBe(PAE)
      expect(cpu.codeSegmentLong).toBe(false)
    }
    const flags = Cr0.PE | Cr0.WP | Cr0.PG
    expect(real!.cr0 & flags).toBe(model!.cr0 & flags)
    expect(real!.efer).toBe(model!.efer)
    for (const segment of [
      Segment.CS,
      Segment.SS,
      Segment.DS,
      Segment.ES,
      Segment.FS,
      Segment.GS,
    ]) {
      const { selector, base, limit } = real!.segments[segment]!
      expect(model!.segments[segment]).toMatchObject({ selector, base, limit })
    }
  })

  test('has its tables where the model has them', () => {
    const caller = bootToRuntime(firmware!)
    const system = caller.cpu.readBytes(caller.systemTable, tables.systemTableSize)
    const runtime = caller.cpu.readBytes(caller.runtimeTable, tables.runtimeServicesTableSize)
    for (const bytes of [system, runtime]) {
      const view = new DataView(bytes.buffer, bytes.byteOffset)
      expect(view.getUint32(TableHeader.HeaderSize, true)).toBe(bytes.length)
      expect(checkTable(bytes)).toBe(true)
    }
    const field = (name: keyof typeof tables.systemTable): bigint =>
      caller.readNatural(caller.systemTable + BigInt(tables.systemTable[name]))
    const entries = caller.cpu.readBytes(
      field('ConfigurationTable'),
      Number(field('NumberOfTableEntries')) * tables.configTableEntrySize,
    )
    const smbios = decodeConfigTable(entries, IA32).find(({ guid }) => guid === Guid.SMBIOS)
    expect(caller.cpu.read32(smbios!.table)).toBe(0x5f4d_535f)
    const codes = firmware!.memoryMap.filter(({ type }) => type === MemoryType.RuntimeServicesCode)
    for (const name of RUNTIME_SERVICES) {
      const place = caller.runtimeTable + BigInt(tables.runtimeServicesTable[name])
      const address = Number(caller.readNatural(place))
      const isCode = codes.some(
        (each) => address >= each.physicalStart && address < descriptorEnd(each),
      )
      expect({ name, isCode }).toEqual({ name, isCode: true })
    }
  })

  test.each([
    ['i386-private-efi-pgd', 'pae'],
    ['i386-private-efi-pgd', '32-bit'],
    ['i386-paging-off', 'pae'],
    ['i386-paging-off', '32-bit'],
    ['i386-legacy-virtual', 'pae'],
    ['i386-linux-3.4', 'pae'],
    ['i386-linux-3.4', '32-bit'],
    ['i386-linux-3.18', 'pae'],
  ])('reads its clock when %s calls it (paging=%s), and resets', (strategy, paging) => {
    const kernel = start(firmware!, strategy, { paging })
    expect(timeOf(kernel)).toMatchObject({ year: 2024, month: 1, day: 1 })
    expect(() => services(kernel).resetSystem(0).run()).toThrow(MachineReset)
  })

  test('changes its addresses by itself: what its table points to is where the kernel has put it', () => {
    const kernel = start(firmware!, 'i386-linux-3.4')
    const { bootCpu: cpu } = kernel
    const { systab } = kernel.requireEfi
    const runtimeServices = BigInt(cpu.read32(systab! + BigInt(tables.systemTable.RuntimeServices)))
    for (const name of ['GetTime', 'SetVariable', 'ResetSystem'] as const) {
      const place = runtimeServices + BigInt(tables.runtimeServicesTable[name])
      const address = BigInt(cpu.read32(place))
      expect(address).toBeGreaterThanOrEqual(kernel.tables.kernelHalfStart)
      expect(cpu.translate(address, 'execute')).toBe(functionAddress(firmware!, name))
    }
  })

  test.each(['i386-private-efi-pgd', 'i386-paging-off'])(
    'answers the kernel after kexec, where %s left it physical',
    (strategy) => {
      const first = start(firmware!, strategy)
      const time = timeOf(first)
      const second = kexec(first, {
        name: 'second kernel',
        commandLine: '',
        profile: first.profile,
      })
      expect(timeOf(second)).toEqual(time)
    },
  )

  test('does not answer the kernel after kexec where it has changed its addresses', () => {
    const first = start(firmware!, 'i386-linux-3.4')
    const next = { name: 'second kernel', commandLine: '', profile: first.profile }
    // The second kernel takes the addresses in the tables for physical ones, and calls what it finds there.
    expect(() => kexec(first, next)).toThrow(CpuException)
  })

  test('cannot be called 1:1 where the kernel begins below it (CONFIG_VMSPLIT_1G)', () => {
    const kernel = start(atTwoGibibytes!, 'i386-private-efi-pgd', { split: '1g' })
    const address = functionAddress(atTwoGibibytes!, 'GetTime')
    expect(BigInt(address)).toBeGreaterThan(kernel.tables.lowHalfEnd)
    expect(() => timeOf(kernel)).toThrow(
      expect.objectContaining({ name: 'PageFault', access: 'execute', address: BigInt(address) }),
    )
  })

  test.each([
    ['i386-private-efi-pgd', '2g'],
    ['i386-paging-off', '1g'],
  ])('can be called there by %s with split=%s', (strategy, split) => {
    const kernel = start(atTwoGibibytes!, strategy, { split })
    expect(timeOf(kernel)).toMatchObject({ year: 2024, month: 1, day: 1 })
  })
})
