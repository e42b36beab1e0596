import { Assembler, Condition, Register } from '@trapdoor/assembler'
import { type Architecture, ARCHITECTURES, encodePeApplication } from '@trapdoor/uefi'
import { MSR_NAMES, RECORD_SIZE, RECORDED_MSRS, RecordField } from './record.ts'

/** Where the image asks to be loaded: edk2 puts it there if the pages are free, which they are in any machine with 128 MiB (CoreLoadPeImage(), MdeModulePkg/Core/Dxe/Image/Image.c). */
const IMAGE_BASE = 0x400_0000
const CODE = 0x1000
const DATA = 0x2000
/** Bytes for the memory map. OVMF's has about 130 descriptors of 48 bytes. */
const MAP_ROOM = 0x1_0000
/** Where the map is, from the image's base. */
const MAP = DATA + 0x1000

/** ExitBootServices is tried a second time with a fresh map, as efi_exit_boot_services() of Linux does: an event may have changed the map in between. */
const MOST_ATTEMPTS = 2

/** The application that takes the machine over, and where it is when it has done so. Addresses are linear and physical, as firmware maps memory one to one. */
export interface HandOverApplication {
  readonly architecture: Architecture['name']
  /** The PE image. */
  readonly file: Uint8Array
  /** The instruction that is reached when ExitBootServices has returned EFI_SUCCESS. */
  readonly handedOver: number
  /** The instruction that is reached when firmware did not let the application go. */
  readonly refused: number
  /** What the application wrote down, see {@link RecordField}. */
  readonly record: number
  /** The memory map as GetMemoryMap wrote it. */
  readonly map: number
  /** Code that calls a runtime service, for who sets the registers. */
  readonly caller: ServiceCaller
}

/**
 * In 64-bit code the instructions of __efi_call() (Linux 6.1, arch/x86/platform/efi/efi_stub_64.S): the function is in RDI, its arguments in RSI, RDX, RCX, R8, R9 and on the stack. In 32-bit code a
 * call of EDI, with the arguments where ESP points to. RAX is the status where it is done. It does not return.
 */
export interface ServiceCaller {
  /** The first instruction. */
  readonly begin: number
  /** Where the service returns to. */
  readonly end: number
  /** The instruction behind that: the last. */
  readonly done: number
}

/**
 * Makes a UEFI application that does what a kernel's EFI stub does last: GetMemoryMap, ExitBootServices, and no further. It allocates nothing and opens no protocol. The same bytes serve
 * as EFI/BOOT/BOOTX64.EFI and for QEMU's -kernel, which takes a file as it is, but for bytes 20h to 23h, where bytes 1F1h to 23Fh are zero (x86_load_linux(), hw/i386/x86.c).
 */
export function handOverApplication(architecture: Architecture['name']): HandOverApplication {
  const program = architecture === 'x64' ? X64 : IA32
  const code = new Assembler(BigInt(IMAGE_BASE + CODE), program.bits)
  program.emit(code)
  const text = code.assemble()
  const numbers = new Uint8Array(Uint32Array.from(MSR_NAMES, (name) => RECORDED_MSRS[name]).buffer)
  const file = encodePeApplication({
    architecture,
    imageBase: IMAGE_BASE,
    entryPoint: CODE,
    sections: [
      {
        name: '.text',
        address: CODE,
        size: text.length,
        contents: text,
        access: 'read-execute',
      },
      {
        name: '.data',
        address: DATA,
        size: MAP - DATA + MAP_ROOM,
        contents: dataOf(numbers),
        access: 'read-write',
      },
    ],
  })
  return {
    architecture,
    file,
    handedOver: Number(code.addressOf('handed-over')),
    refused: Number(code.addressOf('refused')),
    record: IMAGE_BASE + DATA,
    map: IMAGE_BASE + MAP,
    caller: {
      begin: Number(code.addressOf('call-service')),
      end: Number(code.addressOf('service-returned')),
      done: Number(code.addressOf('call-done')),
    },
  }
}

/** The numbers of the MSRs follow the record. */
const MSR_NUMBERS = RECORD_SIZE

function dataOf(numbers: Uint8Array): Uint8Array {
  const data = new Uint8Array(MSR_NUMBERS + numbers.length)
  data.set(numbers, MSR_NUMBERS)
  return data
}

/** How a program for one architecture is made. */
interface Program {
  readonly bits: 32 | 64
  emit(code: Assembler): void
}

const ON_X64 = ARCHITECTURES.x64.tables
const ON_IA32 = ARCHITECTURES.ia32.tables

const { A, B, C, D, SP, SI, DI, BP, R8, R9, R12, R13, R14 } = Register

/**
 * 64-bit code with Microsoft's calling convention (UEFI 2.10, 2.3.4.2): RCX, RDX, R8, R9, then the stack above 32 bytes for the callee. RBX is where the data are, R12 the image's handle, R13 the
 * system table, R14 the boot services.
 */
const X64: Program = {
  bits: 64,
  emit(code) {
    // The return address has left the stack 8 bytes off.
    code.sub(64, SP, 0x38)
    code.move(64, R12, C)
    code.move(64, R13, D)
    code.load(64, R14, R13, ON_X64.systemTable.BootServices)
    pointToData(code, 64)
    code.store(64, B, RecordField.ImageHandle, R12)
    code.store(64, B, RecordField.SystemTable, R13)

    code.label('again')
    countAttempt(code, 64)
    code.loadAddress(64, C, B, RecordField.MapSize)
    code.loadAddress(64, D, B, MAP - DATA)
    code.loadAddress(64, R8, B, RecordField.MapKey)
    code.loadAddress(64, R9, B, RecordField.DescriptorSize)
    code.loadAddress(64, A, B, RecordField.DescriptorVersion)
    code.store(64, SP, 0x20, A)
    code.callMemory(R14, ON_X64.bootServicesTable.GetMemoryMap)
    code.move(64, C, R12)
    code.load(64, D, B, RecordField.MapKey)
    code.callMemory(R14, ON_X64.bootServicesTable.ExitBootServices)
    code.store(64, B, RecordField.Status, A)
    code.compare(64, A, 0)
    finish(code, 64)

    code.label('call-service')
    code.push(BP)
    code.move(64, BP, SP)
    code.and(64, SP, -0x10)
    code.load(64, A, BP, 0x10)
    code.sub(64, SP, 0x30)
    code.store(64, SP, 0x20, R9)
    code.store(64, SP, 0x28, A)
    code.move(64, R9, R8)
    code.move(64, R8, C)
    code.move(64, C, SI)
    callFunction(code)
  },
}

/** 32-bit code with arguments on the stack, which the caller takes off (UEFI 2.10, 2.3.2.2). EBX is where the data are, EBP the image's handle, EDI the boot services. */
const IA32: Program = {
  bits: 32,
  emit(code) {
    code.load(32, BP, SP, 4)
    code.load(32, SI, SP, 8)
    code.load(32, DI, SI, ON_IA32.systemTable.BootServices)
    pointToData(code, 32)
    code.store(32, B, RecordField.ImageHandle, BP)
    code.store(32, B, RecordField.SystemTable, SI)

    code.label('again')
    countAttempt(code, 32)
    const { DescriptorVersion, DescriptorSize, MapKey, MapSize } = RecordField
    for (const argument of [DescriptorVersion, DescriptorSize, MapKey, MAP - DATA, MapSize]) {
      code.loadAddress(32, A, B, argument)
      code.push(A)
    }
    code.callMemory(DI, ON_IA32.bootServicesTable.GetMemoryMap)
    code.pushMemory(B, MapKey)
    code.push(BP)
    code.callMemory(DI, ON_IA32.bootServicesTable.ExitBootServices)
    code.add(32, SP, 7 * 4)
    code.store(32, B, RecordField.Status, A)
    code.compare(32, A, 0)
    finish(code, 32)

    code.label('call-service')
    callFunction(code)
  },
}

/** Calls what DI points to, and stays behind. */
function callFunction(code: Assembler): void {
  code.callRegister(DI)
  code.label('service-returned')
  code.nop()
  code.label('call-done')
  code.jump('call-done')
}

/** BX: the data, wherever the image was loaded. */
function pointToData(code: Assembler, width: 32 | 64): void {
  code.call('here')
  code.label('here')
  code.pop(B)
  code.add(width, B, DATA - (CODE + Number(code.addressOf('here') - code.origin)))
}

/** One attempt more, with room for the whole map. */
function countAttempt(code: Assembler, width: 32 | 64): void {
  code.load(width, A, B, RecordField.Attempts)
  code.add(width, A, 1)
  code.store(width, B, RecordField.Attempts, A)
  code.moveImmediate(32, A, MAP_ROOM)
  code.store(width, B, RecordField.MapSize, A)
}

/** After the comparison of ExitBootServices' status with 0. */
function finish(code: Assembler, width: 32 | 64): void {
  // Interrupts are the operating system's from here on, even where firmware has left them on.
  code.jumpIf(Condition.Equal, 'left')
  code.load(width, A, B, RecordField.Attempts)
  code.compare(width, A, MOST_ATTEMPTS)
  code.jumpIf(Condition.NotEqual, 'again')
  code.label('refused')
  code.jump('refused')

  code.label('left')
  code.cli()
  code.loadAddress(width, SI, B, MSR_NUMBERS)
  code.loadAddress(width, DI, B, RecordField.Msrs)
  code.label('next-msr')
  code.load(32, C, SI)
  code.rdmsr()
  code.store(32, DI, 0, A)
  code.store(32, DI, 4, D)
  code.add(width, SI, 4)
  code.add(width, DI, 8)
  // The list ends where the data begin that nobody has written: with number 0.
  code.load(32, C, SI)
  code.compare(32, C, 0)
  code.jumpIf(Condition.NotEqual, 'next-msr')
  code.label('handed-over')
  code.jump('handed-over')
}
