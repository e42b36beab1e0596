// Kernels of other versions and strategies before and behind the case's own.
import type { StrategyCost } from '@trapdoor/harness'
import { describe, expect, test } from 'vitest'
import { findingOf, play } from './cases.ts'

/** Where the tables of the second kernel's calls have the firmware's runtime code, above the kernel's text. */
function runtimeCodeOf(strategy: string, scenario: string): bigint[] {
  const { surveys, result } = play(`none/${strategy}/${scenario}`)
  expect(result.outcome).toBe('ok')
  const calls = surveys.filter(
    ({ kernel, usedForCalls }) => kernel === 'second kernel' && usedForCalls,
  )
  return calls.flatMap(({ ranges }) =>
    ranges.flatMap(({ start, physical, bytes }) =>
      start >= 0xffff_ffef_0000_0000n && physical <= RUNTIME_CODE && physical + bytes > RUNTIME_CODE
        ? [start + BigInt(RUNTIME_CODE - physical)]
        : [],
    ),
  )
}

/** Of the demo machine. */
const RUNTIME_CODE = 0x7f5e_c000

function callsOf(cell: string, service: string): string[] {
  return play(cell).events.flatMap((event) =>
    event.kind === 'call' && event.name === service ? [event.era] : [],
  )
}

describe('version skew', () => {
  test('a newer kernel keeps the addresses that 3.14 gave in map order, not those of its own', () => {
    const [own] = runtimeCodeOf('linux-6.1', 'kexec-from-new')
    const [kept] = runtimeCodeOf('linux-6.1', 'kexec-from-old')
    expect(kept).not.toBe(own)
    expect(runtimeCodeOf('linux-3.14', 'kexec-from-old')).toEqual([kept])
    expect(runtimeCodeOf('linux-3.14', 'kexec-from-new')).toEqual([own])
  })

  test('kernels that know nothing of SETUP_EFI die of what either version left', () => {
    for (const scenario of ['kexec-from-old', 'kexec-from-new']) {
      for (const strategy of ['legacy-virtual', 'linux-3.4', 'private-efi-pgd']) {
        const trace = play(`none/${strategy}/${scenario}`)
        expect(findingOf(trace, 'H8')).toMatchObject({ kernel: 'second kernel', phase: 'efi_init' })
      }
    }
  })

  test('one that honours given addresses declines those that its layout uses for something else', () => {
    const { result } = play('none/virtual-address-passing/kexec-from-old')
    expect(result).toMatchObject({ outcome: 'refused' })
    expect(result.reason).toMatch(
      /^second kernel goes without EFI runtime services: firmware lives/,
    )
  })
})

describe('kernels that leave firmware in physical mode', () => {
  test('are followed by one that calls SetVirtualAddressMap, and its successor gets the addresses', () => {
    const cell = 'none/linux-6.1/kexec-chain-physical'
    expect(play(cell).result.outcome).toBe('ok')
    expect(callsOf(cell, 'SetVirtualAddressMap')).toEqual(['third kernel'])
    expect(new Set(callsOf(cell, 'GetTime'))).toEqual(
      new Set(['first kernel', 'second kernel', 'third kernel', 'fourth kernel']),
    )
  })

  test('never see it where the case’s own leaves it there, too', () => {
    const cell = 'none/private-efi-pgd/kexec-chain-physical'
    expect(play(cell).result.outcome).toBe('ok')
    expect(callsOf(cell, 'SetVirtualAddressMap')).toEqual([])
  })

  test('are followed by one with nothing to hand over, whose successor dies', () => {
    const trace = play('none/legacy-virtual/kexec-chain-physical')
    expect(findingOf(trace, 'H8')).toMatchObject({ kernel: 'fourth kernel', phase: 'efi_init' })
  })
})

/** A kernel with region addresses, and by kexec another, with a call from each. */
function fromRegionAddresses(strategy: string): ReturnType<typeof play> {
  return play('none/region-addresses/to-another', {
    name: 'to-another',
    title: 'a kernel with region addresses, and another',
    steps: [
      {
        name: 'both',
        run: (context) => {
          context.boot()
          context.call(context.services().getTime())
          context.kexec({ strategy })
          context.call(context.services().getTime())
        },
      },
    ],
  })
}

/** What a million calls from a trap handler cost. */
const priceOf = (strategy: string): NonNullable<StrategyCost['price']> =>
  play(`none/${strategy}/trap-handler`).result.cost!.price!

describe('ia64’s way', () => {
  test('goes on between kernels that have firmware at the same addresses', () => {
    expect(fromRegionAddresses('region-addresses').result.outcome).toBe('ok')
  })

  test('ends where the next one has it elsewhere, or takes the tables’ words for physical addresses: Xen, another Linux', () => {
    for (const strategy of ['xen', 'linux-6.1', 'legacy-virtual']) {
      const trace = fromRegionAddresses(strategy)
      expect(trace.result.outcome).toBe('fault')
      expect(findingOf(trace, 'H8')).toMatchObject({ kernel: 'second kernel' })
    }
  })

  test('costs nothing a call, where physical mode pays two writes to CR3 and the walks after them a million times', () => {
    expect(priceOf('region-addresses')).toMatchObject({ cr3Writes: 0, tlbMisses: 0 })
    const physical = priceOf('private-efi-pgd')
    const shared = priceOf('global-identity-map')
    expect(physical.cr3Writes).toBe(2_000_000)
    // The patch’s translations are global and outlive the call; those of a table that gives way do not.
    expect(physical.tlbMisses).toBe(0)
    expect(shared.tlbMisses).toBeGreaterThanOrEqual(1_000_000)
    expect(shared.walkReferences).toBeGreaterThan(shared.tlbMisses)
  })
})
