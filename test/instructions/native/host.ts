import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

import { execa, ExecaError } from 'execa'

/** The host's processor cannot be asked. */
export class HostError extends Error {
  readonly code: 'HOST_NOT_X86' | 'HOST_COMPILER_MISSING' | 'HOST_FAILED'
  readonly hint: string

  constructor(code: HostError['code'], message: string, hint: string) {
    super(message)
    this.name = 'HostError'
    this.code = code
    this.hint = hint
  }
}

/** CPUID as the host has it, by `leaf:subleaf`; {@link HWCAP2} has in EAX what its kernel lets processes use. */
export type HostFeatures = ReadonlyMap<
  string,
  { eax: number; ebx: number; ecx: number; edx: number }
>

/** No leaf of CPUID: AT_HWCAP2 (Linux, arch/x86/include/uapi/asm/hwcap2.h). */
export const HWCAP2 = 'ffffffff:0'
/** The kernel has CR4.FSGSBASE set. */
const HWCAP2_FSGSBASE = 2
/** CPUID.07H:ECX.OSPKE: the kernel has CR4.PKE set. */
const OSPKE = 0x10
/** EBX of leaf 0: `Auth` of AuthenticAMD, `Hygo` of HygonGenuine, whose cores are AMD's. */
const VENDORS_OF_AMD: ReadonlySet<number> = new Set([0x6874_7541, 0x6f67_7948])

/** What of a host decides how an instruction in user mode ends, beside the instruction. */
export interface HostMode {
  readonly vendor: 'intel' | 'amd'
  readonly protectionKeys: boolean
  /** RDFSBASE and its like. */
  readonly baseInstructions: boolean
}

export function modeOf(features: HostFeatures): HostMode {
  const bits = (leaf: string, word: 'eax' | 'ebx' | 'ecx'): number => features.get(leaf)![word]
  return {
    vendor: VENDORS_OF_AMD.has(bits('0:0', 'ebx')) ? 'amd' : 'intel',
    protectionKeys: (bits('7:0', 'ecx') & OSPKE) !== 0,
    baseInstructions: (bits(HWCAP2, 'eax') & HWCAP2_FSGSBASE) !== 0,
  }
}

/** No run takes so long. */
const TIME_LIMIT_MS = 300_000
const FLAGS = [
  ['-O2', '-Wall', '-Wextra', '-Werror'],
  ['-ffreestanding', '-fno-stack-protector', '-fcf-protection=none'],
  ['-nostdlib', '-static', '-no-pie'],
].flat()

/** The processor that this runs on: oracle.c, compiled now, runs single instructions on it in a process of its own. */
export class HostProcessor {
  /** The compiled program. */
  readonly program: string

  constructor(program: string) {
    this.program = program
  }

  /** Compiles the program. Throws {@link HostError}. */
  static async compile(): Promise<HostProcessor> {
    if (process.arch !== 'x64' || process.platform !== 'linux') {
      throw new HostError(
        'HOST_NOT_X86',
        `expected Linux on x86-64, found ${process.platform} on ${process.arch}`,
        'run it on such a machine',
      )
    }
    const directory = await mkdtemp(join(tmpdir(), 'trapdoor-instructions-'))
    const host = new HostProcessor(join(directory, 'oracle'))
    try {
      await execa('cc', [...FLAGS, '-o', host.program, join(import.meta.dirname, 'oracle.c')])
      return host
    } catch (error) {
      await host.dispose()
      if (!(error instanceof ExecaError)) throw error
      if (error.code === 'ENOENT') {
        throw new HostError(
          'HOST_COMPILER_MISSING',
          'cc is not installed',
          'apt-get install gcc libc6-dev',
        )
      }
      throw new HostError('HOST_FAILED', 'oracle.c could not be compiled', String(error.stderr))
    }
  }

  /** Runs the cases of a run and returns their records as they are afterwards. Throws {@link HostError}. */
  async run(cases: Uint8Array): Promise<Buffer> {
    return this.#execute([], cases)
  }

  async features(): Promise<HostFeatures> {
    const words = await this.#execute(['features'], new Uint8Array())
    const features = new Map<string, { eax: number; ebx: number; ecx: number; edx: number }>()
    for (let at = 0; at < words.length; at += 24) {
      const [leaf, subleaf, eax, ebx, ecx, edx] = Array.from({ length: 6 }, (_, word) =>
        words.readUint32LE(at + word * 4),
      ) as [number, number, number, number, number, number]
      features.set(`${leaf.toString(16)}:${subleaf}`, { eax, ebx, ecx, edx })
    }
    return features
  }

  /** Removes the program. */
  async dispose(): Promise<void> {
    await rm(dirname(this.program), { recursive: true, force: true })
  }

  async #execute(args: readonly string[], input: Uint8Array): Promise<Buffer> {
    const result = await execa(this.program, args, {
      input,
      encoding: 'buffer',
      maxBuffer: 2 ** 30,
      timeout: TIME_LIMIT_MS,
      reject: false,
      cleanup: true,
    })
    if (result.exitCode === 0)
      return Buffer.from(result.stdout.buffer, result.stdout.byteOffset, result.stdout.byteLength)
    const ending =
      result.signal === undefined ? `exit code ${result.exitCode}` : `signal ${result.signal}`
    throw new HostError(
      'HOST_FAILED',
      `the program that asks the host's processor ended with ${ending}`,
      '3 is a record that is cut off, 4 memory that it does not get; with a signal, an instruction got out of hand',
    )
  }
}
