export const PAGE_BYTES = 4096

/** A page of entries. */
export class Table {
  /** Physical address in bytes. */
  readonly address: number
  /** 1 for a page table, 2 for a page directory, and so on up. */
  readonly level: number
  readonly entryBytes: 4 | 8
  readonly bytes: Buffer = Buffer.alloc(PAGE_BYTES)

  constructor(address: number, level: number, entryBytes: 4 | 8) {
    this.address = address
    this.level = level
    this.entryBytes = entryBytes
  }

  /** Physical address of an entry. */
  addressOf(index: number): number {
    return this.address + index * this.entryBytes
  }

  entry(index: number): bigint {
    const at = index * this.entryBytes
    return this.entryBytes === 8
      ? this.bytes.readBigUInt64LE(at)
      : BigInt(this.bytes.readUInt32LE(at))
  }

  setEntry(index: number, value: bigint): void {
    const at = index * this.entryBytes
    if (this.entryBytes === 8) this.bytes.writeBigUInt64LE(value, at)
    else this.bytes.writeUInt32LE(Number(value), at)
  }
}
