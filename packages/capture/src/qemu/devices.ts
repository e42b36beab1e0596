import type { GdbClient } from './gdb-client.ts'

/** State of devices that is not memory. */
export interface DeviceState {
  /** CMOS memory, registers of the clock among them, but for register C: reading that acknowledges interrupts. */
  readonly cmos: Uint8Array
  /** The first 256 bytes of the configuration space of functions that are there, by "bus:device.function" in hexadecimal. */
  readonly pci: Readonly<Record<string, Uint8Array>>
  /** I/O port of the ACPI power-management block. */
  readonly powerManagementBase: number
}

const CMOS_INDEX = 0x70
const CMOS_DATA = 0x71
const CMOS_BYTES = 128
const CMOS_REGISTER_C = 0x0c
const PCI_ADDRESS = 0xcf8
const PCI_DATA = 0xcfc
const PCI_BYTES = 256

/** Functions worth having: the host bridge, PIIX3 with its power management (function 3) or the ICH9's LPC bridge. */
const FUNCTIONS: Readonly<Record<'pc' | 'q35', readonly (readonly [number, number])[]>> = {
  pc: [
    [0, 0],
    [1, 0],
    [1, 3],
  ],
  q35: [
    [0, 0],
    [0x1f, 0],
  ],
}
/** The function and the register that hold the base of the power-management ports: PIIX4 PMBA (datasheet 7.1.14), ICH9 PMBASE (datasheet 13.1.13). Bit 0 says that it is an I/O address. */
const POWER_MANAGEMENT = { pc: ['00:01.3', 0x40], q35: ['00:1f.0', 0x40] } as const

/** Reads the devices of a machine that stands still, through the ports that the machine has for it; the index registers are as before afterwards. */
export async function readDevices(gdb: GdbClient, board: 'pc' | 'q35'): Promise<DeviceState> {
  const cmos = new Uint8Array(CMOS_BYTES)
  for (let register = 0; register < CMOS_BYTES; register++) {
    if (register === CMOS_REGISTER_C) continue
    // Bit 7 of the index switches NMIs off; what it was cannot be read.
    await writePort(gdb, 'b', CMOS_INDEX, register)
    cmos[register] = await readPort(gdb, 'b', CMOS_DATA)
  }
  const address = await readPort(gdb, 'w', PCI_ADDRESS)
  const pci: Record<string, Uint8Array> = {}
  for (const [device, number] of FUNCTIONS[board]) {
    const space = new Uint8Array(PCI_BYTES)
    const view = new DataView(space.buffer)
    for (let register = 0; register < PCI_BYTES; register += 4) {
      const place = 0x8000_0000 + device * 0x800 + number * 0x100 + register
      await writePort(gdb, 'w', PCI_ADDRESS, place)
      view.setUint32(register, await readPort(gdb, 'w', PCI_DATA), true)
    }
    pci[`00:${device.toString(16).padStart(2, '0')}.${number}`] = space
  }
  await writePort(gdb, 'w', PCI_ADDRESS, address)
  const [holder, register] = POWER_MANAGEMENT[board]
  const base = new DataView(pci[holder]!.buffer).getUint32(register, true)
  return { cmos, pci, powerManagementBase: base & 0xffc0 }
}

type PortWidth = 'b' | 'h' | 'w'

/** `i` of QEMU's monitor: "portl[0xcfc] = 0x12378086". */
async function readPort(gdb: GdbClient, width: PortWidth, port: number): Promise<number> {
  const said = await gdb.monitor(`i /${width} 0x${port.toString(16)}`)
  return Number(/= (0x[\da-f]+)/i.exec(said)?.[1] ?? Number.NaN)
}

async function writePort(
  gdb: GdbClient,
  width: PortWidth,
  port: number,
  value: number,
): Promise<void> {
  await gdb.monitor(`o /${width} 0x${port.toString(16)} 0x${value.toString(16)}`)
}
