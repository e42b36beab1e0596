import type { Quirk } from '@trapdoor/firmware'
import { EfiStatus, MemoryType } from '@trapdoor/uefi'
import { badDriver, type Fault, touch } from './driver.ts'

/** Where the driver's builds for fixed addresses allocated: free in every machine of half a gigabyte. */
const FREE_ADDRESS = 0x1000_0000
/** Offset in the code page of bytes that are no function. */
const NO_FUNCTION = 0x800n

const bootServicesData: Fault = {
  keep: (setup) =>
    setup.allocate({ type: MemoryType.BootServicesData, pages: 16, name: 'a page of its own' }),
  misbehave: touch,
}
const interruptsOff: Fault = {
  misbehave: (call) => {
    call.cpu.interruptFlag = false
  },
}
const endless: Fault = { misbehave: (call) => call.deadLoop('waits for what never comes') }

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
    id: 'D1',
    name: 'driver-boot-services-data',
    title: 'A late runtime driver that touches boot-services data in every SetVariable',
    ...bootServicesData,
  }),
  badDriver({
    id: 'D1p',
    name: 'driver-data-beside-table',
    title: 'As D1, with data in the descriptor that holds the memory attributes table',
    keep: (setup) => (setup.memoryAttributesTable ?? FREE_ADDRESS) + 0xff0,
    misbehave: touch,
  }),
  badDriver({
    id: 'D1L',
    name: 'driver-boot-services-data-late',
    title: 'As D1, only for variables whose names begin with P',
    late: true,
    ...bootServicesData,
  }),
  badDriver({
    id: 'D2',
    name: 'driver-physical-pointer',
    title: 'A late runtime driver that uses runtime data by its physical address',
    keep: (setup) =>
      setup.allocate({ type: MemoryType.RuntimeServicesData, pages: 1, name: 'pool' }),
    misbehave: touch,
  }),
  badDriver({
    id: 'D3',
    name: 'driver-freed-memory',
    title: 'A late runtime driver that touches memory which it has freed',
    keep: () => FREE_ADDRESS,
    misbehave: touch,
  }),
  badDriver({
    id: 'D4',
    name: 'driver-boot-services-code',
    title: 'A late runtime driver that calls boot-services code in every SetVariable',
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
  }),
  badDriver({
    id: 'D5',
    name: 'driver-page-zero',
    title: 'A late runtime driver that writes to page 0',
    keep: () => 0x10,
    misbehave: touch,
  }),
  badDriver({
    id: 'D6',
    name: 'driver-writes-code',
    title: 'A late runtime driver that writes to the code of VariableRuntimeDxe',
    misbehave: (call) => {
      const address = call.pointer('OldSetVariable')
      call.write8(address, call.read8(address))
    },
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
    id: 'D12',
    name: 'driver-interrupts-off',
    title: 'A late runtime driver that returns with interrupts off',
    ...interruptsOff,
  }),
  badDriver({
    id: 'D12L',
    name: 'driver-interrupts-off-late',
    title: 'As D12, only for variables whose names begin with P',
    late: true,
    ...interruptsOff,
  }),
  badDriver({
    id: 'D16',
    name: 'driver-endless',
    title: 'A late runtime driver that never comes back',
    ...endless,
  }),
  badDriver({
    id: 'D16L',
    name: 'driver-endless-late',
    title: 'As D16, only for variables whose names begin with P',
    late: true,
    ...endless,
  }),
  badDriver({
    id: 'D19',
    name: 'driver-writes-cr3',
    title: 'A late runtime driver that loads CR3 with what it holds',
    misbehave: ({ cpu }) => {
      cpu.writeCr3(cpu.cr3)
    },
  }),
  badDriver({
    id: 'D20',
    name: 'driver-undefined-opcode',
    title: 'A late runtime driver that executes an undefined opcode',
    misbehave: (call) => {
      call.call(call.imageBase + NO_FUNCTION)
    },
  }),
  badDriver({
    id: 'D21',
    name: 'driver-without-event',
    title: 'A late runtime driver that goes on calling the services by physical address',
    converts: false,
  }),
]
