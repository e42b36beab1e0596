import { highHalf, lowHalf } from '../halves.ts'
import type { PhysicalMemory } from '../memory/physical-memory.ts'
import type { TableChange, TableJournal } from '../memory/table-journal.ts'
import { Entry } from '../paging/entry.ts'
import { type WalkStep, walkSteps } from '../paging/inspect.ts'
import { PAGING_OFF, type PagingMode } from '../paging/mode.ts'
import type { PdpteRegisters } from '../paging/pdpte-registers.ts'
import { PageWalker, WalkStatus } from '../paging/walk.ts'
import type { Rewind } from '../rewind.ts'
import { type CpuCounters, zeroCounters } from './counters.ts'
import type { CpuFeatures } from './features.ts'
import {
  pageFaultCode,
  PERMISSION_WORDS,
  type PermissionControls,
  permissionTable,
  violationCode,
  WRITE_KINDS,
} from './permission.ts'
import { type CachedStructure, StructureCaches } from './structure-caches.ts'
import { Tlb } from './tlb.ts'

/** What {@link Mmu.translate} returns for a page fault. */
export const FAULT = -1

/** What a memory-management unit leaves to the processor's designer, and how closely it watches. */
export interface MmuPolicy {
  /**
   * When the accessed flags above a fault are set: `lazy` (the default) for accesses that succeed only, as Bochs has it; `eager` as the walk goes
   * down, as QEMU has it. The SDM allows both (Vol. 3, 4.8).
   */
  readonly accessedFlags: 'lazy' | 'eager'
  /** Whether walks may start from paging-structure caches. Default true. */
  readonly structureCaches: boolean
  /** Whether translations are compared with the page tables when these have changed, which makes events of stale ones. Default true. */
  readonly auditTranslations: boolean
}

/** What a translation is now, by the page tables. */
export interface CurrentTranslation {
  readonly status: WalkStatus
  readonly frame: number
  readonly rights: number
}

/** A translation that is held though the page tables no longer give it. */
export interface StaleEntry {
  readonly high: number
  readonly low: number
  readonly held: CurrentTranslation
  readonly now: CurrentTranslation
  /** The last change on the way that the tables lead now, since the translation was cached. */
  readonly change: TableChange | undefined
}

/** A translation that was used though the page tables no longer give it. */
export interface StaleUse extends StaleEntry {
  readonly kind: number
  readonly via: 'TLB' | 'paging-structure cache'
}

/** The registers that a translation depends on. */
export interface MmuRegisters {
  readonly mode: PagingMode
  /** Frame of the root table, or ROOT_IN_REGISTERS. */
  readonly root: number
  /** The current process-context identifier, 0 where CR4.PCIDE is clear. */
  readonly pcid: number
  /** In PAE paging. */
  readonly pdptes: PdpteRegisters | undefined
  /** CR4.PGE. */
  readonly globalPages: boolean
  readonly controls: PermissionControls
}

/** Epoch of an entry whose staleness was reported: it is not compared again. */
const REPORTED = -1

/**
 * A processor's memory-management unit: TLB, paging-structure caches, page walk, permissions. It works on 32-bit halves and returns faults instead
 * of throwing them: this is the entrance for those who count nanoseconds. It knows neither canonical addresses nor LASS, which are checked before
 * an address gets here.
 */
export class Mmu {
  readonly tlb: Tlb = new Tlb()
  readonly counters: CpuCounters = zeroCounters()
  /** Error code of the page fault that the last {@link translate} ended in. */
  errorCode = 0
  /** Told of each use of a stale translation. */
  onStaleUse: ((use: StaleUse) => void) | undefined
  /** Told whenever a translation may be another than it was, or is no longer held: a register that counts was written, something was dropped from the caches. */
  onChange: (() => void) | undefined
  /** Told whenever the translations of the page around an address, whatever its size, may be held no longer. */
  onDrop: ((high: number, low: number) => void) | undefined

  readonly #memory: PhysicalMemory
  readonly #journal: TableJournal
  readonly #features: CpuFeatures
  readonly #policy: MmuPolicy
  readonly #caches: StructureCaches = new StructureCaches()
  #mode: PagingMode = PAGING_OFF
  #noExecute = false
  #pdptes: PdpteRegisters | undefined
  #walker: PageWalker
  /** Walks for comparisons, so that the walker's last walk stays. */
  #auditor: PageWalker | undefined
  #controls: PermissionControls | undefined
  #permissions: Int32Array = new Int32Array(0)
  #root = 0
  /** The last root of each context. */
  #roots: Map<number, number> = new Map()
  #pcid = 0
  #globalPages = false
  /** Whether the last fault was decided by the TLB alone. */
  #faultFromTlb = false
  /** Where the last walk started: in the middle, with what a paging-structure cache held, or at the root. */
  #start: CachedStructure | undefined
  #startDepth = 0

  constructor(memory: PhysicalMemory, features: CpuFeatures, policy: MmuPolicy) {
    this.#memory = memory
    this.#journal = memory.tables
    this.#features = features
    this.#policy = policy
    this.#walker = this.#newWalker()
  }

  /** Remembers what is configured, counted and cached at this moment. */
  checkpoint(): Rewind {
    const mode = this.#mode
    const noExecute = this.#noExecute
    const pdptes = this.#pdptes
    const walker = this.#walker
    const auditor = this.#auditor
    const controls = this.#controls
    const permissions = this.#permissions
    const root = this.#root
    const roots = new Map(this.#roots)
    const pcid = this.#pcid
    const globalPages = this.#globalPages
    const counters = { ...this.counters }
    const rewindTlb = this.tlb.checkpoint()
    const rewindCaches = this.#caches.checkpoint()
    return () => {
      this.#mode = mode
      this.#noExecute = noExecute
      this.#pdptes = pdptes
      this.#walker = walker
      this.#auditor = auditor
      this.#controls = controls
      this.#permissions = permissions
      this.#root = root
      this.#roots = new Map(roots)
      this.#pcid = pcid
      this.#globalPages = globalPages
      Object.assign(this.counters, counters)
      rewindTlb()
      rewindCaches()
    }
  }

  /** Takes over what the registers say. What they drop from the caches is dropped by the flushes below. */
  configure(registers: MmuRegisters): void {
    const { mode, controls } = registers
    const walksDiffer =
      mode !== this.#mode ||
      controls.noExecute !== this.#noExecute ||
      registers.pdptes !== this.#pdptes
    this.#globalPages = registers.globalPages
    this.selectRoot(registers.root, registers.pcid)
    if (controls !== this.#controls) {
      this.#controls = controls
      this.#permissions = permissionTable(controls)
    }
    if (!walksDiffer) return
    this.#mode = mode
    this.#noExecute = controls.noExecute
    this.#pdptes = registers.pdptes
    this.#walker = this.#newWalker()
    this.#auditor = undefined
  }

  /** Loads a root and a context, which is all that most writes to CR3 change. */
  selectRoot(root: number, pcid: number): void {
    this.onChange?.()
    this.#root = root
    this.#roots.set(pcid, root)
    if (pcid === this.#pcid) return
    this.#pcid = pcid
    this.tlb.selectContext(pcid)
  }

  /**
   * The frame that an access reaches, or {@link FAULT}: `high` and `low` are the signed halves of a linear address, `kind` is an AccessKind.
   * Sets accessed and dirty flags and fills the caches as the access would.
   */
  translate(high: number, low: number, kind: number): number {
    const { tlb } = this
    if (tlb.find(high, low)) {
      if (tlb.epoch !== this.#journal.epoch) this.#auditTlb(high, low, kind)
      const { rights } = tlb
      // Four words a kind, and the kinds that write as bits: numbers, as V8 would look an imported constant up each time.
      if ((this.#permissions[(kind << 2) | (rights >>> 5)]! & (1 << rights)) === 0) {
        this.#faultFromTlb = true
        return this.#fault(high, low, violationCode(kind, rights, this.#controls!))
      }
      if (tlb.dirty || ((0x92 >>> kind) & 1) === 0) {
        this.counters.tlbHits++
        return tlb.frame
      }
    }
    return this.#walk(high, low, kind)
  }

  /** The entries that the walk of the last fault read, or that it would have read without a paging-structure cache; none where the TLB alone refused. */
  faultSteps(high: number, low: number): WalkStep[] {
    if (this.#faultFromTlb) return []
    this.#walker.walk(this.#root, high, low)
    return walkSteps(this.#walker, high, low)
  }

  /** What the page tables give for an address now, from a root (default: the current one), whatever the caches hold. Changes nothing. */
  lookUp(high: number, low: number, root: number = this.#root): CurrentTranslation {
    this.#auditor ??= this.#newWalker()
    const auditor = this.#auditor
    const status = auditor.walk(root, high, low)
    return status === WalkStatus.Mapped
      ? { status, frame: auditor.frame, rights: auditor.rights }
      : { status, frame: 0, rights: 0 }
  }

  /** The frame that the TLB holds for an address, or that the page tables give; {@link FAULT} where there is none. Changes nothing. */
  peekFrame(address: bigint): number {
    const held = this.tlb.peek(address)
    if (held !== undefined) return held.frame
    const low = lowHalf(address)
    if (this.#mode === PAGING_OFF) return low >>> 12
    const now = this.lookUp(highHalf(address), low)
    return now.status === WalkStatus.Mapped ? now.frame : FAULT
  }

  /** The last change, since `epoch`, of the entries that the tables lead through now. */
  lastChange(high: number, low: number, epoch: number, root?: number): TableChange | undefined {
    this.lookUp(high, low, root)
    let last: TableChange | undefined
    for (const { table, index } of this.#auditor!.path(high, low)) {
      const word = ((table % 4096) + index * this.#mode.entryBytes) >>> 2
      const frame = Math.floor(table / 4096)
      for (let at = word; at < word + this.#mode.entryBytes / 4; at++) {
        const change = this.#journal.lastChange(frame, at, epoch)
        if (change !== undefined && change.epoch > (last?.epoch ?? 0)) last = change
      }
    }
    return last
  }

  /** The translations of the TLB that the page tables no longer give. */
  staleEntries(): StaleEntry[] {
    const stale: StaleEntry[] = []
    for (const { page, pcid, frame, rights, epoch } of this.tlb.held()) {
      const root = pcid === undefined ? this.#root : this.#roots.get(pcid)
      if (root === undefined) continue
      const high = Math.floor(page / 0x10_0000) | 0
      const low = (page % 0x10_0000) << 12
      const now = this.lookUp(high, low, root)
      if (now.status === WalkStatus.Mapped && now.frame === frame && now.rights === rights) continue
      const held = { status: WalkStatus.Mapped, frame, rights }
      stale.push({ high, low, held, now, change: this.lastChange(high, low, epoch, root) })
    }
    return stale
  }

  /** INVLPG: one page of the current context and global ones, and the paging-structure caches of the context whatever the address. */
  invalidatePage(address: bigint): void {
    const high = Number(BigInt.asIntN(32, address >> 32n))
    const low = Number(BigInt.asIntN(32, address))
    this.onDrop?.(high, low)
    this.tlb.invalidateHalves(high, low)
    this.#caches.flushContext(this.#pcid)
  }

  /** INVPCID type 0: one page of one context, without global translations. */
  invalidatePageOf(pcid: number, address: bigint): void {
    this.onDrop?.(Number(BigInt.asIntN(32, address >> 32n)), Number(BigInt.asIntN(32, address)))
    this.tlb.invalidatePageOf(pcid, address)
    this.#caches.flushContext(pcid)
  }

  /** MOV to CR3, INVPCID type 1: one context without global translations. */
  flushContext(pcid: number): void {
    this.onChange?.()
    this.tlb.flushContext(pcid)
    this.#caches.flushContext(pcid)
  }

  /** A change of CR4.PAE, SMEP set: one context and the global translations. */
  flushContextAndGlobal(pcid: number): void {
    this.flushContext(pcid)
    this.tlb.flushGlobal()
  }

  /** INVPCID type 3: all contexts without global translations. */
  flushNonGlobal(): void {
    this.onChange?.()
    this.tlb.flushNonGlobal()
    this.#caches.flushAll()
  }

  /** CR0.PG cleared, CR4.PGE changed, CR4.PCIDE cleared, INVPCID type 2: everything. */
  flushAll(): void {
    this.onChange?.()
    this.tlb.flushAll()
    this.#caches.flushAll()
  }

  #walk(high: number, low: number, kind: number): number {
    if (this.#mode === PAGING_OFF) return low >>> 12
    const walker = this.#walker
    const write = ((WRITE_KINDS >>> kind) & 1) !== 0
    const { counters } = this
    counters.tlbMisses++
    const status = this.#startWalk(high, low, kind)
    if (status !== WalkStatus.Mapped) {
      if (this.#policy.accessedFlags === 'eager') walker.markTraversed(high, low)
      // Reserved bits are looked at in present entries only, so that such a fault has P set too (SDM Vol. 3, 4.7).
      const isReserved = status === WalkStatus.ReservedBit
      this.#faultFromTlb = false
      return this.#fault(high, low, pageFaultCode(kind, isReserved, isReserved, this.#controls!))
    }
    const allowed = this.#permissions[kind * PERMISSION_WORDS + (walker.rights >>> 5)]!
    if ((allowed & (1 << walker.rights)) === 0) {
      if (this.#policy.accessedFlags === 'eager') walker.markTraversed(high, low)
      this.#faultFromTlb = false
      return this.#fault(high, low, violationCode(kind, walker.rights, this.#controls!))
    }
    walker.markUsed(high, low, write)
    const { frame } = walker
    if (this.#policy.structureCaches) this.#keepStructures(high, low)
    else if (this.#policy.auditTranslations) this.#watchPath(high, low)
    this.tlb.insert(high, low, {
      frame,
      rights: walker.rights,
      dirty: write || (walker.leafLow & Entry.Dirty) !== 0,
      global: (walker.leafLow & Entry.Global) !== 0 && this.#globalPages,
      pageFrames: walker.pageFrames,
      patIndex: walker.patIndex,
      epoch: this.#journal.epoch,
    })
    return frame
  }

  /** Walks from the deepest table that the paging-structure caches know, or from the root. */
  #startWalk(high: number, low: number, kind: number): WalkStatus {
    const walker = this.#walker
    if (this.#policy.structureCaches) {
      const { levels, rootInRegisters } = this.#mode
      for (let depth = levels.length - 2; depth >= (rootInRegisters ? 1 : 0); depth--) {
        const cached = this.#caches.find(this.#pcid, depth, levels[depth]!.shift, high, low)
        if (cached === undefined) continue
        const { table, common, noExecute } = cached
        const status = walker.walk(table, high, low, depth + 1, common, noExecute)
        this.counters.walkReferences += walker.depth - depth
        this.#start = cached
        this.#startDepth = depth + 1
        if (cached.epoch !== this.#journal.epoch) this.#auditWalk(high, low, kind, status)
        return status
      }
    }
    this.#start = undefined
    this.#startDepth = 0
    const status = walker.walk(this.#root, high, low)
    this.counters.walkReferences += walker.depth + 1
    return status
  }

  /** Caches what the walk that has just succeeded passed through, all of it accessed by now. */
  #keepStructures(high: number, low: number): void {
    const walker = this.#walker
    const { levels, rootInRegisters } = this.#mode
    if (walker.depth === this.#startDepth) return
    let common = this.#start?.common ?? -1
    let noExecute = this.#start?.noExecute ?? 0
    const path = walker.path(high, low)
    for (let at = 0; at < path.length; at++) {
      const entry = path[at]!
      if (this.#policy.auditTranslations) this.#memory.watchTable(Math.floor(entry.table / 4096))
      const next = path[at + 1]
      if (next === undefined) break
      if (rootInRegisters && entry.depth === 0) continue
      common &= entry.low
      noExecute |= entry.high
      this.#caches.insert(this.#pcid, entry.depth, levels[entry.depth]!.shift, high, low, {
        table: Math.floor(next.table / 4096),
        common,
        noExecute,
        epoch: this.#journal.epoch,
      })
    }
  }

  #watchPath(high: number, low: number): void {
    for (const { table } of this.#walker.path(high, low))
      this.#memory.watchTable(Math.floor(table / 4096))
  }

  /** A page fault takes along what the caches hold for its address (SDM Vol. 3, 4.10.4.1). */
  #fault(high: number, low: number, errorCode: number): number {
    this.errorCode = errorCode
    this.onDrop?.(high, low)
    this.tlb.invalidateHalves(high, low)
    const { levels } = this.#mode
    for (let depth = 0; depth < levels.length - 1; depth++) {
      this.#caches.drop(this.#pcid, depth, levels[depth]!.shift, high, low)
    }
    return FAULT
  }

  #auditTlb(high: number, low: number, kind: number): void {
    const { tlb } = this
    if (tlb.epoch === REPORTED) return
    const now = this.lookUp(high, low)
    const isStale =
      now.status !== WalkStatus.Mapped || now.frame !== tlb.frame || now.rights !== tlb.rights
    if (isStale) {
      const held = { status: WalkStatus.Mapped, frame: tlb.frame, rights: tlb.rights }
      const change = this.lastChange(high, low, tlb.epoch)
      this.onStaleUse?.({ high, low, kind, via: 'TLB', held, now, change })
    }
    tlb.markChecked(high, low, isStale ? REPORTED : this.#journal.epoch)
  }

  /** Compares a walk that started from a paging-structure cache with one from the root. */
  #auditWalk(high: number, low: number, kind: number, status: WalkStatus): void {
    const start = this.#start!
    const now = this.lookUp(high, low)
    if (this.#isCurrent(start, this.#startDepth, high, low)) {
      start.epoch = this.#journal.epoch
      return
    }
    const walker = this.#walker
    const held =
      status === WalkStatus.Mapped
        ? { status, frame: walker.frame, rights: walker.rights }
        : { status, frame: 0, rights: 0 }
    if (held.status === now.status && held.frame === now.frame && held.rights === now.rights) return
    const change = this.lastChange(high, low, start.epoch)
    this.onStaleUse?.({ high, low, kind, via: 'paging-structure cache', held, now, change })
  }

  /** Whether the entries above `depth` that the auditor has just walked still lead to what was cached. */
  #isCurrent(cached: CachedStructure, depth: number, high: number, low: number): boolean {
    let common = -1
    let noExecute = 0
    for (const entry of this.#auditor!.path(high, low)) {
      if (entry.depth === depth) {
        const grants = (Entry.Writable | Entry.User) & (common ^ cached.common)
        return (
          entry.table === cached.table * 4096 &&
          grants === 0 &&
          noExecute < 0 === cached.noExecute < 0
        )
      }
      if (this.#mode.rootInRegisters && entry.depth === 0) continue
      common &= entry.low
      noExecute |= entry.high
    }
    return false
  }

  #newWalker(): PageWalker {
    return new PageWalker(
      this.#memory,
      this.#mode,
      this.#features,
      this.#noExecute,
      this.#mode.rootInRegisters ? this.#pdptes : undefined,
    )
  }
}
