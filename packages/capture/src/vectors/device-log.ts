import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { DeviceAccess } from '@trapdoor/snapshot'
import type { GdbClient } from '../qemu/gdb-client.ts'

const LOG = 'trace.log'

/** QEMU's trace of accesses that devices answer (softmmu/trace-events, 7.2); those of the monitor have no CPU. */
const ACCESS =
  /memory_region_ops_(read|write) cpu \d+ mr \S+ addr (0x[\da-f]+) value (0x[\da-f]+) size (\d+) name '([^']*)'/g

/** The arguments that give QEMU a file for its log. */
export const LOG_ARGUMENTS: readonly string[] = ['-D', LOG]

/** Reads what devices were asked, call by call. */
export class DeviceLogFile {
  readonly #file: string
  #read = 0

  constructor(directory: string) {
    this.#file = join(directory, LOG)
  }

  /** Begins with the log. */
  async start(gdb: GdbClient): Promise<void> {
    for (const event of ['memory_region_ops_read', 'memory_region_ops_write']) {
      await gdb.monitor(`trace-event ${event} on`)
    }
    await this.next()
  }

  /** The accesses since the last time. */
  async next(): Promise<DeviceAccess[]> {
    const text = await readFile(this.#file, 'latin1').catch(() => '')
    const fresh = text.slice(this.#read)
    this.#read = text.length
    return parseAccesses(fresh)
  }
}

/** The accesses in lines of a log. */
export function parseAccesses(text: string): DeviceAccess[] {
  return Array.from(text.matchAll(ACCESS), ([, kind, address, value, size, device]) => ({
    kind: kind as DeviceAccess['kind'],
    device: device!,
    address: Number(address),
    value: Number(value),
    size: Number(size),
  }))
}
