import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { z } from 'zod'
import { SnapshotError } from '../error.ts'

/** A number that is written as 0x… in a string; a physical address or a register that a double holds. */
export const hexNumber: z.ZodType<number> = z
  .string()
  .regex(/^0x[\da-f]+$/i, 'a number such as "0x1f9ec018"')
  .transform(Number)
  .refine(Number.isSafeInteger, 'a number below 2^53')

/** A 64-bit number that is written as 0x… in a string. */
export const hexBigint: z.ZodType<bigint> = z
  .string()
  .regex(/^0x[\da-f]{1,16}$/i, 'a 64-bit number such as "0xffffffff8108b940"')
  .transform(BigInt)

/** Bytes in hexadecimal. */
export const hexBytes: z.ZodType<Uint8Array> = z
  .string()
  .regex(/^(?:[\da-f]{2})*$/i, 'bytes as hexadecimal digits')
  .transform((digits) => new Uint8Array(Buffer.from(digits, 'hex')))

function isNotThere(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT'
}

/** Who makes the file, where a folder without it is a mistake that is easily made. */
function hintFor(name: string): string | undefined {
  if (name === 'snapshot.json') return '`trapdoor capture` writes the folder of a snapshot'
  if (name.startsWith('vectors.')) return '`trapdoor capture --vectors` records calls'
  return undefined
}

/** The files of a folder. What is missing, damaged or not what it has to be is a {@link SnapshotError} with file and place. */
export class ObservedFolder {
  readonly path: string

  constructor(path: string) {
    this.path = path
    const found = statSync(path, { throwIfNoEntry: false })
    if (found?.isDirectory() === true) return
    throw new SnapshotError('SNAPSHOT_NOT_FOUND', {
      file: path,
      expected: 'the folder of a snapshot',
      found: found === undefined ? 'nothing of this name' : 'a file',
    })
  }

  has(name: string): boolean {
    return existsSync(join(this.path, name))
  }

  /** The bytes of a file, unpacked where its name ends in .gz. */
  bytes(name: string): Uint8Array {
    const file = join(this.path, name)
    let packed: Uint8Array
    try {
      packed = readFileSync(file)
    } catch (cause) {
      throw new SnapshotError('SNAPSHOT_NOT_FOUND', {
        file,
        expected: 'a file of the snapshot',
        found: isNotThere(cause)
          ? 'no such file'
          : cause instanceof Error
            ? cause.message
            : String(cause),
        hint: hintFor(name),
        cause,
      })
    }
    if (!name.endsWith('.gz')) return packed
    try {
      return new Uint8Array(gunzipSync(packed))
    } catch (cause) {
      throw new SnapshotError('SNAPSHOT_DAMAGED', {
        file,
        expected: 'a whole gzip file',
        found: cause instanceof Error ? cause.message : String(cause),
        cause,
      })
    }
  }

  /** An error about the bytes of a file. */
  damaged(name: string, expected: string, found: string | number): SnapshotError {
    return new SnapshotError('SNAPSHOT_DAMAGED', {
      file: join(this.path, name),
      expected,
      found: typeof found === 'number' ? `${found} bytes` : found,
    })
  }

  /** A JSON document that has the shape of `schema`. */
  json<Schema extends z.ZodType>(name: string, schema: Schema): z.output<Schema> {
    const file = join(this.path, name)
    let document: unknown
    try {
      document = JSON.parse(new TextDecoder().decode(this.bytes(name)))
    } catch (cause) {
      if (cause instanceof SnapshotError) throw cause
      throw new SnapshotError('SNAPSHOT_DAMAGED', {
        file,
        expected: 'JSON',
        found: cause instanceof Error ? cause.message : String(cause),
        cause,
      })
    }
    const read = schema.safeParse(document)
    if (read.success) return read.data
    const [issue] = read.error.issues
    throw this.bad(name, issue!.message.replace(/^Invalid input: expected /, ''), issue!.path)
  }

  /** An error about what stands in a file, at this place. */
  bad(name: string, expected: string, path: readonly PropertyKey[], found?: string): SnapshotError {
    const place = path.reduce<string>(
      (text, key) =>
        typeof key === 'number'
          ? `${text}[${key}]`
          : text === ''
            ? String(key)
            : `${text}.${String(key)}`,
      '',
    )
    return new SnapshotError('SNAPSHOT_BAD_CONTENT', {
      file: join(this.path, name),
      expected,
      found: `${found ?? 'something else'} ${place === '' ? 'at its top' : `in ${place}`}`,
    })
  }
}
