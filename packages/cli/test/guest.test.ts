import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { emptyFolder } from './folder.ts'
import { trapdoor } from './terminal.ts'

/** A flat Multiboot image at 1 MiB with this 32-bit code, as a file of this name in a folder of its own. */
function imageFolder(name: string, ...code: readonly number[]): string {
  const folder = emptyFolder()
  const flags = 0x1_0000
  const words = [0x1bad_b002, flags, -(0x1bad_b002 + flags), 0x10_0000, 0x10_0000, 0, 0, 0x10_0020]
  const header = Buffer.alloc(words.length * 4)
  for (const [index, word] of words.entries()) header.writeUInt32LE(word >>> 0, index * 4)
  writeFileSync(join(folder, name), Buffer.concat([header, Buffer.from(code)]))
  return folder
}

/** MOV DX, 3F8h; for each letter MOV AL, letter; OUT DX, AL. */
function say(text: string): number[] {
  return [
    0x66,
    0xba,
    0xf8,
    0x03,
    ...Array.from(Buffer.from(text), (letter) => [0xb0, letter, 0xee]).flat(),
  ]
}

/** MOV AL, value; OUT F4h, AL. */
function exit(value: number): number[] {
  return [0xb0, value, 0xe6, 0xf4]
}

describe('trapdoor guest', () => {
  test('prints what the guest says, and how it ended', async () => {
    const cwd = imageFolder('hello.flat', ...say('hello\n'), ...exit(0))
    expect(await trapdoor(['guest', 'hello.flat'], { cwd })).toEqual({
      code: 0,
      stdout: 'hello\n',
      stderr: 'guest: exited with 0 after 14 instructions\n',
    })
  })

  test.each<[string, number[], string]>([
    ['exits with a failure', exit(1), 'exited with 1 after 1 instructions'],
    [
      'skips all',
      exit(77),
      'exited with 77 (kvm-unit-tests: everything was skipped) after 1 instructions',
    ],
    [
      'halts',
      [0xf4],
      'hang: HLT with interrupts off before 0x0000000000100021 after 1 instructions',
    ],
    [
      'crashes',
      [0x0f, 0x0b],
      'triple fault while vector 6 was delivered: #GP vector 6 of the IDT cannot be used; then #GP vector 13 of the IDT cannot be used; then #GP vector 8 of the IDT cannot be used, at 0x0000000000100020, after 0 instructions',
    ],
    [
      'resets',
      [0xb0, 0xfe, 0x66, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee],
      'reset (warm) after 3 instructions',
    ],
  ])('is a finding where the guest %s', async (_, code, told) => {
    const cwd = imageFolder('guest', ...code)
    const { code: exitCode, stdout, stderr } = await trapdoor(['guest', 'guest'], { cwd })
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' })
    expect(stderr).toBe(`guest: ${told}\n`)
  })

  test('stops after --max-instructions, and runs on the model that it is told', async () => {
    const cwd = imageFolder('loop', 0xeb, 0xfe)
    const args = [
      'guest',
      'loop',
      '--cpu',
      'core2',
      '--memory',
      '64M',
      '--max-instructions',
      '1000',
    ]
    const { code, stderr } = await trapdoor(args, { cwd })
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: 'guest: stopped, as --max-instructions has it, after 1,000 instructions\n',
    })
  })

  test('is an error of input with file and offset where the file is no Multiboot image', async () => {
    const cwd = imageFolder('guest')
    writeFileSync(join(cwd, 'text'), 'hello')
    const { code, stderr } = await trapdoor(['guest', 'text'], { cwd })
    expect(code).toBe(2)
    expect(stderr).toMatchInlineSnapshot(`
      "error GUEST_NOT_MULTIBOOT: expected a Multiboot header (0x1badb002) in the first 8192 bytes, found 5 bytes without one
        at text, offset 0x0
        hint: only Multiboot 1 images can be run: ELF with such a header, or a flat binary whose header has addresses
      "
    `)
  })

  test('is an error of input where there is no such file, no such size, or an instruction that is missing', async () => {
    // An instruction of AVX-512.
    const cwd = imageFolder('guest', 0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc0)
    const outcomes = await Promise.all(
      [
        ['guest', 'nothing'],
        ['guest', 'guest', '--memory', '3'],
        ['guest', 'guest'],
      ].map((args) => trapdoor(args, { cwd })),
    )
    expect(outcomes.map(({ code }) => code)).toEqual([2, 2, 2])
    expect(outcomes.map(({ stderr }) => stderr.split('\n')[0])).toMatchInlineSnapshot(`
      [
        "error GUEST_UNREADABLE: expected a file that can be read, found ENOENT",
        "error HARNESS_BAD_ARGUMENT: expected a multiple of 1 MiB from 2 MiB to 1 TiB, such as 268435456, 256M or 1G, found "3"",
        "error GUEST_NOT_RUNNABLE: expected instructions that the interpreter has, found "vaddps zmm0,zmm0,zmm0" (62 f1 7c 48 58 c0) at 0x100020 in unknown code",
      ]
    `)
  })
})
