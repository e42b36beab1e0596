import { type FrameOwner, type Machine, PAGE_SIZE, type PhysicalMemory } from '@trapdoor/core'
import type { Kernel } from '../kernel.ts'
import { isLinux } from '../linux-version.ts'
import { type E820Entry, ramRanges } from '../memory/e820.ts'
import { resumeBootCpu } from './suspend.ts'

/** The Linux release that compares memory maps before it restores an image (hibernation_e820_save(), commit 62a03defeabd). */
const CHECKS_MAP_SINCE = '4.10'

/**
 * Comes back from hibernation (ACPI S4): `kernel` was saved with all its RAM, the machine was switched off and on, and another kernel booted on `booted` and restores the
 * image there. What is not RAM in the image's memory map is as the new boot left it; all else is as it was. Returns false, with nothing changed, where the kernel sees
 * another memory map than its own and throws the image away.
 */
export function restoreImage(kernel: Kernel, booted: Kernel): boolean {
  if (isLinux(kernel, CHECKS_MAP_SINCE) && !sameMap(kernel.e820, booted.e820)) {
    booted.print('PM: Image mismatch: memory map')
    return false
  }
  kernel.machine.log.continueFrom(booted.machine.log)
  takeOver(kernel, booted.machine)
  kernel.restoredMap = booted.efi?.firmwareMap
  resumeBootCpu(kernel)
  kernel.print('PM: Image restored')
  return true
}

/** Everything that firmware has on either machine, but for the image's own RAM, is as on the machine that has just booted. */
function takeOver({ machine, e820 }: Kernel, { memory: from }: Machine): void {
  const { memory } = machine
  const before = firmwareOutside(memory, e820)
  const now = firmwareOutside(from, e820)
  for (const { start, end } of before) memory.owners.set(start, end, undefined)
  for (const { start, end, owner } of now) memory.owners.set(start, end, owner)
  for (const { start, end } of [...before, ...now]) {
    memory.copyFrames(from, start, end - start, start)
  }
}

interface OwnedFrames {
  readonly start: number
  readonly end: number
  readonly owner: FrameOwner
}

/** What firmware has of a memory outside the RAM of a memory map, in frames; ends are exclusive. */
function firmwareOutside(memory: PhysicalMemory, e820: readonly E820Entry[]): OwnedFrames[] {
  const pieces: OwnedFrames[] = []
  for (const { start, end, owner } of memory.owners.intervals()) {
    if (owner.kind !== 'firmware') continue
    let from = start
    for (const ram of ramRanges(e820)) {
      const first = Math.min(Math.max(ram.start / PAGE_SIZE, from), end)
      if (from < first) pieces.push({ start: from, end: first, owner })
      from = Math.min(Math.max(from, ram.end / PAGE_SIZE), end)
    }
    if (from < end) pieces.push({ start: from, end, owner })
  }
  return pieces
}

function sameMap(one: readonly E820Entry[], other: readonly E820Entry[]): boolean {
  return (
    one.length === other.length &&
    one.every(({ start, end, type }, index) => {
      const entry = other[index]!
      return entry.start === start && entry.end === end && entry.type === type
    })
  )
}
