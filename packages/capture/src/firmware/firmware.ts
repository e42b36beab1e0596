import { createHash } from 'node:crypto'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { type Architecture, decodePeHeaders, parseGuid, PE_MACHINES } from '@trapdoor/uefi'
import { CaptureError } from '../error.ts'
import { describeFirmware } from './descriptor.ts'
import { withoutSecureBoot } from './secure-boot.ts'

/** A file that goes into a machine. */
export interface ImageFile {
  readonly path: string
  readonly bytes: Uint8Array
  /** In hexadecimal. */
  readonly sha256: string
  /** What of the bytes is not as in the file, in words. */
  readonly changed?: string
}

/** A firmware and what it needs of its machine. */
export interface Firmware {
  /** The image that ends at 4 GiB. */
  readonly code: ImageFile
  /** The variable store that lies below it; undefined where the image has both. */
  readonly variables: ImageFile | undefined
  readonly architecture: 'x64' | 'ia32'
  /** Whether variables are guarded by system-management mode. */
  readonly smm: boolean
}

/** What the caller says of a firmware; what is left out is found out. */
export interface FirmwareChoice {
  /** Path of the image. */
  readonly firmware: string
  /** Path of the variable store. */
  readonly variables?: string | undefined
  readonly architecture?: 'x64' | 'ia32' | undefined
  readonly smm?: boolean | undefined
}

/** No flash of a PC is larger: QEMU's end where the interrupt controllers begin. */
const LARGEST_IMAGE = 16 * 2 ** 20
/** Flash is emulated in sectors of this size. */
const SECTOR = 4096
/** Signature of a firmware volume, EFI_FVH_SIGNATURE (PI 1.7, volume 3, 3.2.1). */
const VOLUME = '_FVH'
/** EFI_SYSTEM_NV_DATA_FV_GUID, the type of a volume that holds variables (PI 1.7, volume 3, 3.2.2 has its place; MdeModulePkg/Include/Guid/SystemNvDataGuid.h). */
const NV_DATA = 'fff12b8d-7696-4c8b-a985-2747075b4f50'
const NV_DATA_BYTES = Buffer.from(parseGuid(NV_DATA))

/**
 * Finds what belongs to a firmware: by the descriptions that QEMU's firmware packages bring, else by the names that Debian's have. Where keys are enrolled, Secure Boot is switched off in the copy of the
 * variable store that the machine gets, as the application that stands for the operating system is not signed. Throws CAPTURE_NO_FIRMWARE, CAPTURE_NOT_FIRMWARE, CAPTURE_NO_VARIABLES.
 */
export function findFirmware(choice: FirmwareChoice): Firmware {
  const path = choice.firmware
  const code = readImage(path)
  if (!Buffer.from(code.bytes).includes(VOLUME)) {
    throw new CaptureError('CAPTURE_NOT_FIRMWARE', {
      expected: 'a UEFI firmware: an image with a firmware volume, such as OVMF_CODE_4M.fd',
      found: 'none in it',
      file: path,
    })
  }
  checkWhole(code)
  const description = describeFirmware(path)
  const isWhole = Buffer.from(code.bytes.subarray(16, 32)).equals(NV_DATA_BYTES)
  const store =
    choice.variables ?? (isWhole ? undefined : (description?.variables ?? variablesBesides(path)))
  const variables = store === undefined ? undefined : readImage(store)
  if (variables !== undefined && !Buffer.from(variables.bytes).includes(NV_DATA_BYTES)) {
    throw new CaptureError('CAPTURE_NO_VARIABLES', {
      expected: `a variable store, a firmware volume of type ${NV_DATA}`,
      found: 'none in it',
      file: variables.path,
    })
  }
  if (variables !== undefined) checkWhole(variables)
  const name = basename(path)
  return {
    code: isWhole ? startsUnsigned(code) : code,
    variables: variables && startsUnsigned(variables),
    architecture:
      choice.architecture ??
      description?.architecture ??
      (/ia32|32_CODE|i386/i.test(name) ? 'ia32' : 'x64'),
    smm: choice.smm ?? description?.requiresSmm ?? /secboot|secure|snakeoil|\.ms\./i.test(name),
  }
}

/** Throws CAPTURE_NOT_FIRMWARE for an image that was cut off. */
function checkWhole({ bytes, path }: ImageFile): void {
  const image = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const isVolume = image.toString('latin1', VOLUME_SIGNATURE, VOLUME_SIGNATURE + 4) === VOLUME
  const volume = isVolume ? Number(image.readBigUInt64LE(VOLUME_LENGTH)) : 0
  if (bytes.length % SECTOR === 0 && volume <= bytes.length) return
  throw new CaptureError('CAPTURE_NOT_FIRMWARE', {
    expected:
      volume > bytes.length
        ? `the ${volume} bytes of its first firmware volume`
        : `a multiple of ${SECTOR} bytes, as flash has`,
    found: `${bytes.length} bytes`,
    hint: 'was the file cut off?',
    file: path,
  })
}

/** Offsets of EFI_FIRMWARE_VOLUME_HEADER's FvLength and Signature (PI 1.7, volume 3, 3.2.1). */
const VOLUME_LENGTH = 32
const VOLUME_SIGNATURE = 40

function startsUnsigned(image: ImageFile): ImageFile {
  const bytes = withoutSecureBoot(image.bytes)
  return bytes === undefined ? image : { ...image, bytes, changed: 'SecureBootEnable is 0' }
}

/** Reads a driver. Throws CAPTURE_NO_FIRMWARE, and CAPTURE_NOT_DRIVER for a file that is none for a firmware of this architecture. */
export function readDriver(path: string, architecture: Architecture['name']): ImageFile {
  const image = readImage(path)
  const headers = decodePeHeaders(image.bytes)
  if (
    headers !== undefined &&
    headers.machine === PE_MACHINES[architecture] &&
    headers.subsystem !== APPLICATION
  ) {
    return image
  }
  throw new CaptureError('CAPTURE_NOT_DRIVER', {
    expected: `an EFI driver for ${architecture}: a PE image with subsystem 11 or 12`,
    found:
      headers === undefined
        ? 'no PE image for EFI'
        : `one with subsystem ${headers.subsystem} for machine 0x${headers.machine.toString(16)}`,
    file: path,
  })
}

/** IMAGE_OPTIONAL_HEADER.Subsystem of an application (UEFI 2.10, 2.1.1). */
const APPLICATION = 10

/** Reads a file that has to be there. Throws CAPTURE_NO_FIRMWARE. */
function readImage(path: string): ImageFile {
  if (!existsSync(path) || !statSync(path).isFile()) {
    throw new CaptureError('CAPTURE_NO_FIRMWARE', {
      expected: 'a file',
      found: existsSync(path) ? 'something else' : 'nothing of this name',
      hint: hintFor(path),
      file: path,
    })
  }
  if (statSync(path).size > LARGEST_IMAGE) {
    throw new CaptureError('CAPTURE_NOT_FIRMWARE', {
      expected: `at most ${LARGEST_IMAGE} bytes`,
      found: `${statSync(path).size} bytes`,
      file: path,
    })
  }
  const bytes = readFileSync(path)
  return { path, bytes, sha256: createHash('sha256').update(bytes).digest('hex') }
}

function hintFor(path: string): string | undefined {
  if (!/^\/usr\/share\/ovmf/i.test(path)) return undefined
  const name = /OVMF32/.test(path) ? 'ovmf-ia32' : 'ovmf'
  return `apt-get install --no-install-recommends ${name}`
}

/**
 * The store beside an image, as Debian's packages name them: OVMF_VARS_4M.fd belongs to OVMF_CODE_4M.fd and to OVMF_CODE_4M.secboot.fd, OVMF_VARS_4M.ms.fd to OVMF_CODE_4M.ms.fd. Throws
 * CAPTURE_NO_VARIABLES.
 */
function variablesBesides(path: string): string {
  const name = basename(path)
  const [own, plain] = [
    name.replace('CODE', 'VARS'),
    name.replace('CODE', 'VARS').replace('.secboot', ''),
  ]
  const found = [own, plain]
    .filter((each) => each !== name)
    .map((each) => join(dirname(path), each))
    .find((each) => existsSync(each))
  if (found !== undefined) return found
  throw new CaptureError('CAPTURE_NO_VARIABLES', {
    expected: `the variable store of ${name} beside it, such as ${plain === name ? 'OVMF_VARS.fd' : plain}`,
    found: 'none',
    hint: 'name it with --variables FILE',
    file: path,
  })
}
