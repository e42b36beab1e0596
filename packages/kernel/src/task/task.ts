import {
  MXCSR_AT_RESET,
  type Cpu,
  PAGE_SIZE,
  type PageTableBuilder,
  phys,
  type PhysicalAddress,
  type Rewind,
  type VirtualAddress,
} from '@trapdoor/core'
import { KernelError } from '../error.ts'
import type { Kernel } from '../kernel.ts'
import { isLinux } from '../linux-version.ts'
import { kernelAddress } from '../memory/layout.ts'
import { isPageTableIsolated, poisonUserEntries } from '../memory/page-table-isolation.ts'

/** Where a kernel keeps what it passes to the firmware. */
export type ArgumentPlace = 'stack' | 'kmalloc' | 'module' | 'vmalloc'

/** THREAD_SIZE of x86-64, in pages: of Linux before 3.15, and from then on (commit 6538b8ea886e). */
const STACK_PAGES = { small: 2, large: 4 } as const
/** Where every process has a page of its own, as an ELF binary's first page. */
const USER_PAGE: VirtualAddress = kernelAddress(0x40_0000n)

/** alloc_thread_stack_node(). Returns the stack's top, and the first address of the page below that is not mapped, where there is one. */
function allocateStack(kernel: Kernel): {
  readonly top: VirtualAddress
  readonly guardPage: bigint | undefined
} {
  const { tables } = kernel
  const pages = isLinux(kernel, '3.15') ? STACK_PAGES.large : STACK_PAGES.small
  const stack = kernel.allocatePages('task stack', pages)
  const bytes = pages * PAGE_SIZE
  if (!isLinux(kernel, '4.9')) {
    return { top: tables.directMapAddress(stack + bytes), guardPage: undefined }
  }
  const start = tables.reserveVmalloc(bytes)
  tables.swapper.mapRange(start, stack, bytes, { global: true })
  return { top: kernelAddress(start + BigInt(bytes)), guardPage: start - BigInt(PAGE_SIZE) }
}

/** A process that runs on a CPU: page tables with its own low half and the kernel's upper half, a kernel stack, a page of its own. */
export class Task {
  readonly cpu: Cpu
  readonly name: string
  readonly tables: PageTableBuilder
  /** Top of the kernel stack: in the direct map, from Linux 4.9 on in vmalloc space, where a page that is not mapped lies below (CONFIG_VMAP_STACK). */
  readonly stackTop: VirtualAddress
  readonly #guardPage: bigint | undefined
  readonly #kernel: Kernel
  /** Of the task's floating-point state what SSE rounds by; a new process has the initial one. */
  readonly #mxcsr = MXCSR_AT_RESET

  /** fork() and exec(): clones the kernel's root entries of this moment. */
  constructor(kernel: Kernel, cpu: Cpu) {
    this.#kernel = kernel
    this.cpu = cpu
    this.name = `task ${cpu.id}`
    this.tables = kernel.newPageTable(`mm of ${this.name}`)
    const stack = allocateStack(kernel)
    this.stackTop = stack.top
    this.#guardPage = stack.guardPage
    kernel.tables.copyKernelHalf(this.tables)
    this.mapUserPage(USER_PAGE, { executable: true })
  }

  /** mmap() of one page at `address`, filled with the task's number; returns its physical address. */
  mapUserPage(
    address: VirtualAddress,
    { executable = false }: { readonly executable?: boolean } = {},
  ): PhysicalAddress {
    const frame = this.#kernel.allocatePages(`user memory of ${this.name}`, 1)
    this.#kernel.machine.memory.fill(frame, frame + PAGE_SIZE, this.userPattern)
    this.tables.mapRange(address, phys(frame), PAGE_SIZE, { user: true, executable })
    if (isPageTableIsolated(this.#kernel)) {
      poisonUserEntries(this.tables, this.#kernel.tables.kernelHalf.first)
    }
    return frame
  }

  /** get_stack_guard_info(): whether an address is in the page below the stack that is not mapped. */
  isStackGuard(address: bigint): boolean {
    const page = this.#guardPage
    return page !== undefined && address >= page && address < page + BigInt(PAGE_SIZE)
  }

  /** Where the page of the process is. */
  get userPage(): VirtualAddress {
    return USER_PAGE
  }

  /** The 32-bit word that fills this task's memory and its vector registers. */
  get userPattern(): number {
    return 0x7a5c_0000 + this.cpu.id
  }

  /** switch_to(): the task runs on its CPU, with its floating-point state. */
  switchTo(): void {
    this.cpu.writeCr3(this.tables.root)
    this.cpu.rsp = this.stackTop - 256n
    this.cpu.mxcsr = this.#mxcsr
    this.cpu.floatingPoint.xmm.fill(this.userPattern)
  }
}

/** sync_global_pgds(): processes get the entries of the kernel's half of `swapper_pg_dir` that were made after they were. */
export function syncGlobalPgds(kernel: Kernel): void {
  for (const { tables } of kernel.tasks) kernel.tables.copyKernelHalf(tables)
}

function noRoom(place: ArgumentPlace, bytes: number): KernelError {
  return new KernelError('KERNEL_NO_ROOM', {
    expected: `arguments that fit the ${place} area of a CPU`,
    found: `${bytes} bytes more`,
    hint: 'ask for a smaller buffer, or end the call before',
  })
}

/** Pages of an {@link ArgumentArea} in each place, vmalloc space apart. */
const AREA_PAGES = 4
/** Bytes of a caller's frame that are no arguments. */
const OTHER_LOCALS = 1024
/** Pages of vmalloc space that come round: lazily freed areas are not reused before a flush (mm/vmalloc.c). */
const VMALLOC_PAGES = 64

/** A CPU's memory for arguments, one area for each place. A call takes from it and gives all back when it ends. */
export class ArgumentArea {
  /** The CPU's number. */
  readonly cpu: number
  readonly #starts: Record<Exclude<ArgumentPlace, 'stack'>, VirtualAddress>
  readonly #used: Map<ArgumentPlace, number> = new Map()
  readonly #kernel: Kernel
  #vmallocPage = 0

  /** Allocates what the places need. `cpu` is the CPU's number. */
  constructor(kernel: Kernel, cpu: number) {
    this.#kernel = kernel
    this.cpu = cpu
    const { tables } = kernel
    this.#starts = {
      vmalloc: this.#mapVmalloc(),
      module: this.#mapModule(tables.layout.modulesStart),
      kmalloc: tables.directMapAddress(kernel.allocatePages('kmalloc buffer', AREA_PAGES)),
    }
  }

  /** Remembers where the places are, and what is taken of them at this moment. */
  checkpoint(): Rewind {
    const starts = { ...this.#starts }
    const used = [...this.#used]
    const vmallocPage = this.#vmallocPage
    return () => {
      Object.assign(this.#starts, starts)
      this.#used.clear()
      for (const [place, bytes] of used) this.#used.set(place, bytes)
      this.#vmallocPage = vmallocPage
    }
  }

  /** Bytes of the places but vmalloc space. */
  get bytes(): number {
    return AREA_PAGES * PAGE_SIZE
  }

  /** From now on kmalloc() gives addresses from `start` on. */
  moveTo(place: 'kmalloc', start: VirtualAddress): void {
    this.#starts[place] = start
  }

  /** A new buffer in vmalloc space, where that has grown to, or new module data, by CPU from `modules` on. */
  mapAgain(place: 'vmalloc'): void
  mapAgain(place: 'module', modules: VirtualAddress): void
  mapAgain(place: 'vmalloc' | 'module', modules?: VirtualAddress): void {
    this.#starts[place] = modules === undefined ? this.#mapVmalloc() : this.#mapModule(modules)
  }

  #mapVmalloc(): VirtualAddress {
    const { tables } = this.#kernel
    const bytes = VMALLOC_PAGES * PAGE_SIZE
    const start = tables.reserveVmalloc(bytes)
    const buffer = this.#kernel.allocatePages('vmalloc buffer', VMALLOC_PAGES, {
      highMemory: true,
    })
    tables.swapper.mapRange(start, buffer, bytes, { global: true })
    return start
  }

  #mapModule(modules: VirtualAddress): VirtualAddress {
    const start = kernelAddress(modules + BigInt(this.cpu * this.bytes))
    const data = this.#kernel.allocatePages('module data', AREA_PAGES)
    this.#kernel.tables.swapper.mapRange(start, data, this.bytes, { global: true })
    return start
  }

  /**
   * Address of `bytes` bytes, 16-byte aligned. On the stack they lie below the stack pointer, room for the caller's other locals left between; in vmalloc space each has pages
   * of its own, as every vmalloc() does.
   */
  take(cpu: Cpu, place: ArgumentPlace, bytes: number): VirtualAddress {
    if (place === 'vmalloc') return this.#takeVmalloc(Math.ceil(bytes / PAGE_SIZE))
    const used = this.#used.get(place) ?? 0
    const size = Math.ceil(bytes / 16) * 16
    if (place !== 'stack' && used + size > AREA_PAGES * PAGE_SIZE) throw noRoom(place, bytes)
    this.#used.set(place, used + size)
    if (place === 'stack') return kernelAddress(cpu.rsp - BigInt(this.stackBytes))
    return kernelAddress(this.#starts[place] + BigInt(used))
  }

  /** Bytes of the caller's frame below the stack pointer: a call starts under them. */
  get stackBytes(): number {
    const used = this.#used.get('stack') ?? 0
    return used === 0 ? 0 : OTHER_LOCALS + used
  }

  /** First address of a place other than the stack, for whoever reads there without a call. */
  start(place: Exclude<ArgumentPlace, 'stack'>): VirtualAddress {
    return this.#starts[place]
  }

  /** Gives back all that was taken. */
  release(): void {
    this.#used.clear()
  }

  #takeVmalloc(pages: number): VirtualAddress {
    if (pages > VMALLOC_PAGES) throw noRoom('vmalloc', pages * PAGE_SIZE)
    if (this.#vmallocPage + pages > VMALLOC_PAGES) {
      this.#kernel.tables.flushAll()
      this.#vmallocPage = 0
    }
    const address = this.#starts.vmalloc + BigInt(this.#vmallocPage * PAGE_SIZE)
    this.#vmallocPage += pages
    return kernelAddress(address)
  }
}
