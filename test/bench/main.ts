// What `pnpm bench` prints: core beside the same in C, compiled and run now, what machine code and OVMF run at, and what a case of the matrix costs. The fastest of many windows counts.
import { runSection, type Section } from './compare.ts'
import { benchMachineCode } from './machine-code.ts'
import { benchMatrix } from './matrix.ts'
import { benchRealFirmware } from './real-firmware.ts'

const SECTIONS: readonly Section[] = [
  {
    title: 'page walks a second, with permission and accessed/dirty flags',
    program: 'walks',
    processes: ['flat', 'sparse'].flatMap((memory) => [
      [memory, '4-level'],
      [memory, '5-level'],
    ]),
    unit: { name: 'M/s', nanoseconds: 1000, isRate: true },
    target: (row) => (row.startsWith('flat') ? 0.4 : 0.35),
  },
  {
    title: 'translations through the MMU a second: hits in the TLB, and misses of it',
    program: 'tlb',
    processes: [['4-level'], ['5-level']],
    unit: { name: 'M/s', nanoseconds: 1000, isRate: true },
    target: () => 0.15,
  },
  {
    title: 'building an identity map, in microseconds, and the bytes of its tables',
    program: 'tables',
    processes: [[]],
    unit: { name: 'µs', nanoseconds: 1000, isRate: false },
    target: () => 0.45,
  },
  {
    title:
      'forks of memory, in microseconds: so much touched, of a machine of that size; with 1,000 frames written after',
    program: 'forks',
    processes: [[]],
    unit: { name: 'µs', nanoseconds: 1000, isRate: false },
    target: () => undefined,
  },
]

const { argv } = process
if (argv.length > 2) {
  console.error(`pnpm bench takes no arguments, found ${argv.slice(2).join(' ')}`)
  process.exit(2)
}
for (const section of SECTIONS) await runSection(section)
console.log()
await benchMachineCode()
console.log()
await benchRealFirmware()
console.log()
await benchMatrix()
