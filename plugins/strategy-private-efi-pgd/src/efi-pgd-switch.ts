import type { PageTableBuilder } from '@trapdoor/core'
import {
  callersLock,
  isServiceOf2635,
  type Kernel,
  type KernelVariable,
  type PageTableStrategy,
  reserveBootServices,
  restoreXmm,
  type RuntimeCall,
} from '@trapdoor/kernel'
import { MemoryType, type RuntimeServiceName } from '@trapdoor/uefi'

/** What the patch does around a call: interrupts off, and its own page table in CR3. */
export class EfiPgdSwitch implements PageTableStrategy {
  readonly #fill: (kernel: Kernel, efiPgd: PageTableBuilder) => void
  readonly #clonesAgain: boolean
  readonly #perCpuSaveArea: boolean
  readonly #reservesBootServices: boolean
  #efiPgd: PageTableBuilder | undefined
  #saveCr3: KernelVariable | undefined
  #efiFlags: KernelVariable | undefined

  /** `fill` is efi_pagetable_init(), which gets an empty root. With `clonesAgain` there is a notifier for memory that is added. */
  constructor(
    fill: (kernel: Kernel, efiPgd: PageTableBuilder) => void,
    options: {
      readonly perCpuSaveArea: boolean
      readonly clonesAgain?: boolean
      /** Boot services are reserved, and never given back: nothing of physical mode calls efi_free_boot_services(). */
      readonly reservesBootServices?: boolean
    },
  ) {
    this.#fill = fill
    this.#clonesAgain = options.clonesAgain === true
    this.#perCpuSaveArea = options.perCpuSaveArea
    this.#reservesBootServices = options.reservesBootServices === true
  }

  get earlyExecutableTypes(): readonly number[] | undefined {
    return this.#reservesBootServices
      ? [MemoryType.RuntimeServicesCode, MemoryType.BootServicesCode]
      : undefined
  }

  /** efi_reserve_boot_services(), as 3.0 has it. */
  reserve(kernel: Kernel): void {
    if (!this.#reservesBootServices) return
    const efi = kernel.requireEfi
    efi.memoryMap = reserveBootServices(kernel, efi.memoryMap, 'forget')
  }

  /** The patch has none of its own: callers' locks, which differ for variables and the clock. */
  lockOf(service: RuntimeServiceName): string | undefined {
    return callersLock(service, 'efivars_lock')
  }

  /** The nine callbacks of efi_setup_physical_mode(). */
  offers(_: Kernel, service: RuntimeServiceName): boolean {
    return isServiceOf2635(service)
  }

  /** efi_setup_physical_mode(). */
  setup(kernel: Kernel): void {
    const efiPgd = kernel.staticPageTable('efi_pgd')
    this.#fill(kernel, efiPgd)
    this.#efiPgd = efiPgd
    this.#saveCr3 = kernel.variable({ perCpu: this.#perCpuSaveArea })
    this.#efiFlags = kernel.variable({ perCpu: this.#perCpuSaveArea })
  }

  /** The notifier that clones the kernel's half again (of priority 3, before those that use the memory). */
  memoryGoingOnline({ tables }: Kernel): void {
    if (this.#clonesAgain) tables.copyKernelHalf(this.#efiPgd!)
  }

  /** efi_call_phys_prelog_in_physmode(). */
  enter({ cpu }: RuntimeCall): void {
    this.#efiFlags!.write(cpu, cpu.interruptFlag ? 1n : 0n)
    cpu.interruptFlag = false
    this.#saveCr3!.write(cpu, BigInt(cpu.cr3))
    cpu.writeCr3(this.#efiPgd!.root)
  }

  /** efi_call_phys_epilog_in_physmode(): nothing but CR3 and IF; what the leaves' G bit keeps in the TLB stays there. */
  leave(call: RuntimeCall): void {
    const { cpu } = call
    restoreXmm(call)
    cpu.writeCr3(Number(this.#saveCr3!.read(cpu)))
    cpu.interruptFlag = this.#efiFlags!.read(cpu) !== 0n
  }
}

/** The option that says where {@link EfiPgdSwitch} keeps what it saves. */
export const SAVE_AREA = {
  title: 'where CR3 and IF are kept during a call',
  values: ['perCpu', 'static'],
  default: 'perCpu',
} as const
