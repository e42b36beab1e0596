import { DivideError, Rflags } from '@trapdoor/core'
import type { Quirk } from '@trapdoor/firmware'
import { EfiStatus, MemoryType } from '@trapdoor/uefi'
import { badDriver, type Fault, touch, type Variant } from './driver.ts'

/** Where the driver's builds for fixed addresses allocated: free in every machine of half a gigabyte. */
const FREE_ADDRESS = 0x1000_0000
/** Offset in the code page of an instruction that is undefined for good. */
const UNDEFINED_OPCODE = 0x800n
const UD2: Uint8Array = Uint8Array.of(0x0f, 0x0b)
/** Bytes of the largest local variable, and how far apart it is written to. */
const LARGE_LOCAL = 0x1_0000n
const STRIDE = 512n

const bootServicesData: Fault = {
  keep: (setup) =>
    setup.allocate({ type: MemoryType.BootServicesData, pages: 16, name: 'a page of its own' }),
  misbehave: touch,
}
const runtimeData: Fault = {
  keep: (setup) => setup.allocate({ type: MemoryType.RuntimeServicesData, pages: 1, name: 'pool' }),
  misbehave: touch,
}
const bootServicesCode: Fault = {
  keep: (setup) =>
    setup.code({
      address: setup.allocate({ type: MemoryType.BootServicesCode, pages: 16, name: 'RET' }),
      image: 'BadBootCode',
      name: 'Return',
      service: 'SetVariable',
      run: () => EfiStatus.SUCCESS,
    }),
  misbehave: (call, kept) => {
    call.call(kept)
  },
}
const largeLocal: Fault = {
  misbehave: (call) => {
    const { cpu } = call
    const { rsp } = cpu
    cpu.rsp = rsp - LARGE_LOCAL
    for (let at = rsp - 1n; at >= cpu.rsp; at -= STRIDE) call.write8(at, 0)
    cpu.rsp = rsp
  },
}

/** What the driver does in every call, or in its late build only for variables whose names begin with P. */
const FAULTS: readonly Variant[] = [
  {
    id: 'D1',
    name: 'driver-boot-services-data',
    title: 'A late runtime driver that touches boot-services data in every SetVariable',
    ...bootServicesData,
  },
  {
    id: 'D2',
    name: 'driver-physical-pointer',
    title: 'A late runtime driver that uses runtime data by its physical address',
    ...runtimeData,
  },
  {
    id: 'D3',
    name: 'driver-freed-memory',
    title: 'A late runtime driver that touches memory which it has freed',
    keep: () => FREE_ADDRESS,
    misbehave: touch,
  },
  {
    id: 'D4',
    name: 'driver-boot-services-code',
    title: 'A late runtime driver that calls boot-services code in every SetVariable',
    ...bootServicesCode,
  },
  {
    id: 'D5',
    name: 'driver-page-zero',
    title: 'A late runtime driver that writes to page 0',
    keep: () => 0x10,
    misbehave: touch,
  },
  {
    id: 'D6',
    name: 'driver-writes-code',
    title: 'A late runtime driver that writes to the code of VariableRuntimeDxe',
    misbehave: (call) => {
      const address = call.pointer('OldSetVariable')
      call.write8(address, call.read8(address))
    },
  },
  {
    id: 'D12',
    name: 'driver-interrupts-off',
    title: 'A late runtime driver that returns with interrupts off',
    misbehave: ({ cpu }) => {
      cpu.interruptFlag = false
    },
  },
  {
    id: 'D13',
    name: 'driver-direction-flag',
    title: 'A late runtime driver that sets the direction flag',
    misbehave: ({ cpu }) => {
      cpu.rflags |= Rflags.DF
    },
  },
  {
    id: 'D14',
    name: 'driver-large-stack',
    title: 'A late runtime driver that needs 64 KiB of stack',
    ...largeLocal,
  },
  {
    id: 'D15',
    name: 'driver-converted-pointer',
    title: 'A late runtime driver that converts its pointer to runtime data, as it should',
    converts: 'all',
    ...runtimeData,
  },
  {
    id: 'D16',
    name: 'driver-endless',
    title: 'A late runtime driver that never comes back',
    misbehave: (call) => call.deadLoop('waits for what never comes'),
  },
  {
    id: 'D17',
    name: 'driver-divide-error',
    title: 'A late runtime driver that divides by zero',
    misbehave: ({ cpu }) => {
      throw cpu.raise((site) => new DivideError(site))
    },
  },
  {
    id: 'D18',
    name: 'driver-vector-registers',
    title: 'A late runtime driver that zeroes vector registers which are the caller’s',
    misbehave: ({ cpu }) => {
      for (const register of [0, 6, 15]) {
        cpu.floatingPoint.xmm.fill(0, register * 4, register * 4 + 4)
      }
    },
  },
  {
    id: 'D19',
    name: 'driver-writes-cr3',
    title: 'A late runtime driver that loads CR3 with what it holds',
    misbehave: ({ cpu }) => {
      cpu.writeCr3(cpu.cr3)
    },
  },
  {
    id: 'D20',
    name: 'driver-undefined-opcode',
    title: 'A late runtime driver that executes an undefined opcode',
    keep: (setup, { base }) => {
      setup.write(base + Number(UNDEFINED_OPCODE), UD2)
      return 0
    },
    misbehave: (call) => {
      call.call(call.imageBase + UNDEFINED_OPCODE)
    },
  },
]

/** The driver in every variant, by the number that the observed runs have. */
export const BAD_DRIVERS: readonly Quirk[] = [
  badDriver({
    id: 'D0x',
    name: 'driver-not-executable',
    title: 'A late runtime driver that the memory attributes table calls not executable',
    attributes: 'as-is',
  }),
  badDriver({
    id: 'D0',
    name: 'driver-made-executable',
    title: 'A late runtime driver that corrects its entry in the memory attributes table',
  }),
  badDriver({
    id: 'D0n',
    name: 'driver-hides-table',
    title: 'A late runtime driver that hides the memory attributes table',
    attributes: 'hide-table',
  }),
  badDriver({
    id: 'D1p',
    name: 'driver-data-beside-table',
    title: 'As D1, with data in the descriptor that holds the memory attributes table',
    keep: (setup) => (setup.memoryAttributesTable ?? FREE_ADDRESS) + 0xff0,
    misbehave: touch,
  }),
  badDriver({
    id: 'D8',
    name: 'driver-refuses-svam',
    title: 'A late runtime driver in whose hands SetVirtualAddressMap fails',
    svam: () => EfiStatus.UNSUPPORTED,
  }),
  badDriver({
    id: 'D9',
    name: 'driver-svam-boot-services',
    title: 'A late runtime driver that touches boot-services data in SetVirtualAddressMap',
    ...bootServicesData,
    misbehave: () => {},
    svam: (call, kept, old) => {
      touch(call, kept)
      return old()
    },
  }),
  badDriver({
    id: 'D21',
    name: 'driver-without-event',
    title: 'A late runtime driver that goes on calling the services by physical address',
    converts: 'nothing',
  }),
  ...FAULTS.flatMap((fault) => [
    badDriver(fault),
    badDriver({
      ...fault,
      id: `${fault.id}L`,
      name: `${fault.name}-late`,
      title: `As ${fault.id}, only for variables whose names begin with P`,
      late: true,
    }),
  ]),
]
