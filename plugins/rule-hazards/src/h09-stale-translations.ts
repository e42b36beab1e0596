import { formatAddress, inspectAddress } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'

/** After a call, what the TLB says of an address must be what the page tables say. */
export const h09StaleTranslations: Rule = {
  id: 'H9',
  title: 'Translations of the firmware’s tables stay usable after the call',
  severity: 'warning',
  advice: 'make the leaves non-global, or flush global entries (CR4.PGE, INVPCID) on the way out',
  sources: [
    'Intel SDM Vol. 3, 4.10.4.1: MOV to CR3 does not invalidate global translations',
    'RHEL 6 kernel, arch/x86/kernel/efi_64.c: efi_call_phys_epilog_in_physmode()',
  ],
  rewindable: true,
  watch: ({ hooks, report }) => {
    hooks.callReturned.tap('H9', (call) => {
      const { cpu, kernel } = call
      const pages = new Set<number>()
      for (const { address } of call.touches) {
        const page = Number(address >> 12n)
        if (pages.has(page)) continue
        pages.add(page)
        const held = cpu.tlb.peek(address)
        if (held === undefined) continue
        const now = cpu.lookUp(address)
        if (now?.frame === held.frame) continue
        // A part of the kernel that the tables lack is H16's.
        if (now === undefined && address >= kernel.tables.kernelHalfStart) continue
        report(kernel, {
          message: `inside ${call.service} CPU ${cpu.id} translates ${formatAddress(address)} by what other tables say`,
          explanation: `The TLB holds ${formatAddress(address)} → ${formatAddress(held.frame * 4096)}${held.global ? ' as a global translation' : ''}, which was not flushed on the way into the call; its page tables ${now === undefined ? 'have nothing there' : `have ${formatAddress(now.frame * 4096)} there`}. The firmware reads and writes somebody else’s memory.`,
          outcome: 'corrupt',
          call,
          address,
          access: 'read',
          physical: held.frame * 4096,
        })
        return
      }
    })
    hooks.callLeft.tap('H9', (call) => {
      const { cpu } = call
      if (cpu.cr3 !== call.before.cr3) return
      const pages = new Set<number>()
      for (const { address } of call.touches) {
        const page = Number(address >> 12n)
        if (pages.has(page)) continue
        pages.add(page)
        const held = cpu.tlb.peek(address)
        if (held === undefined) continue
        if (cpu.lookUp(address)?.frame === held.frame) continue
        const said = inspectAddress(cpu.translationContext(), address)
        const tables =
          said.status === 'mapped'
            ? `map it to ${formatAddress(said.physical)}`
            : `have nothing there (${said.status})`
        report(call.kernel, {
          message: `after ${call.service} CPU ${cpu.id} still translates ${formatAddress(address)}, which its page tables do not map`,
          explanation: `The TLB holds ${formatAddress(address)} → ${formatAddress(held.frame * 4096)}${held.global ? ' as a global translation, which a write to CR3 leaves alone' : ''}; the page tables that are loaded ${tables}. A process on this CPU that has memory at this address reaches the firmware’s instead, and a stray kernel pointer there goes unnoticed.`,
          call,
          address,
          access: 'read',
          physical: held.frame * 4096,
          actor: 'kernel',
        })
        return
      }
    })
  },
}
