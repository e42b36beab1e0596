// Translations through the MMU: hits in the front of the TLB, as c/tlb.c has it, and misses. The number of levels comes as an argument.
import { Cr4, Efer, Machine, PageTableBuilder, phys, SAPPHIRE_RAPIDS, virt } from '@trapdoor/core'
import { measure } from '../measure.ts'
import { Random } from '../random.ts'

const ACCESSES = 32_768
const WINDOWS = 2000
const BASE = 0x7f00_0000_0000n
const ROOT = 0x1000
/** All of them fit the 256 slots of the front. */
const PAGES = 200

const [levels] = process.argv.slice(2)
const machine = new Machine({ features: SAPPHIRE_RAPIDS, flatWindow: 2 ** 26, start: 'reset' })
const cpu = machine.bootCpu
cpu.writeCr4(Cr4.PAE | (levels === '5-level' ? Cr4.LA57 : 0))
cpu.writeEfer(Efer.LME | Efer.NXE)
cpu.writeCr3(ROOT)
cpu.writeCr0(0x8000_0001)
let next = 2
const tables = new PageTableBuilder(machine.memory, phys(ROOT), () => next++, { mode: cpu.mode })
tables.mapRange(virt(BASE), phys(0), 2 ** 25, { executable: true })

const random = new Random(1)
const { mmu } = cpu
const patterns = ['sequential', 'random'] as const
const halves = patterns.map(() => new Int32Array(ACCESSES * 2))
for (let at = 0; at < ACCESSES; at++) {
  put(0, at, (at * 64) % (PAGES * 4096))
  put(1, at, random.below(PAGES * 4096))
}
for (const [pattern, name] of patterns.entries()) {
  measure(`hit/${cpu.mode.name}/${name}`, WINDOWS, ACCESSES, () => translateAll(halves[pattern]!))
}
measure(`miss/${cpu.mode.name}/sequential`, WINDOWS, 8192, () => missAll())

function put(pattern: number, at: number, offset: number): void {
  const address = BASE + BigInt(offset)
  halves[pattern]![at * 2] = Number(address & 0xffff_ffffn)
  halves[pattern]![at * 2 + 1] = Number(address >> 32n)
}

function translateAll(addresses: Int32Array): number {
  let sum = 0
  for (let at = 0; at < ACCESSES; at++) {
    sum += mmu.translate(addresses[at * 2 + 1]!, addresses[at * 2]!, at & 1)
  }
  return sum
}

/** 8,192 pages, none of which is held. */
function missAll(): number {
  mmu.flushAll()
  let sum = 0
  for (let page = 0; page < 8192; page++) sum += mmu.translate(0x7f00, page << 12, 0)
  return sum
}
