// What the words of the command line choose, as they did in the kernels that had them.
import { describe, expect, test } from 'vitest'
import { play } from './cases.ts'

function bootWith(strategy: string, commandLine: string): ReturnType<typeof play>['result'] {
  return play(`none/${strategy}/boot`, undefined, { commandLine }).result
}

function bytesMapped(words: string): number {
  return bootWith('private-efi-pgd', words).cost!.mappedBytes
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

describe('the command line', () => {
  test('takes the patch’s kernel back to virtual mode with virtefi, unless physefi says otherwise', () => {
    expect(bootWith('private-efi-pgd', '').cost!.perCall.cr3Writes).toBe(2)
    expect(bootWith('private-efi-pgd', 'virtefi').cost!.perCall.cr3Writes).toBe(0)
    expect(bootWith('private-efi-pgd', 'virtefi physefi').cost!.perCall.cr3Writes).toBe(2)
  })

  test('takes kernels from 3.14 to 5.8 back to the direct map with efi=old_map, and no later ones', () => {
    for (const strategy of ['linux-3.14', 'linux-4.3', 'linux-4.14', 'linux-5.4']) {
      expect(bootWith(strategy, 'efi=old_map').cost!.perCall.cr3Writes).toBe(0)
    }
    expect(bootWith('linux-6.1', 'efi=old_map').cost!.perCall.cr3Writes).toBe(2)
  })

  test('switches runtime services off with noefi and efi=noruntime', () => {
    expect(bootWith('linux-6.1', 'noefi').outcome).toBe('refused')
    expect(bootWith('linux-6.1', 'efi=debug,noruntime').outcome).toBe('refused')
  })

  test('keeps boot services mapped with efi=debug', () => {
    expect(bootWith('linux-6.1', '').cost!.bootServicesBytes).toBe(4096)
    expect(bootWith('linux-6.1', 'efi=debug').cost!.bootServicesBytes).toBeGreaterThan(2 ** 20)
  })

  test.each([
    'efi=novamap',
    'efi=disable_early_pci_dma',
    'pti=on',
    'nopti',
    'add_efi_memmap',
    'efi=nosoftreserve',
  ])('changes nothing here with %s', (words) => {
    expect(bootWith('linux-6.1', words).cost).toEqual(bootWith('linux-6.1', '').cost)
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
