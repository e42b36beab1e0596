import { mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { planCapture, planKey } from '../src/index.ts'
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

describe('a plan', () => {
  test('has a name that tells the machine, and a key that tells everything', () => {
    const plain = { firmware: firmware('OVMF_CODE.fd') }
    const driver = file('driver.efi', 'MZ')
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
    writeFileSync(driver, 'MZ, changed')
    expect(planKey(planCapture({ ...plain, drivers: [driver] }), '7.2')).not.toBe(keys.at(-1))
  })

  test.each([
    ['too little memory', { memory: 64 }],
    ['memory around the hole below 4 GiB', { memory: 4096 }],
    ['SMM on a board that has none for firmware', { board: 'pc' as const, smm: true }],
    ['drivers without a shell', { start: 'kernel' as const, drivers: ['driver.efi'] }],
  ])('with %s is refused', (_, options) => {
    const path = firmware('OVMF_CODE.fd')
    const drivers = (options as { drivers?: string[] }).drivers?.map((name) => file(name, 'MZ'))
    expect(thrownBy(() => planCapture({ firmware: path, ...options, drivers }))).toMatchObject({
      code: 'CAPTURE_BAD_OPTION',
    })
  })
})
