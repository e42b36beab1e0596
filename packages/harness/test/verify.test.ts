import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Kernel, StrategyDefinition } from '@trapdoor/kernel'
import { KernelPanic } from '@trapdoor/kernel'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type VerifiedKernel, verifyFolder } from '../src/index.ts'

/** A strategy of a kernel that ends in its setup as `die` has it. */
function dying(die: (kernel: Kernel) => void): StrategyDefinition {
  return {
    name: 'dying',
    title: 'does not survive its setup',
    mode: 'physical',
    linux: { from: '6.0' },
    sources: ['this test'],
    create: () => ({ setup: die }),
  }
}

const byPageFault = dying(({ bootCpu }) => {
  bootCpu.read8(0x10n)
})

const byItself = dying(() => {
  throw new KernelPanic('words of the model')
})

/** Lines by which a log tells how far a kernel has come. */
const BEGIN = ['Linux version 6.1.0-1 (x)', 'Command line: quiet']
const EFI_INIT = ['NX (Execute Disable) protection: active']
const MM_INIT = ['Kernel command line: quiet']
const LATER = ['Mount-cache hash table entries: 1024 (order: 1, 8192 bytes, linear)']
const PAGE_FAULT = ['BUG: unable to handle page fault for address: ffffffff12345678']
const PANIC = ['Kernel panic - not syncing: words of the machine']
const RAM = ['0x00001000-0x0009ffff', '0x00100000-0x3fffffff']

const FIRMWARE_MAP = `efi: mem00: type=7, attr=0xf, range=[0x0000000000001000-0x00000000000a0000) (0MB)
efi: mem01: type=7, attr=0xf, range=[0x0000000000100000-0x0000000008000000) (127MB)
efi: mem02: type=4, attr=0xf, range=[0x0000000008000000-0x0000000008400000) (4MB)
efi: mem03: type=6, attr=0x800000000000000f, range=[0x0000000009100000-0x0000000009160000) (0MB)
efi: mem04: type=5, attr=0x800000000000000f, range=[0x0000000009200000-0x0000000009220000) (0MB)
efi: mem05: type=7, attr=0xf, range=[0x000000000a000000-0x0000000018000000) (224MB)
`

/** What is said of the one kernel of a boot with such a log. */
function verified(
  lines: readonly string[],
  strategy: StrategyDefinition,
  cpu = 'Nehalem',
): VerifiedKernel {
  const folder = mkdtempSync(join(tmpdir(), 'trapdoor-test-'))
  onTestFinished(() => {
    rmSync(folder, { recursive: true })
  })
  writeFileSync(join(folder, 'command.txt'), `qemu -cpu ${cpu} -kernel vmlinuz\n`)
  writeFileSync(join(folder, 'firmware-map.txt'), FIRMWARE_MAP)
  const text = lines.map((line, index) => `[    0.${index}] ${line}\n`).join('')
  writeFileSync(join(folder, 'boot1.dmesg'), text)
  return verifyFolder(folder, [strategy])[0]!.kernels[0]!
}

test.each([
  ['7.1.0-1', undefined],
  ['7.2.0-1', '7.1'],
])('a kernel of Linux %s is taken for %s', (version, takenFor) => {
  const lines = [...BEGIN, ...EFI_INIT, ...MM_INIT, ...PANIC].map((line) =>
    line.replace('6.1.0-1', version),
  )
  const latest = { ...byItself, linux: { from: '6.0', as: '7.1' } }
  expect(verified(lines, latest).takenFor).toBe(takenFor)
})

test.each([
  ['pti=on', 'on'],
  ['pti=off', 'off'],
  ['nopti', 'off'],
  ['', 'auto'],
])(
  'what is read before parameters are parsed has its effect, unknown as it is: %s',
  (word, pti) => {
    let found: string | undefined
    const asks = dying(({ commandLine }) => {
      found = commandLine.pti
      throw new KernelPanic('asked')
    })
    const lines = [
      'Linux version 6.1.0-1 (x)',
      `Command line: nokaslr ${word} quiet`,
      ...EFI_INIT,
      `Kernel command line: nokaslr ${word} quiet`,
      `Unknown kernel command line parameters "nokaslr ${word}", will be passed to user space.`,
      ...PANIC,
    ]
    expect(verified(lines, asks).differences).toEqual([])
    expect(found).toBe(pti)
  },
)

test.each([
  ['max', true, true],
  ['max,la57=off', false, true],
  ['max,-la57,+la57,la57=on', false, true],
  ['max,+la57,la57=off', true, true],
  ['max,la57=on,la57=off', false, true],
  ['qemu64', false, false],
  ['qemu64,+pdpe1gb', false, true],
  ['Icelake-Server,la57=on,pdpe1gb', true, true],
  ['max,-pdpe1gb', true, false],
])(
  'a machine with -cpu %s has five levels of paging: %s, 1 GiB pages: %s',
  (cpu, la57, pages1G) => {
    let found = {}
    const asks = dying(({ machine: { features } }) => {
      found = { la57: features.la57, pages1G: features.pages1G }
      throw new KernelPanic('asked')
    })
    verified([...BEGIN, ...EFI_INIT, ...MM_INIT, ...PANIC], asks, cpu)
    expect(found).toEqual({ la57, pages1G })
  },
)

describe('a kernel that dies on both sides', () => {
  const inSetup = [...BEGIN, ...EFI_INIT, ...MM_INIT]

  test('agrees where it dies at the same point in the same way, whatever its last words', () => {
    const faulted = [...inSetup, ...PAGE_FAULT, ...PANIC]
    expect(verified(faulted, byPageFault).differences).toEqual([])
    expect(verified([...inSetup, ...PANIC], byItself).differences).toEqual([])
  })

  test('differs where one dies of an exception and the other of a panic of its own', () => {
    expect(verified([...inSetup, ...PANIC], byPageFault).differences).toMatchObject([
      {
        subject: 'ending',
        observed: 'the kernel panics between mm_init() and vfs_caches_init()',
        model: expect.stringMatching(
          /^the kernel dies of exception 14 between mm_init\(\) and vfs_caches_init\(\): read at /,
        ),
        explanation: undefined,
      },
    ])
    const byBug = ['kernel BUG at efi.c:1!', 'invalid opcode: 0000 [#1] SMP', ...PANIC]
    expect(verified([...inSetup, ...byBug], byItself).differences).toEqual([])
    expect(verified([...inSetup, ...byBug], byPageFault).differences).toHaveLength(1)
  })

  test.each([
    ['before efi_init()', BEGIN],
    ['between efi_init() and mm_init()', [...BEGIN, ...EFI_INIT]],
    ['after vfs_caches_init()', [...inSetup, ...LATER]],
  ])('differs where the machine’s dies %s', (where, lines) => {
    expect(verified([...lines, ...PAGE_FAULT, ...PANIC], byPageFault).differences).toMatchObject([
      { subject: 'ending', observed: `the kernel dies of exception 14 ${where}` },
    ])
  })

  test('differs where it was given another map before', () => {
    const given = RAM.map((range) => `BIOS-e820: [mem ${range}] usable`)
    const lines = [...inSetup, ...given, ...PAGE_FAULT, ...PANIC]
    const { differences } = verified(lines, byPageFault)
    expect(differences.map(({ subject }) => subject)).toContain('e820 map')
    expect(differences.map(({ subject }) => subject)).not.toContain('ending')
  })
})
