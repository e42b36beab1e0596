import type { FormBits } from './form.ts'

/** Bytes that hold code, and where it is known to begin. */
export interface CodeImage {
  readonly name: string
  readonly ranges: readonly CodeRange[]
  /** Addresses of code, such as an entry point, with the mode that it runs in. */
  readonly roots: readonly CodeRoot[]
  /** Addresses that may be code or data: what pointers point to. */
  readonly candidates: readonly number[]
}

/** Executable bytes from an address on. */
export interface CodeRange {
  readonly address: number
  readonly bytes: Uint8Array
}

export interface CodeRoot {
  readonly address: number
  readonly bits: FormBits
  /** Bytes of the function, all of which are code, where that is known: what a jump table leads to is found so. */
  readonly size?: number
}
