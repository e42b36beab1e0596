// What the words of the command line choose, as they did in the kernels that had them.
import { describe, expect, test } from 'vitest'
import type { Scenario } from '@trapdoor/harness'
import { play } from './cases.ts'

function bootWith(strategy: string, commandLine: string): ReturnType<typeof play>['result'] {
  // Some words are there to keep a kernel from calling firmware.
  const comesUp = !/noefi|noruntime/.test(commandLine)
  return play(`none/${strategy}/boot`, undefined, { commandLine, comesUp }).result
}

function bytesMapped(words: string): number {
  return bootWith('private-efi-pgd', words).cost!.mappedBytes
}

/** What kernels said about words that they do not know. */
function reportsOf(events: ReturnType<typeof play>['events']): string[] {
  return events.flatMap((event) =>
    event.kind === 'message' && event.text.startsWith('Unknown kernel') ? [event.text] : [],
  )
}

/** Whether a kernel with arm64's low addresses calls SetVirtualAddressMap. */
function converts(words: string): boolean {
  return play('none/arm64:map=virtual/boot', undefined, { commandLine: words }).events.some(
    (event) => event.kind === 'call' && event.name === 'SetVirtualAddressMap',
  )
}

/** Whether the kernel could execute the text of a process. */
function isExecutable(strategy: string, words: string): boolean {
  const { surveys } = play(`none/${strategy}/boot`, undefined, { commandLine: words })
  const found = surveys.find(({ name }) => name === 'mm of task 0')!.inspect(0x40_0000n)
  return found.status === 'mapped' && found.executable
}

/** A line of a kernel log about bytes `start` up to `end` (exclusive). */
function line(index: number, type: string, start: number, end: number): string {
  const [first, last] = [start, end - 1].map((at) => `0x${at.toString(16).padStart(16, '0')}`)
  const flags = `[${type.padEnd(12)}|${type.startsWith('Runtime') ? 'RUN' : '   '}|  |  |  |  |  |  |   |WB|WT|WC|UC]`
  const mebibytes = Math.floor((end - start) / 2 ** 20)
  return `[    0.000000] efi: mem${String(index).padStart(2, '0')}: ${flags} range=[${first}-${last}] (${mebibytes}MB)`
}

/** Whether the map that SetVirtualAddressMap got descends. */
function passesFromTheEnd(strategy: string, commandLine: string): boolean {
  let descends = false
  const look: Scenario = {
    name: 'look',
    title: 'a test',
    steps: [
      {
        name: 'boot',
        run: (context) => {
          const [first, second] = context.boot().requireEfi.memoryMap
          descends = first!.physicalStart > second!.physicalStart
        },
      },
    ],
  }
  play(`none/${strategy}/look`, look, { commandLine })
  return descends
}

/** Whether a kernel finds no place for a crash kernel. */
function crashKernelRefused(strategy: string, commandLine: string): boolean {
  const { events } = play(`none/${strategy}/boot`, undefined, { commandLine })
  return events.some(
    (event) =>
      event.kind === 'message' &&
      /crashkernel reservation failed|Cannot reserve \d+MB crashkernel low memory/.test(event.text),
  )
}

/** How a kernel with KASLR ends without and with efi=old_map. */
const outcomesWithKaslr = (strategy: string): string[] =>
  ['', 'efi=old_map'].map(
    (commandLine) =>
      play(`none/${strategy}/boot#42`, undefined, { commandLine, comesUp: false }).result.outcome,
  )

describe('the command line', () => {
  test('takes the patch’s kernel back to virtual mode with virtefi, unless physefi says otherwise', () => {
    expect(bootWith('private-efi-pgd', '').cost!.perCall.cr3Writes).toBe(2)
    expect(bootWith('private-efi-pgd', 'virtefi').cost!.perCall.cr3Writes).toBe(0)
    expect(bootWith('private-efi-pgd', 'virtefi').kernel.ran).toEqual(['legacy-virtual'])
    expect(bootWith('private-efi-pgd', 'virtefi physefi').cost!.perCall.cr3Writes).toBe(2)
  })

  test('takes kernels from 3.14 to 5.8 back to the direct map with efi=old_map, and no later ones', () => {
    for (const strategy of ['linux-3.14', 'linux-4.3', 'linux-4.14', 'linux-5.4']) {
      expect(bootWith(strategy, 'efi=old_map').cost!.perCall.cr3Writes).toBe(0)
    }
    expect(bootWith('linux-6.1', 'efi=old_map').cost!.perCall.cr3Writes).toBe(2)
  })

  test.each([
    ['', undefined, '4.20'],
    ['#42', undefined, '4.20, KASLR seed 42'],
    ['#7', 'qemu-tcg', '4.20 with 5-level paging, KASLR seed 7'],
  ] as const)(
    'reaches SetVirtualAddressMap with efi=old_map wherever KASLR has the direct map begin%s',
    (seed, cpu, layout) => {
      const { result } = play(`none/linux-5.4/boot${seed}`, undefined, {
        commandLine: 'efi=old_map',
        ...(cpu === undefined ? {} : { cpu }),
      })
      expect([result.outcome, result.kernel.profile]).toEqual(['ok', `Linux ${layout}`])
      expect(result.cost!.perCall.cr3Writes).toBe(0)
    },
  )

  test('does not reach it in 4.8 to 4.11 where the direct map begins inside a root entry, and does from 4.12 on', () => {
    expect(outcomesWithKaslr('linux-4.9')).toEqual(['ok', 'fault'])
    expect(outcomesWithKaslr('linux-4.14')).toEqual(['ok', 'ok'])
    expect(play('none/linux-4.14/boot#42').result.kernel.profile).toBe('Linux 4.8, KASLR seed 42')
  })

  test.each([
    ['linux-3.14', false],
    ['linux-4.3', true],
    ['linux-5.4', true],
  ])(
    'passes the map in its own order with efi=old_map, whatever %s does without',
    (strategy, without) => {
      expect(passesFromTheEnd(strategy, '')).toBe(without)
      expect(passesFromTheEnd(strategy, 'efi=old_map')).toBe(false)
    },
  )

  test('switches runtime services off with noefi and efi=noruntime', () => {
    expect(bootWith('linux-6.1', 'noefi').outcome).toBe('refused')
    expect(bootWith('linux-6.1', 'efi=debug,noruntime').outcome).toBe('refused')
  })

  test('keeps boot services mapped with efi=debug', () => {
    expect(bootWith('linux-6.1', '').cost!.bootServicesBytes).toBe(4096)
    expect(bootWith('linux-6.1', 'efi=debug').cost!.bootServicesBytes).toBeGreaterThan(2 ** 20)
  })

  test.each(['efi=novamap', 'efi=disable_early_pci_dma', 'efi=nosoftreserve', 'efi=what'])(
    'changes nothing with %s where SetVirtualAddressMap is the kernel’s, no device does DMA, no memory has a specific purpose, and nothing is called so',
    (words) => {
      const { result, events } = play('none/linux-6.1/boot', undefined, { commandLine: words })
      expect(result.cost).toEqual(bootWith('linux-6.1', '').cost)
      expect(reportsOf(events)).toEqual([])
    },
  )

  test.each(['novamap', 'disable_early_pci_dma'])(
    'says of efi=%s that it changes nothing, where a kernel knows it',
    (word) => {
      const saidBy = (strategy: string): number =>
        play(`none/${strategy}/boot`, undefined, { commandLine: `efi=${word}` }).events.filter(
          (event) =>
            event.kind === 'message' && event.text.startsWith(`efi=${word} changes nothing: `),
        ).length
      expect(saidBy('linux-6.1')).toBe(1)
      expect(saidBy('linux-4.14')).toBe(0)
    },
  )

  test('leaves firmware where it is with efi=novamap on arm64, where the stub asks for it', () => {
    expect([converts(''), converts('efi=novamap')]).toEqual([true, false])
    expect(
      play('none/linux-6.1/boot', undefined, { commandLine: 'efi=novamap' }).events.some(
        (event) => event.kind === 'call' && event.name === 'SetVirtualAddressMap',
      ),
    ).toBe(true)
  })

  test('takes the execution of user memory from the kernel with pti=on, and gives it back with nopti, from 4.15 on', () => {
    expect(isExecutable('linux-6.1', 'pti=on')).toBe(false)
    expect(isExecutable('linux-6.1', 'nopti')).toBe(true)
    expect(isExecutable('linux-6.1', 'nopti pti=on')).toBe(false)
    expect(isExecutable('linux-4.3', 'pti=on')).toBe(true)
  })

  test('brings memory back with add_efi_memmap that the loader’s 128 entries of e820 have no room for', () => {
    const log = [
      '[    0.000000] efi: EFI v2.70 by EDK II',
      line(0, 'Conventional', 0x1000, 0x800_0000),
      line(1, 'Boot Data', 0x800_0000, 0x900_0000),
      line(2, 'Runtime Data', 0x900_0000, 0x910_0000),
      line(3, 'Runtime Code', 0x910_0000, 0x920_0000),
      // Every second page is nobody's.
      ...Array.from({ length: 200 }, (_, index) => {
        const start = 0x1000_0000 + index * 0x20_0000
        return line(index + 4, 'Conventional', start, start + 0x10_0000)
      }),
    ].join('\n')
    const ramOf = (commandLine: string): number => {
      let ram = 0
      const count: Scenario = {
        name: 'count',
        title: 'a test',
        steps: [
          {
            name: 'boot',
            run: (context) => {
              for (const { start, end, type } of context.boot().e820)
                if (type === 1) ram += end - start
            },
          },
        ],
      }
      play('none/linux-6.1/count', count, { commandLine, bytes: new TextEncoder().encode(log) })
      return ram
    }
    const brought = ramOf('add_efi_memmap') - ramOf('')
    expect(brought).toBeGreaterThanOrEqual(70 * 2 ** 20)
  })

  test.each([
    ['linux-6.1', 'virtefi', ['virtefi']],
    ['linux-6.1', 'physefi efi=debug', ['physefi']],
    ['linux-7.1', 'efi_fake_mem=1M@16M:1 nopti', ['efi_fake_mem=1M@16M:1']],
    ['linux-6.1', 'efi_fake_mem=1M@16M:1', []],
    // Before 5.14 nobody is told.
    ['linux-5.4', 'virtefi', []],
  ])('of %s reports of "%s" what it does not know: %j', (strategy, words, reported) => {
    const { events } = play(`none/${strategy}/boot`, undefined, { commandLine: words })
    const all = reported.map(
      (word) => `Unknown kernel command line parameters "${word}", will be passed to user space.`,
    )
    expect(reportsOf(events)).toEqual(all)
  })

  test('has words only in the versions that had them', () => {
    // 3.18 brought noruntime, 5.7 debug's boot services, 5.9 had no old_map any more.
    expect(bootWith('linux-3.4', 'efi=noruntime').outcome).toBe('ok')
    expect(bootWith('linux-4.3', 'efi=noruntime').outcome).toBe('refused')
    const bootServices = (strategy: string, words: string): number =>
      bootWith(strategy, words).cost!.bootServicesBytes
    expect(bootServices('linux-5.4', 'efi=debug')).toBe(bootServices('linux-5.4', ''))
    expect(bootServices('linux-6.1', 'efi=debug')).toBeGreaterThan(bootServices('linux-6.1', ''))
  })

  test('gives firmware a region that has the RUNTIME attribute by efi_fake_mem alone', () => {
    const word = 'efi_fake_mem=1M@0x1000000:0x8000000000000000'
    expect(bytesMapped(word) - bytesMapped('')).toBeGreaterThanOrEqual(2 ** 20)
  })

  test('keeps specific-purpose memory from the page allocator, unless efi=nosoftreserve says otherwise', () => {
    // All memory from 64 MiB to 4 GiB is the specific purpose: a crash kernel finds no place there.
    const words = 'crashkernel=64M efi_fake_mem=4032M@64M:0x40000'
    expect(crashKernelRefused('linux-6.1', words)).toBe(true)
    expect(crashKernelRefused('linux-6.1', `${words} efi=nosoftreserve`)).toBe(false)
    expect(crashKernelRefused('linux-4.14', words)).toBe(false)
  })
})
