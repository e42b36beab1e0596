import { MANUALS, type Manuals } from './manuals.ts'
import { AccessBit, ErrorBit } from '../oracle/access-rights.ts'
import { type Path, TranslationOracle, type TranslationState } from '../oracle/translation.ts'

/** An oracle that is wrong in one way, as a processor might be, and the set that must notice it. */
export interface Defect {
  readonly name: string
  readonly set: string
  readonly manuals: Manuals
}

/** What a defective oracle does otherwise than {@link TranslationOracle}. */
interface Change {
  state?(state: TranslationState): TranslationState
  access?(access: number): number
  code?(code: number, access: number): number
  outcome?(oracle: TranslationOracle, path: Path): void
}

class DefectiveOracle extends TranslationOracle {
  readonly #change: Change

  constructor(state: TranslationState, change: Change) {
    super(change.state?.(state) ?? state)
    this.#change = change
  }

  override predict(path: Path, linearLow: number, access: number): number {
    const change = this.#change
    const code = super.predict(path, linearLow, change.access?.(access) ?? access)
    change.outcome?.(this, path)
    return code < 0 ? code : (change.code?.(code, access) ?? code)
  }
}

function translation(name: string, set: string, change: Change): Defect {
  return {
    name,
    set,
    manuals: { ...MANUALS, translation: (state) => new DefectiveOracle(state, change) },
  }
}

function forced(
  name: string,
  set: string,
  force: (state: TranslationState) => Partial<TranslationState>,
): Defect {
  return translation(name, set, { state: (state) => ({ ...state, ...force(state) }) })
}

function other(name: string, set: string, manuals: Partial<Manuals>): Defect {
  return { name, set, manuals: { ...MANUALS, ...manuals } }
}

function without(bit: number): (code: number) => number {
  return (code) => code & ~bit
}

/** Mistakes that walkers make; some are known of emulators. */
export const DEFECTS: readonly Defect[] = [
  forced('CR0.WP does not count', 'access', () => ({ writeProtect: false })),
  forced('EFER.NXE does not count', 'levels', () => ({ executeDisable: false })),
  forced('XD is never reserved', 'access', () => ({ noExecute: true })),
  forced('SMEP does not count', 'access-smep', () => ({ smep: false })),
  forced('SMAP does not count', 'smap', () => ({ smap: false })),
  forced('AC does not count', 'smap', () => ({ alignmentCheck: false })),
  translation('implicit accesses pass SMAP with AC', 'smap', {
    access: (access) => access & ~AccessBit.Implicit,
  }),
  forced('PKRU does not count', 'keys', () => ({ userKeys: undefined })),
  forced('IA32_PKRS does not count', 'keys', () => ({ supervisorKeys: undefined })),
  forced('MAXPHYADDR is one too many', 'maxphyaddr', ({ physicalAddressBits }) => ({
    physicalAddressBits: physicalAddressBits + 1,
  })),
  forced('MAXPHYADDR is one too few', 'maxphyaddr', ({ physicalAddressBits }) => ({
    physicalAddressBits: physicalAddressBits - 1,
  })),
  forced('1 GiB pages without the feature', 'gigabyte', () => ({ pages1G: true })),
  forced('PSE-36 without the feature', '32-bit', () => ({ pse36: true })),
  forced('4 MiB pages without CR4.PSE', '32-bit', () => ({ pageSizeExtensions: true })),
  forced("bit 8 of AMD's PML4E is ignored", 'maxphyaddr', () => ({ amdGlobalBit: false })),
  forced('accessed flags by the other policy', 'access', ({ accessedFlags }) => ({
    accessedFlags: accessedFlags === 'lazy' ? 'eager' : 'lazy',
  })),
  translation('reserved-bit faults without P, as QEMU has them', 'access', {
    code: (code) => ((code & ErrorBit.RSVD) === 0 ? code : code & ~ErrorBit.P),
  }),
  translation('RSVD is not reported', 'first-fault', { code: without(ErrorBit.RSVD) }),
  translation('PK is not reported', 'keys', { code: without(ErrorBit.PK) }),
  translation('I/D is reported whatever NXE and SMEP', 'access', {
    code: (code, access) => ((access & AccessBit.Fetch) === 0 ? code : code | ErrorBit.ID),
  }),
  translation('US is reported for the address, not the access', 'levels', {
    code: (code, access) => ((access & AccessBit.User) === 0 ? code : code & ~ErrorBit.US),
  }),
  translation('writes do not set the dirty flag', 'access', {
    outcome: (oracle) => (oracle.dirtyDepth = -1),
  }),
  translation('the accessed flag of the root entry is not set', 'levels', {
    outcome: (oracle) => (oracle.accessed &= ~1),
  }),
  translation('reads set the dirty flag', 'levels', {
    outcome: (oracle) => {
      if (oracle.accessed !== 0 && oracle.dirtyDepth < 0)
        oracle.dirtyDepth = 31 - Math.clz32(oracle.accessed)
    },
  }),
  translation('bit 29 of an address in a 1 GiB page is lost', 'addresses', {
    outcome: (oracle) => (oracle.frame -= oracle.frame & 0x2_0000),
  }),
  translation('bit 51 of physical addresses is lost', 'addresses', {
    outcome: (oracle) => (oracle.frame %= 2 ** 39),
  }),
  other('LASS lets AC pass implicit accesses', 'linear-addresses', {
    linearAddressFault: (state, address, access, stack) =>
      MANUALS.linearAddressFault(state, address, access & ~AccessBit.Implicit, stack),
  }),
  other('LASS without SMAP', 'linear-addresses', {
    linearAddressFault: (state, address, access, stack) =>
      MANUALS.linearAddressFault({ ...state, smap: true }, address, access, stack),
  }),
  other('#GP where the stack has #SS', 'linear-addresses', {
    linearAddressFault: (state, address, access) =>
      MANUALS.linearAddressFault(state, address, access, false),
  }),
  other('48 canonical bits on 5 levels', 'linear-addresses', {
    linearAddressFault: (state, address, access, stack) =>
      MANUALS.linearAddressFault({ ...state, linearBits: 48 }, address, access, stack),
  }),
  other('INVLPG leaves global pages', 'tlb', {
    fateOf: (operation, current, item) =>
      operation.kind === 'INVLPG' && item.global
        ? 'may stay'
        : MANUALS.fateOf(operation, current, item),
  }),
  other('INVPCID type 3 drops global pages', 'tlb', {
    fateOf: (operation, current, item) =>
      operation.kind === 'INVPCID' && operation.type === 3
        ? 'gone'
        : MANUALS.fateOf(operation, current, item),
  }),
  other('bit 63 of CR3 is ignored', 'tlb', {
    fateOf: (operation, current, item) =>
      MANUALS.fateOf(
        operation.kind === 'MOV CR3' ? { ...operation, keep: false } : operation,
        current,
        item,
      ),
  }),
  other('MOV CR3 drops all PCIDs', 'tlb', {
    fateOf: (operation, current, item) =>
      MANUALS.fateOf(
        operation,
        current,
        operation.kind === 'MOV CR3' ? { ...item, pcid: operation.pcid } : item,
      ),
  }),
  other('setting SMEP keeps what is cached', 'structure-caches', {
    fateOf: (operation, current, item) =>
      operation.kind === 'context' ? 'may stay' : MANUALS.fateOf(operation, current, item),
  }),
  other('INVLPG leaves paging-structure caches of other addresses', 'structure-caches', {
    fateOf: (operation, current, item) =>
      operation.kind === 'INVLPG' && operation.address < item.start
        ? 'may stay'
        : MANUALS.fateOf(operation, current, item),
  }),
  other('CR4.PCIDE can be set with a PCID in CR3', 'mode-transitions', {
    afterWrite: (model, before, write) =>
      write.register === 'CR4'
        ? withCr3(
            MANUALS.afterWrite(model, { ...before, cr3: before.cr3 & ~0xfffn }, write),
            before,
          )
        : MANUALS.afterWrite(model, before, write),
  }),
  other('PDPTEs with reserved bits can be loaded', 'mode-sequences', {
    afterWrite: (model, before, write) =>
      MANUALS.afterWrite({ ...model, pdptesLoadable: () => true }, before, write),
  }),
  other('CR0.PG can be set with 64-bit code', 'mode-transitions', {
    afterWrite: (model, before, write) => {
      const after = MANUALS.afterWrite(model, { ...before, csL: false }, write)
      return after === undefined || write.register === 'CS.L'
        ? after
        : { ...after, csL: before.csL }
    },
  }),
]

function withCr3(
  after: ReturnType<Manuals['afterWrite']>,
  before: Parameters<Manuals['afterWrite']>[1],
): ReturnType<Manuals['afterWrite']> {
  return after === undefined ? undefined : { ...after, cr3: before.cr3 }
}
