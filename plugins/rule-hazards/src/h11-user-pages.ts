import { Cr4, formatAddress, GeneralProtection, PageFault, PageFaultBit } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'
import { descriptorEnd, isRuntime } from '@trapdoor/uefi'

/** Firmware is the supervisor: its pages must be, too, and with LASS they must not be in the low half. */
export const h11UserPages: Rule = {
  id: 'H11',
  title: 'Firmware’s memory is out of bounds for a supervisor',
  severity: 'error',
  advice: 'map firmware without U/S; switch CR4.LASS off around calls that use low addresses',
  sources: [
    'Intel SDM Vol. 3, 4.6 (SMEP, SMAP) and 4.4 "Linear-Address-Space Separation"',
    'Linux 6.19 arch/x86: LASS is switched off around EFI calls',
  ],
  rewindable: true,
  watch: ({ hooks, report, diagnose }) => {
    hooks.tablesInspected.tap('H11', ({ kernel, surveys }) => {
      const regions = kernel.efi?.firmwareMap.filter(isRuntime) ?? []
      for (const survey of surveys.filter(({ usedForCalls }) => usedForCalls)) {
        const range = survey.ranges.find(
          (each) =>
            each.user &&
            regions.some(
              (region) =>
                each.physical < descriptorEnd(region) &&
                region.physicalStart < each.physical + each.bytes,
            ),
        )
        if (range === undefined) continue
        report(kernel, {
          message: `${survey.name} maps runtime memory at ${formatAddress(range.start)} as a user page`,
          explanation:
            'With CR4.SMEP its code cannot be executed by a supervisor, with CR4.SMAP its data not be read, and without both any process could write to it.',
          address: range.start,
          root: survey.root,
          access: range.executable ? 'execute' : 'read',
          actor: 'kernel',
        })
      }
    })
    diagnose(({ error, cpu, call, image = 'the kernel' }) => {
      if (!(error instanceof PageFault) || call === undefined || !reachedUserPage(error)) {
        return undefined
      }
      const executes = error.access === 'execute'
      if (cpu.cpl === 3 || (cpu.cr4 & (executes ? Cr4.SMEP : Cr4.SMAP)) === 0) return undefined
      return {
        message: `${image} ${executes ? 'runs code' : 'touches memory'} at ${formatAddress(error.address)} inside ${call.service}, which is a user page, and CR4.${executes ? 'SMEP' : 'SMAP'} is set`,
        explanation: `Every entry on the way down has U/S set, so that the page is the processes’. ${executes ? 'A supervisor must not fetch instructions there with SMEP.' : 'A supervisor must not read or write there with SMAP, unless EFLAGS.AC is set.'}`,
        actor: 'kernel',
      }
    })
    diagnose(({ error, cpu, call }) => {
      if (!(error instanceof GeneralProtection) || call === undefined) return undefined
      if ((cpu.cr4 & Cr4.LASS) === 0) return undefined
      return {
        message: `${call.service} uses an address in the low half, and CR4.LASS is set`,
        explanation:
          'Linear-address-space separation refuses every access of a supervisor to the low half, before page tables are looked at. What is mapped 1:1 there is out of reach.',
      }
    })
  },
}

/** U/S of a paging-structure entry. */
const USER = 1n << 2n

/** Whether a fault's walk ends at a page that is there, and the user's at every level. */
function reachedUserPage({ errorCode, steps }: PageFault): boolean {
  return (
    (errorCode & PageFaultBit.Present) !== 0 && steps.every(({ value }) => (value & USER) !== 0n)
  )
}
