/** Registers as "info registers" of QEMU's monitor prints them, numbers as 0x…: of 64-bit code by their 64-bit names, of 32-bit code too. Segments are selector, base, limit, attributes. */
export type PrintedRegisters = Readonly<Record<string, string | readonly string[]>>

const WORD =
  /\b(R(?:[A-D]X|[SD]I|[SB]P|IP|FL|\d+)|E(?:[A-D]X|[SD]I|[SB]P|IP|FL)|CR[0234]|DR[0-7]|EFER) ?=([\da-f]+)/g
const TABLE = /^(GDT|IDT)= +([\da-f]+) ([\da-f]+)/gm
const SEGMENT = /^(ES|CS|SS|DS|FS|GS|LDT|TR) *=([\da-f]+) ([\da-f]+) ([\da-f]+) ([\da-f]+)/gm
const CONTROL = /^FCW=([\da-f]+) FSW=([\da-f]+) \[ST=(\d)\] FTW=([\da-f]+) MXCSR=([\da-f]+)/m

/** Takes the printed registers apart. */
export function parseRegisters(printed: string): PrintedRegisters {
  const registers: Record<string, string | readonly string[]> = {}
  for (const [, name, digits] of printed.matchAll(WORD)) {
    registers[name!.replace(/^E(?!FER)/, 'R')] ??= number(digits!)
  }
  // 32-bit code has no others.
  for (let index = 8; index < 16; index++) registers[`R${index}`] ??= '0x0'
  registers['EFER'] ??= '0x0'
  for (const [, name, base, limit] of printed.matchAll(TABLE)) {
    registers[name!] = [`0x${base}`, `0x${limit}`]
  }
  for (const [, name, ...words] of printed.matchAll(SEGMENT)) registers[name!] = words.slice(0, 4)
  const [, fcw, fsw, , ftw, mxcsr] = CONTROL.exec(printed) ?? []
  for (const [name, digits] of Object.entries({ FCW: fcw, FSW: fsw, FTW: ftw, MXCSR: mxcsr })) {
    if (digits !== undefined) registers[name] = number(digits)
  }
  return registers
}

function number(digits: string): string {
  return `0x${BigInt(`0x${digits}`).toString(16)}`
}
