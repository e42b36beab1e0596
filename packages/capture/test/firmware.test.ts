import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { encodePeApplication, parseGuid } from '@trapdoor/uefi'
import { type CaptureError, planCapture, planKey } from '../src/index.ts'
import { describeFirmware } from '../src/firmware/descriptor.ts'
import { findFirmware } from '../src/firmware/firmware.ts'
import { emptyFolder } from './folder.ts'
import { thrownBy } from './thrown.ts'

/** The beginning of a firmware volume: its type at byte 16, its signature at byte 40. */
function volume(type: string): Uint8Array {
  const bytes = Buffer.alloc(0x1000)
  Buffer.from(type, 'hex').copy(bytes, 16)
  bytes.write('_FVH', 40)
  return bytes
}

/** EFI_FIRMWARE_FILE_SYSTEM2_GUID and EFI_SYSTEM_NV_DATA_FV_GUID. */
const CODE = volume('78e58c8c3d8a1c4f9935896185c32dd3')
const STORE = volume('8d2bf1ff96768b4ca9852747075b4f50')

let folder = ''

beforeEach(() => {
  folder = emptyFolder()
})

function file(name: string, contents: Uint8Array | string): string {
  const path = join(folder, name)
  writeFileSync(path, contents)
  return path
}

describe('a firmware', () => {
  test.each([
    ['OVMF_CODE.fd', 'OVMF_VARS.fd', 'x64', false],
    ['OVMF_CODE_4M.fd', 'OVMF_VARS_4M.fd', 'x64', false],
    ['OVMF_CODE_4M.secboot.fd', 'OVMF_VARS_4M.fd', 'x64', true],
    ['OVMF_CODE_4M.ms.fd', 'OVMF_VARS_4M.ms.fd', 'x64', true],
    ['OVMF_CODE_4M.snakeoil.fd', 'OVMF_VARS_4M.snakeoil.fd', 'x64', true],
    ['OVMF32_CODE_4M.secboot.fd', 'OVMF32_VARS_4M.fd', 'ia32', true],
  ])('%s goes with %s', (code, variables, architecture, smm) => {
    file(variables, STORE)
    const found = findFirmware({ firmware: file(code, CODE) })
    expect(found).toMatchObject({ architecture, smm })
    expect(found.variables?.path).toBe(join(folder, variables))
    expect(found.code.sha256).toMatch(/^[\da-f]{64}$/)
  })

  test('that has its variables in the same image needs no other', () => {
    const whole = Buffer.concat([STORE, CODE])
    expect(findFirmware({ firmware: file('OVMF.fd', whole) }).variables).toBeUndefined()
  })

  test('is what the caller says, whatever its name', () => {
    const image = file('OVMF_CODE_4M.secboot.fd', CODE)
    const variables = file('own.fd', STORE)
    const found = findFirmware({ firmware: image, variables, architecture: 'ia32', smm: false })
    expect(found).toMatchObject({ architecture: 'ia32', smm: false })
    expect(found.variables?.path).toBe(variables)
  })

  test('that was cut off is refused', () => {
    const long = volume('78e58c8c3d8a1c4f9935896185c32dd3')
    Buffer.from(long.buffer).writeBigUInt64LE(0x2000n, 32)
    const found = [long, CODE.subarray(0, 100)].map((bytes, index) => {
      const cut = file(`OVMF_CODE${index}.fd`, bytes)
      const { code, expected, hint } = thrownBy(() =>
        findFirmware({ firmware: cut }),
      ) as CaptureError
      return [code, expected, hint]
    })
    expect(found).toEqual([
      [
        'CAPTURE_NOT_FIRMWARE',
        'the 8192 bytes of its first firmware volume',
        'was the file cut off?',
      ],
      ['CAPTURE_NOT_FIRMWARE', 'a multiple of 4096 bytes, as flash has', 'was the file cut off?'],
    ])
  })

  test('with enrolled keys has Secure Boot switched off in the copy that is used', () => {
    const store = Buffer.from(STORE)
    const variable = Buffer.alloc(60)
    variable.writeUInt16LE(0x55aa, 0)
    variable[2] = 0x3f
    variable.writeUInt32LE(34, 36)
    variable.writeUInt32LE(1, 40)
    Buffer.from(parseGuid('f0a30bc7-af08-4556-99c4-001009c93a44')).copy(variable, 44)
    variable.copy(store, 0x64)
    store.write('SecureBootEnable', 0x64 + 60, 'utf16le')
    const data = 0x64 + 60 + 34
    store[data] = 1
    const code = file('OVMF_CODE_4M.ms.fd', CODE)
    const path = file('OVMF_VARS_4M.ms.fd', store)
    const { variables } = findFirmware({ firmware: code })
    expect(variables?.changed).toBe('SecureBootEnable is 0')
    expect([variables?.bytes[data], readFileSync(path)[data]]).toEqual([0, 1])
    // One that was deleted says nothing.
    store[0x66] = 0x3c
    const old = findFirmware({ firmware: code, variables: file('old.fd', store) }).variables
    expect(old?.changed).toBeUndefined()
  })

  test('that is not there, no firmware, too large, or without its variables is refused', () => {
    const code = file('OVMF_CODE.fd', CODE)
    const large = file('large.fd', '')
    truncateSync(large, 17 * 2 ** 20)
    const codes = [
      { firmware: join(folder, 'nowhere.fd') },
      { firmware: folder },
      { firmware: file('text.fd', 'not a firmware') },
      { firmware: large },
      { firmware: code },
      { firmware: code, variables: file('wrong.fd', CODE) },
      { firmware: file('other.bin', CODE) },
    ].map((choice) => {
      const error = thrownBy(() => findFirmware(choice)) as { code: string; file: string }
      expect(error.file).toContain(folder)
      return error.code
    })
    expect(codes).toEqual([
      'CAPTURE_NO_FIRMWARE',
      'CAPTURE_NO_FIRMWARE',
      'CAPTURE_NOT_FIRMWARE',
      'CAPTURE_NOT_FIRMWARE',
      'CAPTURE_NO_VARIABLES',
      'CAPTURE_NO_VARIABLES',
      'CAPTURE_NO_VARIABLES',
    ])
  })

  test('of a package that is not installed is named with the package', () => {
    const packages = ['absent.fd', 'OVMF32_absent.fd'].map((name) =>
      thrownBy(() => findFirmware({ firmware: `/usr/share/OVMF/${name}` })),
    )
    expect(packages).toMatchObject([
      {
        code: 'CAPTURE_NO_FIRMWARE',
        hint: 'apt-get install --no-install-recommends ovmf',
      },
      { hint: 'apt-get install --no-install-recommends ovmf-ia32' },
    ])
  })
})

function writeDescription(where: string, name: string, features: readonly string[]): void {
  mkdirSync(where, { recursive: true })
  writeFileSync(
    join(where, name),
    JSON.stringify({
      mapping: {
        executable: { filename: '/fw/code.fd' },
        'nvram-template': { filename: `/fw/${name}.vars` },
      },
      targets: [{ architecture: 'i386', machines: ['pc-q35-*'] }],
      features,
    }),
  )
}

test('descriptions of firmware are those of the first folder that has one', () => {
  const [first, second] = [join(folder, 'etc'), join(folder, 'usr')]
  writeDescription(second, '60-other.json', [])
  writeDescription(second, '50-this.json', ['requires-smm', 'enrolled-keys'])
  writeFileSync(join(second, '10-broken.json'), '{')
  writeFileSync(join(second, '20-memory.json'), '{"mapping":{"device":"memory"}}')
  const folders = [first, second]
  expect(describeFirmware('/fw/code.fd', folders)).toEqual({
    variables: '/fw/50-this.json.vars',
    architecture: 'ia32',
    requiresSmm: true,
    enrolledKeys: true,
  })
  expect(describeFirmware('/fw/another.fd', folders)).toBeUndefined()
  writeDescription(first, '90-own.json', [])
  expect(describeFirmware('/fw/code.fd', folders)?.variables).toBe('/fw/90-own.json.vars')
})

/** An image with its variable store beside it. */
function firmware(name: string): string {
  file(name.replace('CODE', 'VARS').replace('.secboot', ''), STORE)
  return file(name, CODE)
}

/** A driver's image: an application's with another subsystem, of one section. */
function driverImage(subsystem: number, byte = 0x90): Uint8Array {
  const image = Buffer.from(
    encodePeApplication({
      architecture: 'x64',
      imageBase: 0,
      entryPoint: 0x1000,
      sections: [
        {
          name: '.text',
          address: 0x1000,
          size: 1,
          contents: Uint8Array.of(byte),
          access: 'read-execute',
        },
      ],
    }),
  )
  // IMAGE_OPTIONAL_HEADER follows the signature and 20 bytes.
  image.writeUInt16LE(subsystem, image.readUInt32LE(0x3c) + 24 + 68)
  return image
}

describe('a plan', () => {
  test('has a name that tells the machine, and a key that tells everything', () => {
    const plain = { firmware: firmware('OVMF_CODE.fd') }
    const driver = file('driver.efi', driverImage(12))
    const plans = [
      plain,
      { ...plain, board: 'pc' as const },
      { ...plain, memory: 1024 },
      { ...plain, cpu: 'qemu64' },
      { ...plain, smm: true },
      { ...plain, start: 'disk' as const },
      { ...plain, drivers: [driver] },
    ].map((options) => planCapture(options))
    expect(plans.map(({ name }) => name)).toEqual([
      'q35-OVMF_CODE-512M',
      'pc-OVMF_CODE-512M',
      'q35-OVMF_CODE-1024M',
      'q35-OVMF_CODE-512M',
      'q35-OVMF_CODE-512M',
      'q35-OVMF_CODE-512M',
      'q35-OVMF_CODE+driver-512M',
    ])
    const keys = plans.map((plan) => planKey(plan, '7.2'))
    expect(new Set([...keys, planKey(plans[0]!, '8.0')]).size).toBe(plans.length + 1)
    expect(planKey(planCapture(plain), '7.2')).toBe(keys[0])
    writeFileSync(driver, driverImage(12, 0xc3))
    expect(planKey(planCapture({ ...plain, drivers: [driver] }), '7.2')).not.toBe(keys.at(-1))
  })

  test('has drivers that are drivers, for the processor that the firmware is for', () => {
    const path = firmware('OVMF_CODE.fd')
    const notOnes = [
      ['text.efi', 'text'],
      ['application.efi', driverImage(10)],
    ] as const
    for (const [name, contents] of notOnes) {
      expect(
        thrownBy(() => planCapture({ firmware: path, drivers: [file(name, contents)] })),
      ).toMatchObject({ code: 'CAPTURE_NOT_DRIVER', file: join(folder, name) })
    }
    const driver = file('driver.efi', driverImage(11))
    expect(planCapture({ firmware: path, drivers: [driver] }).drivers).toHaveLength(1)
    expect(
      thrownBy(() => planCapture({ firmware: path, architecture: 'ia32', drivers: [driver] })),
    ).toMatchObject({ found: 'one with subsystem 11 for machine 0x8664' })
  })

  test.each([
    ['too little memory', { memory: 64 }],
    ['memory around the hole below 4 GiB', { memory: 4096 }],
    ['SMM on a board that has none for firmware', { board: 'pc' as const, smm: true }],
    ['drivers without a shell', { start: 'kernel' as const, drivers: ['driver.efi'] }],
  ])('with %s is refused', (_, options) => {
    const path = firmware('OVMF_CODE.fd')
    const drivers = (options as { drivers?: string[] }).drivers?.map((name) =>
      file(name, driverImage(12)),
    )
    expect(thrownBy(() => planCapture({ firmware: path, ...options, drivers }))).toMatchObject({
      code: 'CAPTURE_BAD_OPTION',
    })
  })
})
