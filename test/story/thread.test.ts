import { PAGE_SIZE, PageFault, virt } from '@trapdoor/core'
import type { Scenario, ScenarioContext } from '@trapdoor/harness'
import { Guid } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { findingOf, play } from './cases.ts'

/** The statuses of the calls that a kernel of a case made. */
function answers(trace: ReturnType<typeof play>, kernel: string): string[] {
  return trace.result.services
    .filter((service) => service.kernel === kernel)
    .map(({ name, status }) => `${name} ${status}`)
}

const EVERYDAY = ['GetTime EFI_SUCCESS', 'SetVariable EFI_SUCCESS', 'GetVariable EFI_SUCCESS']

function bootOnly(run: (context: ScenarioContext) => void, cpus = 1): Scenario {
  return {
    name: 'story',
    title: 'what this story is about',
    cpus,
    steps: [
      {
        name: 'boot',
        run: (context) => {
          context.boot()
        },
      },
      { name: 'the story', run },
    ],
  }
}

describe('legacy-virtual', () => {
  test('works until kexec, and the second kernel dies reading the converted system table', () => {
    const trace = play('none/legacy-virtual/kexec')
    expect(answers(trace, 'first kernel')).toEqual(EVERYDAY)
    expect(trace.result.outcome).toBe('fault')
    const finding = findingOf(trace, 'H8')
    expect(finding).toMatchObject({
      kernel: 'second kernel',
      phase: 'efi_init',
      actor: 'kernel',
      access: {
        kind: 'read',
        errorCode: 'supervisor read, reserved bit set in a paging-structure entry',
      },
    })
    // The entry that killed it holds the upper half of a direct-map address where a physical address belongs.
    const leaf = finding.walk.at(-1)!
    expect(leaf.entry).toBe('PTE')
    expect(BigInt(leaf.value) & 0xffff_8800_0000_0000n).toBe(0xffff_8800_0000_0000n)
  })

  test('leaves kdump without a crash kernel for the same reason', () => {
    const trace = play('none/legacy-virtual/kdump')
    expect(trace.result.outcome).toBe('fault')
    expect(findingOf(trace, 'H8')).toMatchObject({ kernel: 'crash kernel', phase: 'efi_init' })
  })
})

describe('private-efi-pgd', () => {
  test('survives kexec: the second kernel boots and calls as the first did', () => {
    const trace = play('none/private-efi-pgd/kexec')
    expect(answers(trace, 'first kernel')).toEqual(EVERYDAY)
    expect(answers(trace, 'second kernel')).toEqual(EVERYDAY)
    expect(trace.result.outcome).toBe('ok')
  })

  test('survives kdump from a crash inside SetVariable', () => {
    const trace = play('none/private-efi-pgd/kdump')
    const crash = trace.events.findIndex(
      (event) => event.kind === 'message' && event.text.includes('Kernel panic'),
    )
    const lastCall = trace.events.slice(0, crash).findLast((event) => event.kind === 'call')
    expect(lastCall).toMatchObject({ name: 'SetVariable', era: 'first kernel' })
    expect(answers(trace, 'crash kernel')).toEqual(EVERYDAY)
    expect(trace.result.outcome).toBe('ok')
  })

  test('leaves the way open for a kernel with another layout that calls SetVirtualAddressMap itself', () => {
    const trace = play('none/private-efi-pgd/kexec-other')
    expect(answers(trace, 'second kernel')).toEqual(EVERYDAY)
    expect(
      trace.events.filter(
        (event) => event.kind === 'call' && event.name === 'SetVirtualAddressMap',
      ),
    ).toMatchObject([{ era: 'second kernel' }])
  })

  test('with one static save area and two CPUs inside calls the wrong cr3 comes back', () => {
    const trace = play('none/private-efi-pgd:saveArea=static/services')
    expect(trace.result.outcome).toBe('corrupt')
    expect(findingOf(trace, 'H1').message).toMatch(
      /^after \w+ CPU 0 runs on .+ instead of mm of task 0$/,
    )
  })

  test('with per-CPU save areas each CPU gets its own cr3 back', () => {
    const trace = play('none/private-efi-pgd/services')
    expect(trace.result.findings.map(({ rule }) => rule)).not.toContain('H1')
    expect(trace.result.outcome).toBe('ok')
  })

  test('leaves stale low translations behind, because its leaves are global', () => {
    let staleWord = 0
    let ownWord = 0
    const trace = play(
      'none/private-efi-pgd/story',
      bootOnly((context) => {
        const [task] = context.kernel.tasks
        const prepared = context.services().getTime()
        context.call(prepared)
        // A process gets memory of its own at an address that the firmware has just used.
        const { touches } = prepared.call!
        const touched = touches.find(
          (touch) => touch.address < 2n ** 47n && touch.access === 'read',
        )
        const address = virt(touched!.address & ~0xfffn)
        task!.mapUserPage(address)
        // copy_from_user(): the process has this page, the TLB still has the firmware's.
        const held = task!.cpu.tlb.peek(address)
        expect(held?.global).toBe(true)
        staleWord = task!.cpu.read32(address)
        task!.cpu.invlpg(address)
        ownWord = task!.cpu.read32(address)
        expect(ownWord).toBe(task!.userPattern)
      }),
    )
    expect(staleWord).not.toBe(ownWord)
    expect(findingOf(trace, 'H9').explanation).toMatch(/global translation/)
  })

  test('in state A faults on an argument in vmalloc space', () => {
    const trace = play('none/private-efi-pgd:state=A/services')
    expect(trace.result.outcome).toBe('fault')
    const finding = findingOf(trace, 'H16')
    expect(finding.access!.address).toMatch(/^0xffffc9/)
    expect(finding.walk).toHaveLength(1)
    expect(finding.walk[0]).toMatchObject({ entry: 'PML4E', index: 402 })
  })

  test('in state B takes the same argument', () => {
    const trace = play('none/private-efi-pgd:state=B/services')
    expect(trace.result.services.filter(({ ok }) => !ok)).toEqual([])
    expect(trace.result.outcome).toBe('ok')
  })
})

describe('global-identity-map', () => {
  test('lets a NULL dereference through while it is active, and not after', () => {
    let caughtAfter = false
    const trace = play(
      'none/global-identity-map/story',
      bootOnly((context) => {
        const prepared = context.services().getTime()
        prepared.call!.enter()
        expect(prepared.call!.dereferenceNull()).toBe(false)
        prepared.call!.execute()
        prepared.call!.leave()
        context.record(prepared)
        try {
          context.kernel.bootCpu.read64(0n)
        } catch (error) {
          caughtAfter = error instanceof PageFault
        }
      }),
    )
    expect(caughtAfter).toBe(true)
    expect(findingOf(trace, 'H6')).toMatchObject({
      access: { kind: 'read', address: '0x0000000000000000' },
    })
  })

  test('serves kexec and kdump as the private table does', () => {
    expect(play('none/global-identity-map/kexec').result.outcome).toBe('ok')
    expect(play('none/global-identity-map/kdump').result.outcome).toBe('ok')
  })

  test('leaves no stale translation, because its leaves are not global', () => {
    const trace = play('none/global-identity-map/services')
    expect(trace.result.findings.map(({ rule }) => rule)).not.toContain('H9')
  })
})

describe('virtual-address-passing', () => {
  test('survives kexec into the same layout: the second kernel maps the regions where the first had them', () => {
    const trace = play('none/virtual-address-passing/kexec')
    expect(answers(trace, 'second kernel')).toEqual(EVERYDAY)
    expect(trace.result.outcome).toBe('ok')
    const maps = trace.events.filter(
      (event) => event.kind === 'call' && event.name === 'SetVirtualAddressMap',
    )
    expect(maps).toHaveLength(1)
  })

  test('declines where the next kernel’s layout has something else at the passed addresses', () => {
    const trace = play('none/virtual-address-passing/kexec-other')
    expect(trace.result.outcome).toBe('refused')
    expect(trace.result.reason).toMatch(/layout of 2\.6\.26/)
  })
})

test('noefi on the command line means that the firmware is never called', () => {
  const trace = play('none/legacy-virtual/story', {
    name: 'story',
    title: 'noefi',
    steps: [
      {
        name: 'boot',
        run: (context) => {
          context.boot({ commandLine: 'noefi' })
          context.call(
            context.services().getVariable('Boot0000', Guid.GLOBAL_VARIABLE, PAGE_SIZE / 4),
          )
        },
      },
    ],
  })
  expect(trace.result.outcome).toBe('refused')
  expect(
    trace.events.filter((event) => event.kind === 'call' && event.era === 'first kernel'),
  ).toEqual([])
})
