import { encodeMemoryMap } from '@trapdoor/uefi'
import { formatCounts, formatPageTouches } from '../observed/counted-lines.ts'
import type { WordChange } from '../observed/recorded-calls.ts'
import type { Recording, WrittenCall } from './contents.ts'
import { hex, hexBytes } from './hex.ts'

const PAGE = 4096

/** The document of a recording, `vectors.json.gz`. */
export function recordingDocument(recording: Recording): unknown {
  const { caller, scratch, stackTop, root, virtualMap, descriptorSize, measured } = recording
  return {
    efi_call: hex(caller.begin),
    ra: hex(caller.end),
    scratch: hex(scratch.address),
    scratch_pages: scratch.bytes / PAGE,
    stack_top: hex(stackTop),
    pgd: hex(root),
    svam_map: hexBytes(encodeMemoryMap(virtualMap, descriptorSize)),
    measured,
    vectors: recording.calls.map((call, index) => callDocument(call, index + 1, recording)),
  }
}

function callDocument(call: WrittenCall, number: number, { root, caller }: Recording): unknown {
  const { restoredPages } = call
  return {
    name: call.name,
    fn: call.service,
    fn_addr: hex(call.functionAddress),
    cr3: hex(root),
    efi_args: call.args.map(hex),
    argmem: call.memory.map(({ address, bytes }) => [hex(address), hexBytes(bytes)]),
    rsp: hex(call.stack),
    returned: true,
    rip: hex(caller.end),
    rax: hex(call.status),
    rt_diff: call.runtimeChanges.map(changeDocument),
    scratch_diff: call.scratchChanges.map(changeDocument),
    io: call.devices.map(({ kind, device, address, value, size }) => [
      kind,
      device,
      hex(address),
      hex(value),
      size,
    ]),
    plugin: [formatCounts(call.counts, number, call.functionAddress)],
    pages: call.pages.map(formatPageTouches),
    ...(restoredPages === undefined ? {} : { restored_pages: restoredPages }),
  }
}

function changeDocument({ address, before, after }: WordChange): string[] {
  return [hex(address), digitsOf(before), digitsOf(after)]
}

/** A word with its highest byte first. */
function digitsOf(word: bigint): string {
  return word.toString(16).padStart(16, '0')
}
