import { type Assembler, Register } from '@trapdoor/assembler'

import { Address, END_LABEL, Selector } from './probe.ts'
import { absolute, EVERYWHERE, movMemory, word } from './probes/places.ts'
import { type PrivilegedForm, pushes, set, wide, writeMsr } from './random-probes.ts'

const { A, C, D, SI, DI } = Register
const { Data, UserStack, Stack } = Address
const LONG_PLACES = EVERYWHERE.filter(({ mode }) => mode === '64-bit')
const IA32E = EVERYWHERE.filter(({ mode }) => mode !== 'protected')
const TF = 0x100
const NT = 0x4000
const CR4_OSXSAVE = 18
const CR4_PKE = 22

/** MOV EAX, CR4; BTS EAX, bit; MOV CR4, EAX. */
function setCr4(code: Assembler, bit: number): void {
  code.raw(0x0f, 0x20, 0xe0, 0x0f, 0xba, 0xe8, bit, 0x0f, 0x22, 0xe0)
}

/** What a single step goes over: instructions that trap behind themselves, later, or not at all. */
const STEPPED: readonly ((code: Assembler) => void)[] = [
  (code) => code.raw(0x90),
  // INC DWORD [Data]
  (code) => code.raw(0xff, ...absolute(code, 0, Data)),
  // MOV SS, AX: the trap comes behind the next instruction.
  (code) => {
    code.raw(0x8c, 0xd0, 0x8e, 0xd0, 0x90)
  },
  // REP STOSB: behind each iteration.
  (code) => {
    code.raw(0xf3, 0xaa)
  },
  // PUSHF; POP RDX
  (code) => code.raw(0x9c, 0x5a),
  (code) => code.raw(0x0f, 0x0b),
  (code) => code.raw(0xeb, 0x00),
  (code) => code.raw(0xcd, 0x03),
  (code) => code.raw(0xcc),
]

/** Forms of what is newer than an 80386, and of what traps or tasks make of RFLAGS. */
export const EXTENSION_FORMS: readonly PrivilegedForm[] = [
  {
    // QEMU 7.2 has no INVPCID, and tells so.
    name: 'invpcid',
    choose: (random) => {
      const type = random.below(6)
      const [pcid, address] = [random.below(0x2000), random.word()]
      return (code) => {
        movMemory(code, Data, pcid)
        movMemory(code, Data + 8, address)
        set(code, C, BigInt(type))
        code.raw(0x66, 0x0f, 0x38, 0x82, ...absolute(code, C, Data))
      }
    },
  },
  {
    name: 'mov cr8',
    places: LONG_PLACES,
    choose: (random) => {
      // See qemu-task-priority.
      const value = BigInt(random.below(16))
      return (code) => {
        set(code, A, value)
        code.raw(0x44, 0x0f, 0x22, 0xc0, 0x44, 0x0f, 0x20, 0xc2)
      }
    },
  },
  {
    name: 'rdpkru and wrpkru',
    choose: (random, { level }) => {
      const isOn = level === 0 && random.percent(80)
      // Key 0 is that of all pages, which a probe needs.
      const value = (random.word() & ~3) >>> 0
      const [index, upper] = [0, 0].map(() => (random.percent(80) ? 0 : random.word()))
      return (code) => {
        if (isOn) setCr4(code, CR4_PKE)
        set(code, A, BigInt(value))
        set(code, C, BigInt(index!))
        set(code, D, BigInt(upper!))
        code.raw(0x0f, 0x01, 0xef)
        set(code, A, 0n)
        set(code, D, 0x5555n)
        code.raw(0x0f, 0x01, 0xee)
      }
    },
  },
  {
    name: 'xsetbv and xgetbv',
    choose: (random, { level }) => {
      const isOn = level === 0 && random.percent(80)
      // See qemu-extended-state.
      const value = random.pick([0, 1, 2, 3, 0x4000_0003])
      const [index, upper] = [0, 0].map(() => (random.percent(80) ? 0 : 2 + random.below(64)))
      return (code) => {
        if (isOn) setCr4(code, CR4_OSXSAVE)
        set(code, A, BigInt(value))
        set(code, C, BigInt(index!))
        set(code, D, BigInt(upper!))
        code.raw(0x0f, 0x01, 0xd1)
        set(code, A, 0n)
        set(code, D, 0x5555n)
        code.raw(0x0f, 0x01, 0xd0)
      }
    },
  },
  {
    name: 'single step',
    choose: (random) => {
      const step = random.pick(STEPPED)
      const flags = (random.word() & 0x8d5) | TF | 2
      return (code) => {
        code.moveImmediate(32, SI, Data + 0x100)
        code.moveImmediate(32, DI, Data + 0x100)
        code.moveImmediate(32, C, 3)
        pushes(code, [flags])
        code.raw(0x9d)
        step(code)
      }
    },
  },
  {
    // In protected mode it would return to another task, which is not modelled.
    name: 'iret with NT',
    places: IA32E,
    choose: (random) => {
      const flags = (random.word() & 0x8d5) | 2
      return (code) => {
        pushes(code, [NT | 2])
        code.raw(0x9d)
        pushes(code, [Selector.UserData, UserStack - 64, flags, Selector.UserCode64])
        code.pushLabel(END_LABEL)
        code.raw(...wide(code), 0xcf)
      }
    },
  },
  {
    // See qemu-system-enter-compatibility.
    name: 'sysenter and sysexit',
    places: EVERYWHERE.filter(({ mode }) => mode !== 'compatibility'),
    choose: (random, { level }) => {
      const selector = random.pick([0, Selector.Code32, Selector.Code64, Selector.Data])
      const isExit = random.percent(50)
      return (code) => {
        if (level === 0) {
          writeMsr(code, 0x174, BigInt(selector))
          writeMsr(code, 0x175, BigInt(Stack))
          code.raw(0xb9, ...word(0x176), 0x31, 0xd2)
          code.pushLabel(END_LABEL)
          code.raw(0x58, 0x0f, 0x30)
        }
        code.moveImmediate(32, C, UserStack - 64)
        code.pushLabel(END_LABEL)
        code.raw(0x5a, 0x0f, isExit ? 0x35 : 0x34)
      }
    },
  },
]
