/** A string as UEFI has it: two bytes a character, little endian, with a NUL at the end. */
export function encodeUcs2(text: string): Uint8Array {
  const bytes = new Uint8Array((text.length + 1) * 2)
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index)
    bytes[index * 2] = unit
    bytes[index * 2 + 1] = unit >>> 8
  }
  return bytes
}

/** The text of a string up to its NUL, or all of it where there is none. A last odd byte is left out. */
export function decodeUcs2(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString('utf16le')
  const end = text.indexOf('\0')
  return end < 0 ? text : text.slice(0, end)
}
