/** A string as UEFI has it: two bytes a character, little endian, with a NUL at the end. */
export function encodeUcs2(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(`${text}\0`, 'utf16le'))
}

/** The text of a string up to its NUL, or all of it where there is none. A last odd byte is left out. */
export function decodeUcs2(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString('utf16le')
  const end = text.indexOf('\0')
  return end < 0 ? text : text.slice(0, end)
}
