import fc from 'fast-check'
import { expect, test } from 'vitest'
import { encodePacket, PacketReader, type Received } from '../src/qemu/packets.ts'
import { thrownBy } from './thrown.ts'

/** What a stub says, without what has a meaning of its own in the protocol. */
const payload = fc.string({
  unit: fc.constantFrom('Q', 'a', '0', ':', ';', ',', '=', ' ', '+', '-', 'T', '\u00FF'),
})

test('packets are read as they were sent, wherever the line cuts them', () => {
  fc.assert(
    fc.property(fc.array(payload), fc.array(fc.nat({ max: 40 })), (payloads, cuts) => {
      const line = payloads.map((each) => `+${encodePacket(each)}`).join('')
      const reader = new PacketReader()
      const received: Received[] = []
      let at = 0
      for (const length of [...cuts, line.length]) {
        received.push(...reader.read(line.slice(at, at + length)))
        at += length
      }
      expect(received).toEqual(
        payloads.flatMap((each) => [{ kind: 'acknowledged' }, { kind: 'packet', payload: each }]),
      )
    }),
  )
})

test('a packet is its payload with a checksum, as the manual of GDB has it', () => {
  expect(encodePacket('OK')).toBe('$OK#9a')
  expect(encodePacket('')).toBe('$#00')
})

test('runs are expanded', () => {
  // The example of the manual: "0* " stands for "0000".
  expect(new PacketReader().read('$0* #7a')).toEqual([{ kind: 'packet', payload: '0000' }])
})

test('a refused packet and a checksum that is wrong are told', () => {
  expect(new PacketReader().read('-')).toEqual([{ kind: 'refused' }])
  expect(thrownBy(() => new PacketReader().read('$OK#9b'))).toMatchObject({
    code: 'CAPTURE_PROTOCOL',
    found: '"$OK#9b"',
  })
  expect(thrownBy(() => new PacketReader().read('qemu: hello#00'))).toMatchObject({
    code: 'CAPTURE_PROTOCOL',
  })
})
