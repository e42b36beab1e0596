// What the words of the command line choose, as they did in the kernels that had them.
import { describe, expect, test } from 'vitest'
import { play } from './cases.ts'

function bootWith(strategy: string, commandLine: string): ReturnType<typeof play>['result'] {
  return play(`none/${strategy}/boot`, undefined, { commandLine }).result
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

  test('changes nothing on x86 with efi=novamap', () => {
    expect(bootWith('linux-6.1', 'efi=novamap').cost).toEqual(bootWith('linux-6.1', '').cost)
  })
})
