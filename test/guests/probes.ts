import type { Assembler } from '@trapdoor/assembler'
import { Address, CALL_GATE_LABEL, END_LABEL, type Probe, type ProbePlace, Selector } from './probe.ts'

const { Data } = Address
const PROTECTED: ProbePlace = { mode: 'protected', level: 0 }
const PROTECTED_USER: ProbePlace = { mode: 'protected', level: 3 }
const LONG: ProbePlace = { mode: '64-bit', level: 0 }
const LONG_USER: ProbePlace = { mode: '64-bit', level: 3 }
const COMPATIBILITY: ProbePlace = { mode: 'compatibility', level: 0 }
const COMPATIBILITY_USER: ProbePlace = { mode: 'compatibility', level: 3 }
const EVERYWHERE: readonly ProbePlace[] = [
  PROTECTED,
  PROTECTED_USER,
  LONG,
  LONG_USER,
  COMPATIBILITY,
  COMPATIBILITY_USER,
]
const LEGACY: readonly ProbePlace[] = [
  PROTECTED,
  PROTECTED_USER,
  COMPATIBILITY,
  COMPATIBILITY_USER,
]

const TF = 0x100
const IF = 0x200
const NT = 0x4000
const IOPL3 = 0x3000

/** The bytes of a little-endian number. */
function word(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24]
}

/** ModRM (and SIB in 64-bit code) for an absolute address, with `reg` in the middle field. */
function absolute(code: Assembler, reg: number, address: number): number[] {
  return code.bits === 64
    ? [0x04 | (reg << 3), 0x25, ...word(address)]
    : [0x05 | (reg << 3), ...word(address)]
}

/** MOV AX, imm16. */
function movAx(value: number): number[] {
  return [0x66, 0xb8, value & 0xff, value >>> 8]
}

/** MOV DWORD [address], imm32. */
function movMemory(code: Assembler, address: number, value: number): void {
  code.raw(0xc7, ...absolute(code, 0, address), ...word(value))
}

function everywhere(
  name: string,
  emit: (code: Assembler) => void,
  places: readonly ProbePlace[] = EVERYWHERE,
  flags?: number,
): Probe[] {
  return places.map((place) => ({
    ...place,
    name: `${name}, ${place.mode}, level ${place.level}`,
    emit,
    ...(flags === undefined ? {} : { flags }),
  }))
}

/** ModRM of MOV Sreg, AX. */
const TO_SEGMENT = { DS: 0xd8, ES: 0xc0, SS: 0xd0, FS: 0xe0, GS: 0xe8 } as const

function segmentLoads(): Probe[] {
  const selectors: Readonly<Record<string, number>> = {
    null: 0,
    'null with RPL 3': 3,
    data: Selector.Data,
    'data with RPL 3': Selector.Data | 3,
    'user data': Selector.UserData,
    'user data with RPL 0': Selector.UserData & ~3,
    'absent data': Selector.AbsentData,
    'read-only data': Selector.ReadOnlyData,
    'conforming code': Selector.ConformingCode,
    'conforming code with RPL 3': Selector.ConformingCode | 3,
    'execute-only code': Selector.ExecuteOnlyCode,
    code: Selector.Code32,
    'a TSS': Selector.Task,
    'a call gate': Selector.CallGate,
    'beyond the limit': Selector.Beyond,
    'local data': Selector.LocalData,
    'local data of the user': Selector.LocalUserData,
    'beyond the LDT': 0x24,
  }
  return Object.entries(selectors).flatMap(([name, selector]) =>
    (['DS', 'SS', 'GS'] as const).flatMap((register) =>
      everywhere(
        `mov ${register}, ${name}`,
        (code) => code.raw(...movAx(selector), 0x8e, TO_SEGMENT[register]),
        // QEMU does not look at the RPL of a null selector for SS.
        EVERYWHERE.filter(
          (place) => selector !== 3 || register !== 'SS' || place !== LONG,
        ),
      ),
    ),
  )
}

function segmentInstructions(): Probe[] {
  const looks: Readonly<Record<string, readonly number[]>> = {
    lar: [0x0f, 0x02, 0xd0],
    lsl: [0x0f, 0x03, 0xd0],
    verr: [0x0f, 0x00, 0xe0],
    verw: [0x0f, 0x00, 0xe8],
  }
  const selectors = [
    0,
    Selector.Data,
    Selector.UserData,
    Selector.AbsentData,
    Selector.ReadOnlyData,
    Selector.ConformingCode,
    Selector.ExecuteOnlyCode,
    Selector.Task,
    Selector.Ldt,
    Selector.CallGate,
    Selector.SmallData,
    Selector.Beyond,
    Selector.LocalData,
    Selector.LocalUserData,
  ]
  return Object.entries(looks).flatMap(([name, bytes]) =>
    selectors.flatMap((selector) =>
      everywhere(`${name} of selector ${selector.toString(16)}`, (code) => {
        code.raw(...movAx(selector), ...bytes)
      }),
    ),
  )
}

function limits(): Probe[] {
  const places: readonly ProbePlace[] = [PROTECTED, COMPATIBILITY]
  const through = (selector: number, offset: number): ((code: Assembler) => void) => (code) => {
    // MOV FS, AX; MOV EDX, FS:[offset]
    code.raw(...movAx(selector), 0x8e, 0xe0, 0x64, 0x8b, 0x15, ...word(offset))
  }
  return [
    ...everywhere('a load within the limit', through(Selector.SmallData, 0xfc), places),
    ...everywhere('a load beyond the limit', through(Selector.SmallData, 0xfd), places),
    ...everywhere('a load above the limit of data that expands down', through(Selector.ExpandDownData, Data), places),
    ...everywhere('a load below the limit of data that expands down', through(Selector.ExpandDownData, 0xffc), places),
    ...everywhere('a load through a null segment', through(0, Data), places),
    ...everywhere('a store to read-only data', (code) => {
      code.raw(...movAx(Selector.ReadOnlyData), 0x8e, 0xe0, 0x64, 0x89, 0x15, ...word(Data))
    }, places),
    ...everywhere('a store to code', (code) => code.raw(0x2e, 0x89, 0x15, ...word(Data)), places),
  ]
}

function descriptorTables(): Probe[] {
  const store = (extension: number) => (code: Assembler): void => {
    code.raw(0x0f, 0x01, ...absolute(code, extension, Data))
    code.raw(0x8b, ...absolute(code, 2, Data))
    code.raw(0x8b, ...absolute(code, 6, Data + 4))
  }
  const toRegister = (...bytes: number[]) => (code: Assembler): void => {
    code.raw(...bytes)
  }
  return [
    ...everywhere('sgdt', store(0)),
    ...everywhere('sidt', store(1)),
    ...everywhere('sldt ax', toRegister(0x66, 0x0f, 0x00, 0xc0)),
    ...everywhere('sldt eax', toRegister(0x0f, 0x00, 0xc0)),
    ...everywhere('str edx', toRegister(0x0f, 0x00, 0xca)),
    ...everywhere('smsw edx', toRegister(0x0f, 0x01, 0xe2)),
    ...everywhere('smsw dx', toRegister(0x66, 0x0f, 0x01, 0xe2)),
    ...everywhere('lmsw', (code) => code.raw(...movAx(0x1f), 0x0f, 0x01, 0xf0)),
    ...everywhere('lgdt', (code) => {
      movMemory(code, Data, (0xff | (Address.Gdt << 16)) >>> 0)
      movMemory(code, Data + 4, Address.Gdt >>> 16)
      code.raw(0x0f, 0x01, ...absolute(code, 2, Data))
    }),
    ...everywhere('lidt with a 16-bit operand', (code) => {
      movMemory(code, Data, 0x0fff | ((Address.Idt & 0xffff) << 16))
      movMemory(code, Data + 4, 0xff00 | (Address.Idt >>> 16))
      code.raw(0x66, 0x0f, 0x01, ...absolute(code, 3, Data))
      code.raw(0x0f, 0x01, ...absolute(code, 1, Data + 16))
      code.raw(0x8b, ...absolute(code, 2, Data + 18))
    }, [PROTECTED, PROTECTED_USER, COMPATIBILITY]),
    ...[0, Selector.Ldt, Selector.Task, Selector.Data, Selector.Beyond, Selector.LocalData].flatMap(
      (selector) => [
        ...everywhere(`lldt ${selector.toString(16)}`, (code) =>
          code.raw(...movAx(selector), 0x0f, 0x00, 0xd0, 0x0f, 0x00, 0xc2),
        ),
        ...everywhere(
          `ltr ${selector.toString(16)}`,
          (code) => code.raw(...movAx(selector), 0x0f, 0x00, 0xd8, 0x0f, 0x00, 0xca),
          // QEMU loads a null selector, and dies at the next interrupt of the user.
          selector === 0 ? [] : EVERYWHERE,
        ),
      ],
    ),
  ]
}

function controlRegisters(): Probe[] {
  const moveTo = (number: number, value: number) => (code: Assembler): void => {
    code.raw(0xb8, ...word(value), 0x0f, 0x22, 0xc0 | (number << 3))
  }
  const supervisors = [PROTECTED, LONG, COMPATIBILITY]
  return [
    ...everywhere('mov eax, cr0', (code) => code.raw(0x0f, 0x20, 0xc0)),
    ...everywhere('mov cr2, eax and back', (code) => {
      moveTo(2, 0x1234_5678)(code)
      code.raw(0x0f, 0x20, 0xd2)
    }),
    ...everywhere('mov cr1', (code) => code.raw(0x0f, 0x22, 0xc8)),
    ...everywhere('mov cr5', (code) => code.raw(0x0f, 0x20, 0xe8), supervisors),
    ...everywhere('clts', (code) => {
      code.raw(0x0f, 0x06, 0x0f, 0x20, 0xc0)
    }),
    ...everywhere('dr0 and dr7', (code) => {
      code.raw(0xb8, ...word(0x1234), 0x0f, 0x23, 0xc0, 0x0f, 0x21, 0xc2, 0x0f, 0x21, 0xfe)
    }),
    ...everywhere('dr4 is dr6', (code) => code.raw(0x0f, 0x21, 0xe2)),
    ...everywhere('dr4 with CR4.DE', (code) => {
      code.raw(0x0f, 0x20, 0xe0, 0x83, 0xc8, 0x08, 0x0f, 0x22, 0xe0, 0x0f, 0x21, 0xe2)
    }, supervisors),
    ...everywhere('wbinvd', (code) => code.raw(0x0f, 0x09)),
    ...everywhere('invlpg', (code) => code.raw(0x0f, 0x01, ...absolute(code, 7, Data))),
    ...everywhere('invlpg of a register', (code) => code.raw(0x0f, 0x01, 0xf8)),
    ...everywhere('hlt', (code) => code.raw(0xf4), [PROTECTED_USER, LONG_USER, COMPATIBILITY_USER]),
    ...everywhere('rdpmc', (code) => code.raw(0x31, 0xc9, 0x0f, 0x33), [LONG_USER]),
    ...everywhere('rdtsc with CR4.TSD', (code) => {
      code.raw(0x0f, 0x31, 0x31, 0xc0, 0x31, 0xd2)
    }),
  ]
}

function modelSpecific(): Probe[] {
  const read = (index: number) => (code: Assembler): void => {
    code.raw(0xb9, ...word(index), 0x0f, 0x32)
  }
  const write = (index: number, high: number, low: number) => (code: Assembler): void => {
    code.raw(0xb9, ...word(index), 0xba, ...word(high), 0xb8, ...word(low), 0x0f, 0x30, 0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x32)
  }
  const LSTAR = 0xc000_0082
  const places = [PROTECTED, LONG, LONG_USER, COMPATIBILITY]
  return [
    ...everywhere('rdmsr of EFER', read(0xc000_0080), places),
    ...everywhere('wrmsr of LSTAR', write(LSTAR, 0xffff_8000, 0x1234), places),
    ...everywhere('wrmsr of KERNEL_GS_BASE', write(0xc000_0102, 0, 0x1234_5678), places),
    ...everywhere('wrmsr of PAT', write(0x277, 0x0007_0406, 0x0007_0106), places),
    ...everywhere('wrmsr of SYSENTER_CS', write(0x174, 0, 0x18), places),
  ]
}

function flagInstructions(): Probe[] {
  return [0, IOPL3, IF, IF | IOPL3, NT].flatMap((flags) => [
    ...everywhere(`cli with flags ${flags.toString(16)}`, (code) => code.raw(0xfa), EVERYWHERE, flags | 2),
    ...everywhere(`pushf and popf with flags ${flags.toString(16)}`, (code) => {
      // PUSHF; POP EAX; XOR EAX, 3200h + AC + ID; PUSH EAX; POPF; PUSHF; POP EDX; the flags as they were.
      code.raw(0x9c, 0x58, 0x35, ...word(0x24_7200), 0x50, 0x9d, 0x9c, 0x5a)
    }, EVERYWHERE, flags | 2),
    ...everywhere(`in with flags ${flags.toString(16)}`, (code) => code.raw(0xe4, 0x80, 0x31, 0xc0), EVERYWHERE, flags | 2),
  ])
}

function interrupts(): Probe[] {
  return [
    ...everywhere('int 81h', (code) => code.raw(0xcd, 0x81)),
    ...everywhere('int 3', (code) => code.raw(0xcc)),
    ...everywhere('int 0dh of the user', (code) => code.raw(0xcd, 0x0d)),
    ...everywhere('into without overflow', (code) => code.raw(0xce), LEGACY),
    ...everywhere('into with overflow', (code) => code.raw(0xce), LEGACY, 0x802),
    ...everywhere('into', (code) => code.raw(0xce), [LONG]),
    ...everywhere('ud2, which has an interrupt stack', (code) => code.raw(0x0f, 0x0b)),
    ...everywhere('div by zero', (code) => code.raw(0x31, 0xc9, 0xf7, 0xf1)),
    ...everywhere('a jump to nowhere', (code) => {
      // MOV EAX, 7FFFF000h; JMP EAX
      code.raw(0xb8, ...word(0x7fff_f000), 0xff, 0xe0)
    }, [LONG, LONG_USER, COMPATIBILITY, COMPATIBILITY_USER]),
    ...everywhere('a load from nowhere', (code) => code.raw(0x8b, ...absolute(code, 2, 0x7fff_f000)), [
      LONG,
      LONG_USER,
      COMPATIBILITY_USER,
    ]),
    ...everywhere('a load from an address that is not canonical', (code) => {
      // MOV RAX, 1 << 47; MOV EDX, [RAX]
      code.raw(0x48, 0xb8, 0, 0, 0, 0, 0, 0x80, 0, 0, 0x8b, 0x10)
    }, [LONG, LONG_USER]),
    ...everywhere('a push to an address that is not canonical', (code) => {
      code.raw(0x48, 0xbc, 0, 0, 0, 0, 0, 0x80, 0, 0, 0x50)
    }, [LONG_USER]),
    ...everywhere('a single step', (code) => code.raw(0x90, 0x90), EVERYWHERE, TF | 2),
    ...everywhere('popf that switches single-stepping on', (code) => {
      code.raw(0x68, ...word(TF | 2), 0x9d, 0x90, 0x90, 0x90)
    }),
    ...everywhere('a single step of mov ss', (code) => {
      // MOV EAX, SS; PUSH TF; POPF; MOV SS, EAX; NOP; NOP
      code.raw(0x8c, 0xd0, 0x68, ...word(TF | 2), 0x9d, 0x8e, 0xd0, 0x90, 0x90)
    }),
    ...everywhere('a single step of int 3', (code) => code.raw(0xcc), EVERYWHERE, TF | 2),
  ]
}

function farTransfers(): Probe[] {
  const selectors = [
    0,
    Selector.Code32,
    Selector.Code64,
    Selector.UserCode32,
    Selector.UserCode64,
    Selector.Data,
    Selector.ConformingCode,
    Selector.AbsentCode,
    Selector.Task,
    Selector.CallGate,
    Selector.Beyond,
  ]
  const direct = (opcode: number, selector: number) => (code: Assembler): void => {
    // The offset is that of the end of all probes: an instruction that any mode has.
    code.raw(opcode)
    code.dataLabel(END_LABEL)
    code.raw(selector & 0xff, selector >>> 8)
  }
  const indirect = (extension: number, selector: number) => (code: Assembler): void => {
    code.pushLabel(END_LABEL)
    code.raw(0x58, 0x89, ...absolute(code, 0, Data))
    movMemory(code, Data + 4, selector)
    code.raw(0xff, ...absolute(code, extension, Data))
  }
  const returning = (selector: number) => (code: Assembler): void => {
    code.raw(0x68, ...word(selector))
    code.pushLabel(END_LABEL)
    // In 64-bit mode operands of 64 bits were pushed.
    code.raw(...(code.bits === 64 ? [0x48] : []), 0xcb)
  }
  const toOuter = (selector: number, stack: number) => (code: Assembler): void => {
    code.raw(0x68, ...word(stack), 0x68, ...word(Address.UserStack - 64), 0x68, ...word(selector))
    code.pushLabel(END_LABEL)
    code.raw(...(code.bits === 64 ? [0x48] : []), 0xca, 0x00, 0x00)
  }
  const interruptReturn = (selector: number, stack: number, flags: number) => (code: Assembler): void => {
    code.raw(0x68, ...word(stack), 0x68, ...word(Address.UserStack - 64), 0x68, ...word(flags), 0x68, ...word(selector))
    code.pushLabel(END_LABEL)
    code.raw(...(code.bits === 64 ? [0x48] : []), 0xcf)
  }
  const stacks = [0, 3, Selector.Data, Selector.UserData, Selector.AbsentData, Selector.ReadOnlyData]
  return [
    ...selectors.flatMap((selector) => {
      const name = selector.toString(16)
      return [
        ...everywhere(`jmp ${name}:end`, direct(0xea, selector), LEGACY),
        ...everywhere(`call ${name}:end`, direct(0x9a, selector), LEGACY),
        ...everywhere(`jmp far [${name}:end]`, indirect(5, selector)),
        ...everywhere(`call far [${name}:end]`, indirect(3, selector)),
        ...everywhere(`retf to ${name}`, returning(selector)),
      ]
    }),
    ...stacks.flatMap((stack) => [
      ...everywhere(`retf to the user with stack ${stack.toString(16)}`, toOuter(Selector.UserCode32, stack)),
      ...everywhere(`retf to the 64-bit user with stack ${stack.toString(16)}`, toOuter(Selector.UserCode64, stack)),
      ...everywhere(`iret to the user with stack ${stack.toString(16)}`, interruptReturn(Selector.UserCode32, stack, 2)),
      ...everywhere(`iret to the 64-bit user with stack ${stack.toString(16)}`, interruptReturn(Selector.UserCode64, stack, 2)),
      ...everywhere(`iret within 64-bit code with stack ${stack.toString(16)}`, interruptReturn(Selector.Code64, stack, 2), [LONG, LONG_USER]),
    ]),
    ...[IOPL3 | IF, NT, 0x24_0000].flatMap((flags) => [
      ...everywhere(`iret to the user with flags ${flags.toString(16)}`, interruptReturn(Selector.UserCode32, Selector.UserData, flags | 2)),
    ]),
    ...everywhere('iret with NT', interruptReturn(Selector.UserCode64, Selector.UserData, 2), [LONG, COMPATIBILITY], NT | 2),
    ...everywhere('jmp to 16-bit code', (code) => {
      // The selector's limit of 1 MiB does not reach the offset.
      code.raw(0xea)
      code.dataLabel(CALL_GATE_LABEL)
      code.raw(Selector.Code16, 0)
    }, [PROTECTED, COMPATIBILITY]),
  ]
}

function systemCalls(): Probe[] {
  const msr = (code: Assembler, index: number, high: number, low: number): void => {
    code.raw(0xb9, ...word(index), 0xba, ...word(high), 0xb8, ...word(low), 0x0f, 0x30)
  }
  const msrLabel = (code: Assembler, index: number, label: string): void => {
    code.raw(0xb9, ...word(index), 0x31, 0xd2)
    code.pushLabel(label)
    code.raw(0x58, 0x0f, 0x30)
  }
  const setUp = (code: Assembler): void => {
    msr(code, 0xc000_0080, 0, 0x901)
    msr(code, 0xc000_0081, (0x20 << 16) | Selector.Code64, 0)
    msrLabel(code, 0xc000_0082, END_LABEL)
    msrLabel(code, 0xc000_0083, END_LABEL)
    msr(code, 0xc000_0084, 0, 0x4_0700)
  }
  return [
    ...everywhere('syscall', (code) => {
      setUp(code)
      code.raw(0xf9, 0x0f, 0x05)
    }, [LONG], 0x4_0602),
    ...everywhere('syscall of the user, set up by the probe before', (code) => code.raw(0x0f, 0x05), [LONG_USER], 0x4_0202),
    ...everywhere('syscall with SCE off', (code) => {
      msr(code, 0xc000_0080, 0, 0x900)
      code.raw(0x0f, 0x05)
    }, [LONG]),
    ...everywhere('sysret to 64-bit code', (code) => {
      setUp(code)
      code.pushLabel(END_LABEL)
      code.raw(0x59, 0x41, 0xbb, ...word(0x24_7ed7), 0x48, 0x0f, 0x07)
    }, [LONG]),
    ...everywhere('sysret to compatibility mode', (code) => {
      setUp(code)
      code.pushLabel(END_LABEL)
      code.raw(0x59, 0x41, 0xbb, ...word(0x202), 0x0f, 0x07)
    }, [LONG]),
    ...everywhere('sysret of the user', (code) => code.raw(0x48, 0x0f, 0x07), [LONG_USER]),
    ...everywhere('swapgs', (code) => {
      msr(code, 0xc000_0102, 0, Data)
      movMemory(code, Data + 8, 0x1234_5678)
      // SWAPGS; MOV EDX, GS:[8]
      code.raw(0x0f, 0x01, 0xf8, 0x65, 0x8b, ...absolute(code, 2, 8))
    }, [LONG]),
    ...everywhere('swapgs of the user', (code) => code.raw(0x0f, 0x01, 0xf8), [LONG_USER]),
  ]
}

function legacyInstructions(): Probe[] {
  const arithmetic: Readonly<Record<string, readonly number[]>> = {
    daa: [0x27],
    das: [0x2f],
    aaa: [0x37],
    aas: [0x3f],
    aam: [0xd4, 0x0a],
    'aam by zero': [0xd4, 0x00],
    aad: [0xd5, 0x0a],
  }
  const values = [0x00, 0x09, 0x0a, 0x9a, 0x99, 0xff, 0x4f]
  return [
    ...Object.entries(arithmetic).flatMap(([name, bytes]) =>
      values.flatMap((value) =>
        [0x2, 0x3, 0x12, 0x13].flatMap((flags) =>
          everywhere(`${name} of ${value.toString(16)} with flags ${flags.toString(16)}`, (code) => {
            code.raw(...movAx(0x0200 | value), ...bytes)
            // Keep CF, AF, ZF, SF and PF, as far as they are defined: PUSHF; POP EDX; AND EDX, mask
            const defined = name.startsWith('da') ? 0xd5 : name.startsWith('aam') || name === 'aad' ? 0xc4 : 0x11
            code.raw(0x9c, 0x5a, 0x81, 0xe2, ...word(defined), 0x31, 0xc9)
          }, [PROTECTED], flags),
        ),
      ),
    ),
    ...everywhere('pusha and popa', (code) => {
      code.raw(0x60, 0x8b, 0x44, 0x24, 0x0c, 0x61)
    }, LEGACY),
    ...everywhere('pushaw', (code) => code.raw(0x66, 0x60, 0x8b, 0x04, 0x24), LEGACY),
    ...[-1, 0, 5, 10, 11].flatMap((index) =>
      everywhere(`bound of ${index}`, (code) => {
        movMemory(code, Data, 0)
        movMemory(code, Data + 4, 10)
        code.raw(0xba, ...word(index), 0x62, ...absolute(code, 2, Data))
      }, LEGACY),
    ),
    ...[Selector.Data, Selector.UserData, 0].flatMap((selector) =>
      everywhere(`les and lgs of ${selector.toString(16)}`, (code) => {
        movMemory(code, Data, 0x1234_5678)
        movMemory(code, Data + 4, selector)
        code.raw(0xc4, ...absolute(code, 2, Data))
        code.raw(0x0f, 0xb5, ...absolute(code, 6, Data))
      }, LEGACY),
    ),
    ...[0x10, 0x13].flatMap((selector) =>
      everywhere(`arpl of ${selector.toString(16)}`, (code) => {
        code.raw(...movAx(selector), 0xb9, ...word(2), 0x63, 0xc8)
      }, LEGACY),
    ),
    ...everywhere('push and pop of segments', (code) => {
      code.raw(0x1e, 0x06, 0x0e, 0x16, 0x58, 0x5a, 0x07, 0x1f)
    }, LEGACY),
    ...everywhere('push fs and pop gs', (code) => code.raw(0x0f, 0xa0, 0x0f, 0xa9)),
    ...everywhere('mov edx, ds', (code) => code.raw(0x8c, 0xda)),
    ...everywhere('mov dx, cs', (code) => code.raw(0x66, 0x8c, 0xca)),
    ...everywhere('rdfsbase without CR4.FSGSBASE', (code) => code.raw(0xf3, 0x0f, 0xae, 0xc2), [LONG, COMPATIBILITY]),
    ...everywhere('wrfsbase and rdfsbase', (code) => {
      code.raw(0x0f, 0x20, 0xe0, 0x0d, ...word(0x1_0000), 0x0f, 0x22, 0xe0)
      code.raw(0xb8, ...word(0x7654_3210), 0xf3, 0x48, 0x0f, 0xae, 0xd0, 0xf3, 0x48, 0x0f, 0xae, 0xc2)
    }, [LONG]),
    ...everywhere('stac and clac', (code) => code.raw(0x0f, 0x01, 0xcb, 0x9c, 0x5a, 0x0f, 0x01, 0xca), [LONG, LONG_USER]),
    ...everywhere('rdpkru without CR4.PKE', (code) => code.raw(0x31, 0xc9, 0x0f, 0x01, 0xee), [LONG]),
    ...everywhere('wrpkru and rdpkru', (code) => {
      code.raw(0x0f, 0x20, 0xe0, 0x0d, ...word(0x40_0000), 0x0f, 0x22, 0xe0)
      code.raw(0x31, 0xc9, 0x31, 0xd2, 0xb8, ...word(0x5554), 0x0f, 0x01, 0xef, 0x31, 0xc0, 0x0f, 0x01, 0xee)
      code.raw(0x31, 0xd2, 0x50, 0x31, 0xc0, 0x0f, 0x01, 0xef, 0x58)
    }, [LONG]),
    ...everywhere('clflush and fences', (code) => {
      code.raw(0x0f, 0xae, ...absolute(code, 7, Data), 0x0f, 0xae, 0xe8, 0x0f, 0xae, 0xf0, 0x0f, 0xae, 0xf8)
    }),
  ]
}

/** Everything that segments, tables, transfers and interrupts do, as far as a probe can show it. */
export function allProbes(): Probe[] {
  return [
    ...segmentLoads(),
    ...segmentInstructions(),
    ...limits(),
    ...descriptorTables(),
    ...controlRegisters(),
    ...modelSpecific(),
    ...flagInstructions(),
    ...interrupts(),
    ...farTransfers(),
    ...systemCalls(),
    ...legacyInstructions(),
  ]
}
