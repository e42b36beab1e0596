import { AccessKind, CR3_KEEP_TRANSLATIONS, type Cpu, Cr0, Cr4, Efer } from '@trapdoor/core'

import type { Invalidation } from '../oracle/invalidation.ts'

/** What is done between the change of page tables and the accesses that show what was kept. */
export interface Operation {
  readonly name: string
  readonly meaning: Invalidation
  run(cpu: Cpu): void
  /** Contexts that can still be looked into afterwards. */
  readonly contextsLeft: 'all' | 'current'
}

const NOTHING: Invalidation = { kind: 'nothing' }
const EVERYTHING: Invalidation = { kind: 'everything' }

function operation(
  name: string,
  meaning: Invalidation,
  run: (cpu: Cpu) => void,
  contextsLeft: Operation['contextsLeft'] = 'all',
): Operation {
  return { name, meaning, run, contextsLeft }
}

function cr4Toggle(name: string, bit: number, meaning: Invalidation): Operation {
  return operation(`CR4.${name} turned`, meaning, (cpu) => cpu.writeCr4(cpu.cr4 ^ bit))
}

/** PCIDs that operations name: those that are in use, and one that is not. */
const UNUSED_PCID = 7

/** The registers before the operation, where its meaning depends on them. */
export interface OperationWorld {
  readonly pcids: readonly number[]
  readonly pcide: boolean
  readonly smep: boolean
  readonly addresses: readonly bigint[]
  readonly root: number
}

/** Every operation of a world. */
export function operations(world: OperationWorld): Operation[] {
  const pcids = world.pcide ? [...world.pcids, UNUSED_PCID] : [0]
  const list = [
    operation('nothing', NOTHING, () => {}),
    cr4Toggle('PGE', Cr4.PGE, EVERYTHING),
    cr4Toggle('SMEP', Cr4.SMEP, world.smep ? NOTHING : { kind: 'context' }),
    cr4Toggle('SMAP', Cr4.SMAP, NOTHING),
    cr4Toggle('PSE', Cr4.PSE, NOTHING),
    cr4Toggle('PKE', Cr4.PKE, NOTHING),
    cr4Toggle('PKS', Cr4.PKS, NOTHING),
    cr4Toggle('LASS', Cr4.LASS, NOTHING),
    operation('CR0.WP turned', NOTHING, (cpu) => cpu.writeCr0((cpu.cr0 ^ Cr0.WP) >>> 0)),
    operation('EFER.NXE turned', NOTHING, (cpu) => cpu.writeEfer(cpu.efer ^ Efer.NXE)),
    operation('PKRS written', NOTHING, (cpu) => cpu.writePkrs(0xc)),
    ...world.addresses.flatMap((address) => addressOperations(address, pcids)),
    ...pcids.flatMap((pcid) => contextOperations(pcid, world)),
    invpcid(2, 0, 0n),
    invpcid(3, 0, 0n),
  ]
  if (world.pcide)
    list.push(
      operation(
        'CR4.PCIDE cleared',
        EVERYTHING,
        (cpu) => cpu.writeCr4(cpu.cr4 & ~Cr4.PCIDE),
        'current',
      ),
    )
  else
    list.push(
      operation('CR0.PG cleared and set', EVERYTHING, (cpu) => {
        cpu.codeSegmentLong = false
        cpu.writeCr0((cpu.cr0 & ~Cr0.PG) >>> 0)
        cpu.writeCr0((cpu.cr0 | Cr0.PG) >>> 0)
        cpu.codeSegmentLong = true
      }),
    )
  return list
}

function invpcid(type: 0 | 1 | 2 | 3, pcid: number, address: bigint): Operation {
  const where = type === 0 ? ` ${pcid}, 0x${address.toString(16)}` : type === 1 ? ` ${pcid}` : ''
  return operation(
    `INVPCID type ${type}${where}`,
    { kind: 'INVPCID', type, pcid, address },
    (cpu) => cpu.invpcid(type, pcid, address),
  )
}

function addressOperations(address: bigint, pcids: readonly number[]): Operation[] {
  const hex = `0x${address.toString(16)}`
  return [
    operation(`INVLPG ${hex}`, { kind: 'INVLPG', address }, (cpu) => cpu.invlpg(address)),
    // The pages are the supervisor's, so a user's access faults whatever is cached.
    operation(`page fault at ${hex}`, { kind: 'page fault', address }, (cpu) => {
      const high = Number(BigInt.asIntN(32, address >> 32n))
      cpu.mmu.translate(high, Number(BigInt.asIntN(32, address)), AccessKind.UserOffset)
    }),
    ...pcids.map((pcid) => invpcid(0, pcid, address)),
  ]
}

function contextOperations(pcid: number, world: OperationWorld): Operation[] {
  const load = (keep: boolean): Operation =>
    operation(
      `MOV CR3, PCID ${pcid}${keep ? ', bit 63' : ''}`,
      { kind: 'MOV CR3', pcid, keep },
      (cpu) => cpu.writeCr3(BigInt(world.root + pcid) | (keep ? CR3_KEEP_TRANSLATIONS : 0n)),
    )
  return [invpcid(1, pcid, 0n), load(false), ...(world.pcide ? [load(true)] : [])]
}
