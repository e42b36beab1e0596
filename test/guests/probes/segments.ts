import { Selector, type Probe } from '../probe.ts'
import { LONG, EVERYWHERE, movAx, everywhere } from './places.ts'

/** ModRM of MOV Sreg, AX. */
const TO_SEGMENT = { DS: 0xd8, ES: 0xc0, SS: 0xd0, FS: 0xe0, GS: 0xe8 } as const

export function segmentLoads(): Probe[] {
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
        EVERYWHERE.filter((place) => selector !== 3 || register !== 'SS' || place !== LONG),
      ),
    ),
  )
}

export function segmentInstructions(): Probe[] {
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
