import { existsSync, globSync, readFileSync } from 'node:fs'
import { z } from 'zod'

/** What a distribution says of a firmware that it ships. */
export interface FirmwareDescription {
  /** Path of a variable store to start from. */
  readonly variables: string | undefined
  readonly architecture: 'x64' | 'ia32' | undefined
  readonly requiresSmm: boolean
  /** Whether keys are enrolled, so that only signed applications start. */
  readonly enrolledKeys: boolean
}

/** Where descriptions are, those first that an administrator may have put in place of others (QEMU, docs/interop/firmware.json). */
const FOLDERS = ['/etc/qemu/firmware', '/usr/share/qemu/firmware'] as const

const ARCHITECTURES: Readonly<Record<string, 'x64' | 'ia32'>> = { x86_64: 'x64', i386: 'ia32' }

/** What is read of a description (QEMU, docs/interop/firmware.json, version 7.2). */
const schema = z.object({
  mapping: z.object({
    executable: z.object({ filename: z.string() }),
    'nvram-template': z.object({ filename: z.string() }).optional(),
  }),
  targets: z.array(z.object({ architecture: z.string() })),
  features: z.array(z.string()),
})

/** What the descriptions of the machine say of the firmware at `path`; undefined where none names it. Descriptions that are not understood are of something else. */
export function describeFirmware(
  path: string,
  folders: readonly string[] = FOLDERS,
): FirmwareDescription | undefined {
  for (const folder of folders.filter((each) => existsSync(each))) {
    for (const name of globSync('*.json', { cwd: folder }).toSorted()) {
      const description = read(`${folder}/${name}`)
      if (description?.mapping.executable.filename !== path) continue
      const { mapping, targets, features } = description
      return {
        variables: mapping['nvram-template']?.filename,
        architecture: ARCHITECTURES[targets[0]?.architecture ?? ''],
        requiresSmm: features.includes('requires-smm'),
        enrolledKeys: features.includes('enrolled-keys'),
      }
    }
  }
  return undefined
}

function read(file: string): z.output<typeof schema> | undefined {
  try {
    return schema.safeParse(JSON.parse(readFileSync(file, 'utf8'))).data
  } catch {
    return undefined
  }
}
