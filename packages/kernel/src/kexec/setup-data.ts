import { decodeMemoryMap, encodeMemoryMap } from '@trapdoor/uefi'
import type { EfiHandOver } from '../efi/strategy.ts'
import type { Kernel } from '../kernel.ts'

/** SETUP_EFI of the boot protocol: what a kernel leaves for one that boots after SetVirtualAddressMap (Linux 3.14). */
const SETUP_EFI = 4
const NODE_HEADER = 16
/** struct efi_setup_data: fw_vendor, runtime, tables, smbios, reserved[8]. */
const PAYLOAD = 96
/** Bytes of the node with its header. */
export const SETUP_EFI_BYTES: number = NODE_HEADER + PAYLOAD

/** A setup_data node, and the runtime map with descriptors `stride` bytes apart. */
export function encodeHandOver(
  handOver: EfiHandOver,
  stride: number,
): { readonly node: Uint8Array; readonly runtimeMap: Uint8Array } {
  const node = new Uint8Array(NODE_HEADER + PAYLOAD)
  const view = new DataView(node.buffer)
  view.setUint32(8, SETUP_EFI, true)
  view.setUint32(12, PAYLOAD, true)
  view.setBigUint64(NODE_HEADER, BigInt(handOver.vendor), true)
  view.setBigUint64(NODE_HEADER + 8, BigInt(handOver.runtime), true)
  view.setBigUint64(NODE_HEADER + 16, BigInt(handOver.configurationTable), true)
  view.setBigUint64(NODE_HEADER + 24, BigInt(handOver.smbios ?? 0), true)
  return { node, runtimeMap: encodeMemoryMap(handOver.memoryMap, stride) }
}

/** The hand-over that boot_params points to, read through early_ioremap(); undefined where there is none. */
export function readHandOver(kernel: Kernel): EfiHandOver | undefined {
  const { bootCpu: cpu, bootParams, tables } = kernel
  const { efi, setupData } = bootParams
  if (setupData === 0 || efi === undefined) return undefined
  const node = tables.withEarlyIoremap(cpu, BigInt(setupData), NODE_HEADER + PAYLOAD, (address) =>
    cpu.readBytes(address, NODE_HEADER + PAYLOAD),
  )
  const view = new DataView(node.buffer)
  if (view.getUint32(8, true) !== SETUP_EFI) return undefined
  const map = tables.withEarlyIoremap(cpu, BigInt(efi.memmap), efi.memmapSize, (address) =>
    cpu.readBytes(address, efi.memmapSize),
  )
  return {
    vendor: Number(view.getBigUint64(NODE_HEADER, true)),
    runtime: Number(view.getBigUint64(NODE_HEADER + 8, true)),
    configurationTable: Number(view.getBigUint64(NODE_HEADER + 16, true)),
    smbios: Number(view.getBigUint64(NODE_HEADER + 24, true)),
    memoryMap: decodeMemoryMap(map, efi.memdescSize),
  }
}
