/** Attribute bits of a memory descriptor (UEFI 2.10, 7.2.3). Those about caching are capabilities, not what is set up. */
export const MemoryAttribute = {
  UC: 0x1n,
  WC: 0x2n,
  WT: 0x4n,
  WB: 0x8n,
  UCE: 0x10n,
  WP: 0x1000n,
  RP: 0x2000n,
  XP: 0x4000n,
  NV: 0x8000n,
  MORE_RELIABLE: 0x1_0000n,
  RO: 0x2_0000n,
  SP: 0x4_0000n,
  CPU_CRYPTO: 0x8_0000n,
  HOT_PLUGGABLE: 0x10_0000n,
  /** Architecture-specific bits, 16 of them; they count where {@link MemoryAttribute.ISA_VALID} is set. */
  ISA_MASK: 0x0fff_f000_0000_0000n,
  ISA_VALID: 0x4000_0000_0000_0000n,
  RUNTIME: 0x8000_0000_0000_0000n,
} as const

/** The names of the bits, RUNTIME first, such as "RUNTIME|UC|WB"; what has no name follows as hex. Empty for 0. */
export function formatMemoryAttribute(attribute: bigint): string {
  const names = Object.entries(MemoryAttribute).filter(([name]) => name !== 'ISA_MASK')
  const known = names.filter(([, bit]) => (attribute & bit) !== 0n)
  const rest = known.reduce((left, [, bit]) => left & ~bit, attribute)
  const words = known.map(([name]) => name)
  const ordered = words.includes('RUNTIME')
    ? ['RUNTIME', ...words.filter((name) => name !== 'RUNTIME')]
    : words
  return [...ordered, ...(rest === 0n ? [] : [`0x${rest.toString(16)}`])].join('|')
}
