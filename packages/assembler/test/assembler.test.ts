import { expect, test } from 'vitest'

import { Assembler, AssemblerError, type CodeBits, Condition, Register } from '../src/index.ts'

const { A, B, C, D, SP, BP, SI, DI, R8, R9, R15 } = Register

function bytesOf(bits: CodeBits, emit: (code: Assembler) => void, origin = 0n): string {
  const code = new Assembler(origin, bits)
  emit(code)
  return Buffer.from(code.assemble()).toString('hex')
}

// Encodings from the opcode tables of SDM Vol. 2.
test.each<[string, (code: Assembler) => void, string]>([
  ['mov eax, 1', (code) => code.moveImmediate(64, A, 1), 'b801000000'],
  ['mov r9d, 1', (code) => code.moveImmediate(64, R9, 1), '41b901000000'],
  [
    'mov rbx, 0x123456789a',
    (code) => code.moveImmediate(64, B, 0x12_3456_789an),
    '48bb9a78563412000000',
  ],
  ['mov r15, -1', (code) => code.moveImmediate(64, R15, -1), '49bfffffffffffffffff'],
  ['mov rax, rdi', (code) => code.move(64, A, DI), '4889f8'],
  ['mov eax, eax', (code) => code.move(32, A, A), '89c0'],
  ['mov rbp, r9', (code) => code.move(64, BP, R9), '4c89cd'],
  ['mov rax, [rbx]', (code) => code.load(64, A, B), '488b8300000000'],
  ['mov r8d, [rdi]', (code) => code.load(32, R8, DI), '448b8700000000'],
  ['mov rcx, [rsp + 8]', (code) => code.load(64, C, SP, 8), '488b8c2408000000'],
  ['mov rdi, [r15 + 0x68]', (code) => code.load(64, DI, R15, 0x68), '498bbf68000000'],
  ['mov [rbp], rax', (code) => code.store(64, BP, 0, A), '48898500000000'],
  ['mov [r9 + 4], ecx', (code) => code.store(32, R9, 4, C), '41898904000000'],
  ['push rax', (code) => code.push(A), '50'],
  ['push r15', (code) => code.push(R15), '4157'],
  ['push qword [r15 + 0x40]', (code) => code.pushMemory(R15, 0x40), '41ffb740000000'],
  ['push 14', (code) => code.pushImmediate(14), '680e000000'],
  ['add rdi, 8', (code) => code.add(64, DI, 8), '4881c708000000'],
  ['sub rcx, 1', (code) => code.sub(64, C, 1), '4881e901000000'],
  ['or eax, 2', (code) => code.or(32, A, 2), '81c802000000'],
  ['and r9d, 7', (code) => code.and(32, R9, 7), '4181e107000000'],
  ['cmp r15, 5', (code) => code.compare(64, R15, 5), '4981ff05000000'],
  ['or rax, rcx', (code) => code.orRegister(64, A, C), '4809c8'],
  ['xor edx, edx', (code) => code.xorRegister(32, D, D), '31d2'],
  ['shl rax, 8', (code) => code.shiftLeft(64, A, 8), '48c1e008'],
  ['shr rax, 3', (code) => code.shiftRight(64, A, 3), '48c1e803'],
  ['jmp rbx', (code) => code.jumpRegister(B), 'ffe3'],
  ['jmp r9', (code) => code.jumpRegister(R9), '41ffe1'],
  ['mov cr3, rcx', (code) => code.moveToControl(3, C), '0f22d9'],
  ['mov cr4, r9', (code) => code.moveToControl(4, R9), '410f22e1'],
  ['mov rax, cr2', (code) => code.moveFromControl(A, 2), '0f20d0'],
  ['mov ds, eax', (code) => code.moveToSegment('ds', A), '8ed8'],
  ['lgdt [rbx + 0x60]', (code) => code.lgdt(B, 0x60), '0f019360000000'],
  ['lidt [rbx + 0x70]', (code) => code.lidt(B, 0x70), '0f019b70000000'],
  ['ltr ax', (code) => code.ltr(A), '0f00d8'],
  ['lea rcx, [rbx + 0x20]', (code) => code.loadAddress(64, C, B, 0x20), '488d8b20000000'],
  ['lea r9, [rsp - 8]', (code) => code.loadAddress(64, R9, SP, -8), '4c8d8c24f8ffffff'],
  ['pop rbx', (code) => code.pop(B), '5b'],
  ['pop r9', (code) => code.pop(R9), '4159'],
  ['call [rax + 0xe8]', (code) => code.callMemory(A, 0xe8), 'ff90e8000000'],
  ['call rdi', (code) => code.callRegister(DI), 'ffd7'],
  ['nop', (code) => code.nop(), '90'],
  ['rdmsr', (code) => code.rdmsr(), '0f32'],
  ['cld', (code) => code.cld(), 'fc'],
  ['wrmsr', (code) => code.wrmsr(), '0f30'],
  ['wrpkru', (code) => code.wrpkru(), '0f01ef'],
  ['int 0x20', (code) => code.int(0x20), 'cd20'],
  ['iretq', (code) => code.iretq(), '48cf'],
  ['rep movsq', (code) => code.repMovsq(), 'f348a5'],
  ['xchg bx, bx', (code) => code.exchangeBxBx(), '6687db'],
  ['out 0xf4, al', (code) => code.out(0xf4), 'e6f4'],
  ['in al, 0x92', (code) => code.in(0x92), 'e492'],
  ['cli', (code) => code.cli(), 'fa'],
  ['hlt', (code) => code.hlt(), 'f4'],
  ['jmp far [rbx + 0x80]', (code) => code.jumpFarMemory(B, 0x80), 'ffab80000000'],
  ['nop, three times', (code) => code.padTo(3), '909090'],
])('64-bit code: %s', (_, emit, expected) => {
  expect(bytesOf(64, emit)).toBe(expected)
})

test.each<[string, (code: Assembler) => void, string]>([
  ['mov eax, cr0', (code) => code.moveFromControl(A, 0), '0f20c0'],
  ['or eax, 1', (code) => code.or(32, A, 1), '6681c801000000'],
  ['xchg bx, bx', (code) => code.exchangeBxBx(), '87db'],
  ['jmp 8:0xfffff000', (code) => code.jumpFarTo(8, 0xffff_f000), '66ea00f0ffff0800'],
])('16-bit code: %s', (_, emit, expected) => {
  expect(bytesOf(16, emit)).toBe(expected)
})

test.each<[string, (code: Assembler) => void, string]>([
  ['mov eax, [esi + 0x18]', (code) => code.load(32, A, SI, 0x18), '8b8618000000'],
  ['push dword [esi + 0x28]', (code) => code.pushMemory(SI, 0x28), 'ffb628000000'],
  ['and eax, 0x7fffffff', (code) => code.and(32, A, 0x7fff_ffff), '81e0ffffff7f'],
  ['mov cr0, eax', (code) => code.moveToControl(0, A), '0f22c0'],
  ['iretd', (code) => code.iretd(), 'cf'],
  ['lea eax, [ebx + 0x10]', (code) => code.loadAddress(32, A, B, 0x10), '8d8310000000'],
  ['call [eax + 0x28]', (code) => code.callMemory(A, 0x28), 'ff9028000000'],
  ['pop ebx', (code) => code.pop(B), '5b'],
])('32-bit code: %s', (_, emit, expected) => {
  expect(bytesOf(32, emit)).toBe(expected)
})

test('a far jump in 32-bit code names the address of its label', () => {
  const hex = bytesOf(
    32,
    (code) => {
      code.jumpFar(0x18, 'there')
      code.label('there')
    },
    0xffff_f000n,
  )
  expect(hex).toBe('ea07f0ffff1800')
})

test('LGDT in 16-bit code names the low half of its label', () => {
  const hex = bytesOf(
    16,
    (code) => {
      code.lgdtInCode('pointer')
      code.label('pointer')
      code.raw(0x1f, 0)
      code.data32(0xffff_ef00)
    },
    0xffff_ff80n,
  )
  expect(hex).toBe('2e660f011687ff1f0000efffff')
})

test('jumps count from their end, forwards and backwards', () => {
  const hex = bytesOf(64, (code) => {
    code.label('start')
    code.jumpIf(Condition.NotEqual, 'end')
    code.jump('start')
    code.label('end')
  })
  expect(hex).toBe('0f8505000000e9f5ffffff')
})

test('a call names its label by the distance from its end', () => {
  const hex = bytesOf(64, (code) => {
    code.call('next')
    code.label('next')
    code.pop(B)
  })
  expect(hex).toBe('e8000000005b')
})

/** What is thrown. */
function refusal(assemble: () => unknown): AssemblerError {
  try {
    assemble()
  } catch (error) {
    if (error instanceof AssemblerError) return error
    throw error
  }
  throw new Error('it was assembled')
}

test('a label that is nowhere, or twice, is an error', () => {
  const code = new Assembler(0n, 64)
  code.jump('nowhere')
  code.label('here')
  expect(refusal(() => code.assemble())).toMatchObject({
    code: 'ASSEMBLER_NO_LABEL',
    expected: 'here',
    found: '"nowhere"',
  })
  expect(refusal(() => code.label('here')).code).toBe('ASSEMBLER_LABEL_TWICE')
})

test('code does not go back to an offset that it is behind', () => {
  const code = new Assembler(0n, 64)
  code.padTo(4)
  expect(refusal(() => code.padTo(3))).toMatchObject({
    code: 'ASSEMBLER_TOO_LONG',
    expected: 'at most 3 bytes of code',
    found: '4',
  })
})

test('32-bit code has no register above the eighth and no 64-bit operand', () => {
  const code = new Assembler(0n, 32)
  expect(refusal(() => code.moveToControl(3, R8)).code).toBe('ASSEMBLER_NO_REGISTER')
  expect(refusal(() => code.move(64, A, B))).toMatchObject({
    code: 'ASSEMBLER_NO_REGISTER',
    expected: 'a register that 32-bit code has',
  })
})
