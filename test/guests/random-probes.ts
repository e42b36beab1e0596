import { type Assembler, Register } from '@trapdoor/assembler'

import type { Random } from '../emulators/cases/random.ts'
import { Address, END_LABEL, type Probe, type ProbePlace, Selector } from './probe.ts'
import { absolute, EVERYWHERE, LEGACY, movMemory, word } from './probes/places.ts'

/** A privileged instruction, or one whose outcome depends on privilege. */
export interface PrivilegedForm {
  readonly name: string
  /** Where it is carried out; by default in each mode, by the supervisor and by the user. */
  readonly places?: readonly ProbePlace[]
  /** Chooses operands, and returns what emits them and the instruction. */
  readonly choose: (random: Random, place: ProbePlace) => (code: Assembler) => void
  /** Flags that are not to be set. */
  readonly without?: number
}

const { Data, UserStack } = Address
const LONG_PLACES = EVERYWHERE.filter(({ mode }) => mode === '64-bit')
const USERS = EVERYWHERE.filter(({ level }) => level === 3)
const PAGED = EVERYWHERE.filter(({ mode }) => mode !== 'protected')

const CODE_SELECTORS = [
  Selector.Code32,
  Selector.Code64,
  Selector.UserCode32,
  Selector.UserCode64,
  Selector.ConformingCode,
  Selector.ExecuteOnlyCode,
  Selector.AbsentCode,
]
const DATA_SELECTORS = [
  Selector.Data,
  Selector.UserData,
  Selector.AbsentData,
  Selector.ReadOnlyData,
  Selector.LocalData,
  Selector.LocalUserData,
  Selector.SmallData,
]
const OTHER_SELECTORS = [0, Selector.Task, Selector.Ldt, Selector.CallGate, Selector.Beyond]

/** A selector of any kind, sometimes with another RPL, or of no descriptor. */
function chooseSelector(random: Random, likely: readonly number[]): number {
  if (random.percent(5)) return random.below(0x1_0000)
  const all = [...CODE_SELECTORS, ...DATA_SELECTORS, ...OTHER_SELECTORS]
  const selector = random.pick(random.percent(60) ? likely : all)
  return random.percent(30) ? (selector & ~3) | random.below(4) : selector
}

/** A value of 32 bits near what instructions look at. */
function chooseWord(random: Random): number {
  const kind = random.below(4)
  if (kind === 0) return random.below(16)
  if (kind === 1) return (1 << random.below(32)) >>> 0
  return random.word()
}

/** MOV register, value: of 64 bits in 64-bit code. */
export function set(code: Assembler, register: Register, value: bigint): void {
  if (code.bits === 64) code.moveImmediate(64, register, BigInt.asUintN(64, value))
  else code.moveImmediate(32, register, Number(BigInt.asUintN(32, value)))
}

const { A, C, D, SI, DI } = Register
/** A port at which nobody answers; of those that an access lies across QEMU makes 0. */
function choosePort(random: Random): number {
  return 0x520 + 4 * random.below(0x20)
}

const CR0_CHANGES = [0x2, 0x4, 0x8, 0x10, 0x20, 0x1_0000, 0x4_0000, 0x4000_0000]
/** TSD, DE, PSE, PGE, PCE, OSFXSR, OSXMMEXCPT, UMIP, FSGSBASE, OSXSAVE: see qemu-reserved-control-bits. */
const CR4_CHANGES = [2, 3, 4, 7, 8, 9, 10, 11, 16, 18].map((bit) => 2 ** bit)
const CR4_LA57 = 2 ** 12

function flip(random: Random, value: number, bits: readonly number[]): number {
  let changed = BigInt(value)
  for (let count = 1 + random.below(3); count > 0; count--) changed ^= BigInt(random.pick(bits))
  return Number(BigInt.asUintN(32, changed))
}

const MSRS = [
  0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084, 0xc000_0100, 0xc000_0101, 0xc000_0102,
  0xc000_0103, 0x174, 0x175, 0x176, 0x277,
]
const PAT = 0x277
const PAT_TYPES = [0, 1, 4, 5, 6, 7]
const SYSENTER_CS = 0x174
const OF_32_BITS = new Set([0xc000_0084, 0xc000_0103])

/** What a register can hold: see qemu-model-specific. */
function chooseMsrValue(random: Random, index: number): bigint {
  if (index === PAT) {
    return Array.from({ length: 8 }).reduce<bigint>(
      (all) => (all << 8n) | BigInt(random.pick(PAT_TYPES)),
      0n,
    )
  }
  if (index === SYSENTER_CS) return BigInt(random.below(0x1_0000))
  if (OF_32_BITS.has(index)) return BigInt(random.word())
  return index === 0xc000_0081 ? random.bits(64) : BigInt.asIntN(48, random.bits(48))
}

/** LGDT or LIDT with what was chosen, SGDT or SIDT, and the table that was. */
function loadTable(extension: 2 | 3): PrivilegedForm['choose'] {
  return (random) => {
    // See qemu-table-address.
    const limit = random.below(0x1_0000)
    const base = BigInt.asUintN(64, BigInt.asIntN(48, random.bits(48)))
    const image = (base << 16n) | BigInt(limit)
    return (code) => {
      const store = extension - 2
      code.raw(0x0f, 0x01, ...absolute(code, store, Data + 0x40))
      for (const at of [0, 4, 8]) {
        movMemory(code, Data + at, Number(BigInt.asUintN(32, image >> BigInt(at * 8))))
      }
      code.raw(0x0f, 0x01, ...absolute(code, extension, Data))
      code.raw(0x0f, 0x01, ...absolute(code, store, Data + 0x60))
      code.raw(0x0f, 0x01, ...absolute(code, extension, Data + 0x40))
      code.raw(0x8b, ...absolute(code, A, Data + 0x60))
      code.raw(0x8b, ...absolute(code, C, Data + 0x64))
      code.raw(0x8b, ...absolute(code, D, Data + 0x68))
    }
  }
}

/** The number of SS where a segment register is encoded. */
const SS = 2

/** An instruction with a register or memory for its 16-bit operand, which is the selector. */
function ofSelector(opcode: readonly number[], extension: number, likely: readonly number[]) {
  return (random: Random): ((code: Assembler) => void) =>
    withSelector(opcode, extension, chooseSelector(random, likely))(random)
}

function withSelector(opcode: readonly number[], extension: number, selector: number) {
  return (random: Random): ((code: Assembler) => void) => {
    const inMemory = random.percent(50)
    return (code) => {
      if (inMemory) {
        movMemory(code, Data, selector)
        code.raw(...opcode, ...absolute(code, extension, Data))
      } else {
        code.moveImmediate(32, A, selector)
        code.raw(...opcode, 0xc0 | (extension << 3))
      }
    }
  }
}

/** LTR, of no null selector: see qemu-null-task. */
const loadTask: PrivilegedForm['choose'] = (random) => {
  const chosen = chooseSelector(random, [Selector.Task, Selector.Ldt])
  const selector = chosen < 4 ? Selector.Task : chosen
  return (code) => {
    code.moveImmediate(32, A, selector)
    code.raw(0x0f, 0x00, 0xd8)
  }
}

/** LAR, LSL, VERR and VERW. */
function looking(
  opcode: readonly number[],
  extension: number | undefined,
): PrivilegedForm['choose'] {
  return ofSelector(opcode, extension ?? D, [...CODE_SELECTORS, ...DATA_SELECTORS])
}

/** A far pointer in memory, whose offset is the end of the probe. */
function far(extension: 3 | 5): PrivilegedForm['choose'] {
  return (random) => {
    const selector = chooseSelector(random, [...CODE_SELECTORS, Selector.CallGate])
    return (code) => {
      code.pushLabel(END_LABEL)
      code.raw(0x58, 0x89, ...absolute(code, 0, Data))
      movMemory(code, Data + 4, selector)
      code.raw(0xff, ...absolute(code, extension, Data))
    }
  }
}

export function pushes(code: Assembler, values: readonly number[]): void {
  for (const value of values) code.raw(0x68, ...word(value))
}

/** Operands of 64 bits were pushed in 64-bit mode. */
export function wide(code: Assembler): number[] {
  return code.bits === 64 ? [0x48] : []
}

/** Selectors of the code that is returned to and of its stack, which is null for 64-bit code alone: see qemu-null-stack. */
function chooseReturn(random: Random): { readonly selector: number; readonly stack: number } {
  const selector = chooseSelector(random, CODE_SELECTORS)
  const stack = chooseSelector(random, DATA_SELECTORS)
  const isWide = [Selector.Code64, Selector.UserCode64].some((each) => each >> 3 === selector >> 3)
  return { selector, stack: stack < 4 && !isWide ? Selector.UserData : stack }
}

const returnFar: PrivilegedForm['choose'] = (random) => {
  const { selector, stack } = chooseReturn(random)
  const release = random.percent(50) ? undefined : 8 * random.below(3)
  return (code) => {
    const padding = Array.from({ length: (release ?? 0) / (code.bits === 64 ? 8 : 4) }, () => 0)
    pushes(code, [stack, UserStack - 64, ...padding, selector])
    code.pushLabel(END_LABEL)
    code.raw(...wide(code), ...(release === undefined ? [0xcb] : [0xca, release, 0]))
  }
}

/** VM would be virtual-8086 mode, which is not modelled, and NT a task that is returned to; TF would step what ends the probe. */
const RETURNED_FLAGS = 0x24_3ed5

const returnFromInterrupt: PrivilegedForm['choose'] = (random) => {
  const { selector, stack } = chooseReturn(random)
  const flags = (random.word() & RETURNED_FLAGS) | 2
  return (code) => {
    pushes(code, [stack, UserStack - 64, flags, selector])
    code.pushLabel(END_LABEL)
    code.raw(...wide(code), 0xcf)
  }
}

const EFER_SCE = 0x901
const STAR_SELECTORS = (0x20 << 16) | Selector.Code64

export function writeMsr(code: Assembler, index: number, value: bigint): void {
  code.raw(0xb9, ...word(index))
  code.raw(0xba, ...word(Number(BigInt.asUintN(32, value >> 32n))))
  code.raw(0xb8, ...word(Number(BigInt.asUintN(32, value))), 0x0f, 0x30)
}

function setUpSystemCalls(code: Assembler, star: number, mask: number): void {
  writeMsr(code, 0xc000_0080, BigInt(EFER_SCE))
  writeMsr(code, 0xc000_0081, BigInt(star >>> 0) << 32n)
  for (const index of [0xc000_0082, 0xc000_0083]) {
    code.raw(0xb9, ...word(index), 0x31, 0xd2)
    code.pushLabel(END_LABEL)
    code.raw(0x58, 0x0f, 0x30)
  }
  writeMsr(code, 0xc000_0084, BigInt(mask >>> 0))
}

/** At level 0, as it sets the registers up. */
const LONG_SUPERVISOR = LONG_PLACES.filter(({ level }) => level === 0)

/** All forms: what a case of each chooses is all that it depends on. */
export const PRIVILEGED_FORMS: readonly PrivilegedForm[] = [
  {
    name: 'mov cr0',
    choose: (random, { mode }) => {
      const value = flip(random, mode === 'protected' ? 0x11 : 0x8001_0011, CR0_CHANGES)
      // See qemu-not-write-through.
      const valid = (value & 0x2000_0000) === 0 ? value : value | 0x4000_0000
      return (code) => {
        set(code, A, BigInt(valid))
        code.raw(0x0f, 0x22, 0xc0, 0x31, 0xc0, 0x0f, 0x20, 0xc0)
      }
    },
  },
  {
    name: 'mov cr2',
    choose: (random) => {
      const value = random.bits(64)
      return (code) => {
        set(code, A, value)
        code.raw(0x0f, 0x22, 0xd0, 0x0f, 0x20, 0xd2)
      }
    },
  },
  {
    name: 'mov cr3',
    places: PAGED,
    choose: (random) => {
      // See qemu-reserved-root-bits.
      const value = BigInt(Address.PageTables | (random.word() & 0xfff))
      return (code) => {
        set(code, A, value)
        code.raw(0x0f, 0x22, 0xd8, 0x0f, 0x20, 0xda)
      }
    },
  },
  {
    name: 'mov cr4',
    choose: (random, { mode }) => {
      // See qemu-five-levels.
      const changes = mode === 'compatibility' ? CR4_CHANGES : [...CR4_CHANGES, CR4_LA57]
      const value = flip(random, mode === 'protected' ? 0 : 0x20, changes)
      return (code) => {
        set(code, A, BigInt(value))
        code.raw(0x0f, 0x22, 0xe0, 0x31, 0xc0, 0x0f, 0x20, 0xe0)
      }
    },
  },
  {
    name: 'lmsw',
    choose: (random) => {
      const value = chooseWord(random)
      const inMemory = random.percent(50)
      return (code) => {
        movMemory(code, Data, value)
        code.moveImmediate(32, A, value)
        code.raw(0x0f, 0x01, ...(inMemory ? absolute(code, 6, Data) : [0xf0]))
      }
    },
  },
  {
    name: 'smsw',
    choose: (random, { mode }) => {
      const [inMemory, isShort, isWide] = [30, 40, 50].map((chance) => random.percent(chance))
      return (code) => {
        if (inMemory === true) {
          code.raw(0x0f, 0x01, ...absolute(code, 4, Data), 0x8b, ...absolute(code, A, Data))
        } else {
          const rex = mode === '64-bit' && isWide === true ? [0x48] : []
          code.raw(...(isShort === true ? [0x66] : []), ...rex, 0x0f, 0x01, 0xe0)
        }
      }
    },
  },
  { name: 'lgdt and sgdt', choose: loadTable(2) },
  { name: 'lidt and sidt', choose: loadTable(3) },
  { name: 'lldt', choose: ofSelector([0x0f, 0x00], 2, [Selector.Ldt, 0]) },
  { name: 'ltr', choose: loadTask },
  { name: 'lar', choose: looking([0x0f, 0x02], undefined) },
  { name: 'lsl', choose: looking([0x0f, 0x03], undefined) },
  { name: 'verr', choose: looking([0x0f, 0x00], 4) },
  { name: 'verw', choose: looking([0x0f, 0x00], 5) },
  { name: 'arpl', choose: ofSelector([0x63], D, DATA_SELECTORS), places: LEGACY },
  {
    name: 'sldt and str',
    choose: (random) => {
      const [extension, isShort] = [random.below(2), random.percent(40)]
      return (code) => code.raw(...(isShort ? [0x66] : []), 0x0f, 0x00, 0xc0 | (extension << 3))
    },
  },
  {
    name: 'mov to a segment register',
    choose: (random) => {
      const target = random.pick([0, SS, 3, 4, 5])
      const chosen = chooseSelector(random, DATA_SELECTORS)
      // A stack of that limit has no room for what ends the probe, but on QEMU, which enforces none.
      const isSmall = target === SS && chosen >> 3 === Selector.SmallData >> 3
      return withSelector([0x8e], target, isSmall ? Selector.Data : chosen)(random)
    },
  },
  {
    name: 'pop to a segment register',
    choose: (random) => {
      const selector = chooseSelector(random, DATA_SELECTORS)
      const pop = random.pick([
        [0x0f, 0xa1],
        [0x0f, 0xa9],
      ])
      return (code) => {
        pushes(code, [selector])
        code.raw(...pop)
      }
    },
  },
  {
    name: 'invlpg',
    choose: (random) => {
      const address = random.bits(64)
      return (code) => {
        set(code, A, address)
        code.raw(0x0f, 0x01, 0x38)
      }
    },
  },
  {
    name: 'rdmsr',
    choose: (random) => {
      const index = random.pick([...MSRS, 0xc000_0080])
      return (code) => code.raw(0xb9, ...word(index), 0x0f, 0x32)
    },
  },
  {
    name: 'wrmsr',
    choose: (random) => {
      const index = random.pick(MSRS)
      const value = chooseMsrValue(random, index)
      return (code) => {
        writeMsr(code, index, value)
        code.raw(0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x32)
      }
    },
  },
  {
    name: 'in',
    choose: (random) => {
      const port = choosePort(random)
      const opcode = random.pick([[0xec], [0xed], [0x66, 0xed]])
      return (code) => {
        code.moveImmediate(32, D, port)
        code.raw(...opcode)
      }
    },
  },
  {
    name: 'out',
    choose: (random) => {
      const port = random.percent(50) ? 0x80 : choosePort(random)
      const opcode = random.pick([[0xee], [0xef], [0x66, 0xef]])
      return (code) => {
        code.moveImmediate(32, D, port)
        code.raw(...opcode)
      }
    },
  },
  {
    name: 'outsb and insb',
    choose: (random) => {
      const port = choosePort(random)
      const opcode = random.pick([0x6c, 0x6d, 0x6e, 0x6f])
      const count = random.below(4)
      return (code) => {
        code.moveImmediate(32, D, port)
        code.moveImmediate(32, C, count)
        code.moveImmediate(32, SI, Data + 0x100)
        code.moveImmediate(32, DI, Data + 0x100)
        code.raw(0xf3, opcode)
      }
    },
  },
  { name: 'iret', choose: returnFromInterrupt, without: 0x4000 },
  {
    name: 'int ',
    choose: (random) => {
      const vector = random.pick([random.below(256), random.below(32), 3, 4, 0x80])
      return (code) => code.raw(0xcd, vector)
    },
  },
  { name: 'jmp far', choose: far(5) },
  { name: 'call far', choose: far(3) },
  { name: 'retf', choose: returnFar },
  {
    name: 'syscall',
    places: LONG_SUPERVISOR,
    choose: (random) => {
      const mask = random.word() & 0x24_7ed7
      return (code) => {
        setUpSystemCalls(code, STAR_SELECTORS, mask)
        code.raw(0x0f, 0x05)
      }
    },
  },
  {
    name: 'sysret',
    places: LONG_SUPERVISOR,
    choose: (random) => {
      const flags = random.word() & 0x24_3ed7
      const isWide = random.percent(50)
      return (code) => {
        setUpSystemCalls(code, STAR_SELECTORS, 0)
        code.pushLabel(END_LABEL)
        code.raw(0x59, 0x41, 0xbb, ...word(flags), ...(isWide ? [0x48] : []), 0x0f, 0x07)
      }
    },
  },
  {
    name: 'swapgs',
    places: LONG_PLACES,
    choose: (random, { level }) => {
      const base = Data + random.below(0x800)
      const value = random.word()
      return (code) => {
        if (level === 0) writeMsr(code, 0xc000_0102, BigInt(base))
        movMemory(code, base + 8, value)
        code.raw(0x0f, 0x01, 0xf8, 0x65, 0x8b, ...absolute(code, D, 8))
      }
    },
  },
  { name: 'clts', choose: () => (code) => code.raw(0x0f, 0x06) },
  { name: 'hlt', places: USERS, choose: () => (code) => code.raw(0xf4) },
  {
    name: 'cli and sti',
    choose: (random) => {
      const opcode = random.pick([0xfa, 0xfb])
      return (code) => code.raw(opcode)
    },
  },
  {
    name: 'popf',
    choose: (random) => {
      const flags = random.word() & 0x24_7ed7
      const isShort = random.percent(30)
      return (code) => {
        pushes(code, [flags])
        code.raw(...(isShort ? [0x66, 0x9d] : [0x9d]))
      }
    },
  },
  {
    name: 'stac and clac',
    choose: (random) => {
      const opcode = random.pick([0xca, 0xcb])
      return (code) => code.raw(0x0f, 0x01, opcode)
    },
  },
  {
    name: 'rdtsc and rdpmc',
    places: USERS,
    choose: (random) => {
      const opcode = random.percent(50) ? [0x0f, 0x33] : [0x0f, 0x31, 0x31, 0xc0, 0x31, 0xd2]
      return (code) => code.raw(0x31, 0xc9, ...opcode)
    },
  },
  {
    name: 'mov dr',
    choose: (random) => {
      const number = random.pick([0, 1, 2, 3, 6])
      // See qemu-debug-status.
      const value = BigInt((random.word() & ~0x1000) >>> 0)
      return (code) => {
        set(code, A, value)
        code.raw(0x0f, 0x23, 0xc0 | (number << 3), 0x0f, 0x21, 0xc2 | (number << 3))
      }
    },
  },
]

/** Status flags, IF, DF, IOPL, NT, AC and ID. */
const FLAGS = 0x24_7ed5

/** Probes of a form, which depend on the seed and their index alone, in some of its places by turns. */
export function randomProbes(
  form: PrivilegedForm,
  count: number,
  random: Random,
  mode: 'protected' | 'ia32e',
): Probe[] {
  const places = (form.places ?? EVERYWHERE).filter(
    (place) => (place.mode === 'protected') === (mode === 'protected'),
  )
  if (places.length === 0) return []
  return Array.from({ length: count }, (_, index): Probe => {
    const place = random.pick(places)
    const flags = (random.word() & FLAGS & ~(form.without ?? 0)) | 2
    const name = `${form.name} (case ${index}), ${place.mode}, level ${place.level}`
    return { ...place, name, flags, emit: form.choose(random, place) }
  })
}
