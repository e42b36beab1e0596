import { BUILT_IN_PLUGINS } from '@trapdoor/cli'
import { MachineReset } from '@trapdoor/core'
import { Interpreter } from '@trapdoor/cpu'
import { createFirmware, type Firmware } from '@trapdoor/firmware'
import { PluginRegistry } from '@trapdoor/harness'
import {
  bootKernel,
  createKernelHooks,
  EfiServices,
  isServiceOfRevision,
  type Kernel,
  kexec,
  layoutOf,
  loadKernel,
  type RuntimeCall,
  takeInterrupt,
} from '@trapdoor/kernel'
import { readObservedSnapshot } from '@trapdoor/snapshot'
import {
  descriptorEnd,
  EfiStatus,
  encodeUcs2,
  Guid,
  IA32,
  MemoryType,
  RUNTIME_SERVICES,
} from '@trapdoor/uefi'
import { beforeAll, describe, expect, test } from 'vitest'
import { IS_INSTALLED, NEEDS, ovmf, snapshotOf } from './firmwares.ts'

const registry = new PluginRegistry(BUILT_IN_PLUGINS)
const { tables } = IA32
const WITH_CLOCK = ['linux-3.15-mixed', 'linux-4.9-mixed']
const WITHOUT_CLOCK = ['linux-5.6-mixed', 'linux-6.1-mixed']
const NAMES = [...WITH_CLOCK, ...WITHOUT_CLOCK]
let firmware: Firmware

interface Booted {
  readonly kernel: Kernel
  /** Calls, in order, with the instructions that had been carried out when they ended. */
  readonly calls: readonly {
    readonly name: string
    readonly instructions: number
    readonly was32Bit: boolean
  }[]
}

function start(name: string): Booted {
  const choice = { definition: registry.strategy(name) }
  const calls: Booted['calls'][number][] = []
  const hooks = createKernelHooks()
  hooks.callReturned.tap('test', ({ service, cpu }: RuntimeCall) => {
    calls.push({ name: service, instructions: cpu.instructions, was32Bit: !cpu.codeSegmentLong })
  })
  const kernel = bootKernel(loadKernel(firmware.powerOn(), ''), {
    name: 'first kernel',
    profile: { layout: layoutOf(choice), strategies: [choice] },
    hooks,
  })
  return { kernel, calls }
}

function services(kernel: Kernel): EfiServices {
  return new EfiServices(kernel, kernel.bootCpu, 'stack')
}

describe.skipIf(!IS_INSTALLED)(`OVMF for ia32 under kernels of 64 bits (${NEEDS})`, () => {
  beforeAll(async () => {
    const folder = await snapshotOf({ firmware: ovmf('OVMF32_CODE_4M.secboot.fd'), memory: 512 })
    const snapshot = readObservedSnapshot(folder)
    const executor = new Interpreter()
    firmware = createFirmware({ name: 'ovmf-ia32', snapshot, executor })
  }, 300_000)

  test.each(NAMES)(
    'carries out its own SetVirtualAddressMap in compatibility mode (%s)',
    (name) => {
      const { kernel, calls } = start(name)
      expect(kernel.efiRefusal).toBeUndefined()
      expect(calls[0]).toMatchObject({ name: 'SetVirtualAddressMap', was32Bit: true })
      expect(calls[0]!.instructions).toBeGreaterThan(5000)
      // Nothing has moved: what the tables point to is where it was, and in code.
      const { systab, memoryMap } = kernel.requireEfi
      const { memory } = kernel.machine
      expect(systab).toBe(BigInt(kernel.requireEfi.info.systab))
      const runtime = memory.read32(Number(systab) + tables.systemTable.RuntimeServices)
      expect(BigInt(runtime)).toBe(kernel.requireEfi.runtimeAddress)
      const codes = memoryMap.filter(({ type }) => type === MemoryType.RuntimeServicesCode)
      for (const service of RUNTIME_SERVICES) {
        const address = memory.read32(runtime + tables.runtimeServicesTable[service])
        const isCode = codes.some(
          (each) => address >= each.physicalStart && address < descriptorEnd(each),
        )
        expect({ service, isCode }).toEqual({ service, isCode: true })
      }
      expect(isServiceOfRevision(kernel.requireEfi.revision, 'QueryVariableInfo')).toBe(true)
    },
  )

  test.each(WITH_CLOCK)('reads its clock for %s, through NMIs', (name) => {
    const { kernel } = start(name)
    const ask = (interrupt?: (call: RuntimeCall) => void): unknown => {
      const prepared = services(kernel).getTime()
      interrupt?.(prepared.call!)
      return prepared.run()
    }
    const plain = ask()
    expect(plain).toMatchObject({ status: 0n, value: { year: 2024, month: 1, day: 1 } })
    let interrupts = 0
    const interrupted = ask((call) => {
      call.interruptEach((accesses) => {
        if (accesses % 50 !== 0) return
        takeInterrupt(kernel, kernel.bootCpu, 'NMI')
        interrupts++
      })
    })
    expect(interrupts).toBeGreaterThan(10)
    expect(interrupted).toEqual(plain)
  })

  test.each(NAMES)('finds the arguments of %s below 4 GiB, and hands them to SMM', (name) => {
    const { kernel } = start(name)
    const unique = 'TrapdoorNobodyElse'
    const isInRuntimeMemory = (): boolean =>
      kernel.requireEfi.firmwareMap.some(
        ({ type, physicalStart, numberOfPages }) =>
          type === MemoryType.RuntimeServicesData &&
          Buffer.from(kernel.machine.memory.read(physicalStart, numberOfPages * 4096)).includes(
            Buffer.from(encodeUcs2(unique)),
          ),
      )
    expect(isInRuntimeMemory()).toBe(false)
    const commands: number[] = []
    kernel.hooks.managementInterrupt.tap('test', (_call, command) => commands.push(command))
    const { status } = services(kernel).getVariable(unique, Guid.GLOBAL_VARIABLE).run()
    expect([status, commands]).toEqual([EfiStatus.DEVICE_ERROR, [0]])
    // The driver has copied the name into the buffer that the handler would read.
    expect(isInRuntimeMemory()).toBe(true)
    expect(kernel.bootCpu.codeSegmentLong).toBe(true)
  })

  test.each(NAMES)('resets the machine for %s', (name) => {
    const { kernel } = start(name)
    expect(() => services(kernel).resetSystem(0).run()).toThrow(MachineReset)
  })

  test.each(NAMES)('is left alone by the kernel after %s', (name) => {
    const { kernel } = start(name)
    const second = kexec(kernel, {
      name: 'second kernel',
      commandLine: '',
      profile: kernel.profile,
    })
    expect(second.efiRefusal).toContain('after kexec in mixed mode')
  })
})
