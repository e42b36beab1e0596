/** What is compared of a kernel: what it was given, what it made of it, how it ended. */
export type Subject =
  | 'e820 map'
  | 'EFI memory map'
  | 'setup_data'
  | 'configuration tables'
  | 'memory attributes table'
  | 'corrected e820 map'
  | 'crash kernel'
  | 'runtime map'
  | 'EFI page tables'
  | 'ending'

/** Where model and machine do not agree. */
export interface Difference {
  readonly subject: Subject
  /** What the kernel did on the observed machine. */
  readonly observed: string
  /** What the model's did. */
  readonly model: string
  /** Physical address of the first byte in question, on either side, where there is one. */
  readonly observedAt?: number | undefined
  readonly modelAt?: number | undefined
  /** Bytes in question. */
  readonly bytes?: number
}
