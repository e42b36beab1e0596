import type {
  VerifiedBoot,
  VerifiedDifference,
  VerifiedKernel,
  VerifyError,
} from '@trapdoor/harness'
import { alignColumns, plural, wrap } from '../text/layout.ts'
import type { Paint } from '../text/paint.ts'

/** Differences that nobody can explain. */
export function unexplained(boots: readonly VerifiedBoot[]): number {
  return allDifferences(boots).filter(({ explanation }) => explanation === undefined).length
}

/** Boots that could not be held against the model. */
export function unread(boots: readonly VerifiedBoot[]): number {
  return boots.filter(({ error }) => error !== undefined).length
}

/** Every boot with what was compared, every difference that nobody can explain, the explanations of the others, and the sums. */
export function renderVerdict(
  boots: readonly VerifiedBoot[],
  paint: Paint,
  columns: number,
): string {
  const notes = [
    ...new Set(allDifferences(boots).flatMap(({ explanation }) => explanation?.reason ?? [])),
  ]
  const kernels = boots.flatMap((boot) => boot.kernels)
  const names = boots.flatMap((boot) =>
    boot.kernels.map((_, index) => (index === 0 ? boot.name : '')),
  )
  const heads = alignColumns(
    kernels.map((kernel, index) => [
      mark(kernel, paint),
      names[index]!,
      kernel.stage,
      kernel.version,
      kernel.strategy,
      `${kernel.descriptors} regions`,
      `${kernel.leaves} leaves`,
      `${kernel.e820Entries} of e820`,
      kernel.ending,
      paint('dim', noteNumbers(kernel, notes)),
    ]),
    [5, 6, 7],
  )
  const lines: string[] = []
  for (const [index, { differences, takenFor, notCompared, notSeen }] of kernels.entries()) {
    const open = differences.filter(({ explanation }) => explanation === undefined)
    const later =
      notCompared === undefined
        ? []
        : [`     not compared, as user space made the calls: ${notCompared}`]
    const missing =
      notSeen.length === 0 ? [] : [`     not compared, as it is missing: ${notSeen.join(', ')}`]
    const newer =
      takenFor === undefined
        ? []
        : [`     taken for Linux ${takenFor}: no strategy was read at a later version`]
    lines.push(heads[index]!, ...newer, ...open.flatMap(describe), ...later, ...missing)
  }
  const refusals = boots.flatMap(({ name, error }) => describeRefusal(name, error, paint))
  return `${[...lines, ...refusals, '', ...footnotes(boots, notes, columns), sums(boots)].join('\n')}\n`
}

function allDifferences(boots: readonly VerifiedBoot[]): VerifiedDifference[] {
  return boots.flatMap(({ kernels }) => kernels).flatMap(({ differences }) => differences)
}

function mark({ differences }: VerifiedKernel, paint: Paint): string {
  return differences.every(({ explanation }) => explanation !== undefined)
    ? paint('green', '✓')
    : paint('red', '✗')
}

/** The numbers of a kernel's explanations, as "(1, 2)". */
function noteNumbers({ differences }: VerifiedKernel, notes: readonly string[]): string {
  const numbers = notes.flatMap((note, index) =>
    differences.some(({ explanation }) => explanation?.reason === note) ? [index + 1] : [],
  )
  return numbers.length === 0 ? '' : `(${numbers.join(', ')})`
}

function describe({ subject, observed, model }: VerifiedDifference): string[] {
  return [`     ${subject}`, `       machine  ${observed}`, `       model    ${model}`]
}

/** A boot that could not be read: where, and what is wrong. */
function describeRefusal(name: string, error: VerifyError | undefined, paint: Paint): string[] {
  if (error === undefined) return []
  const file = 'file' in error ? error.file : undefined
  const line = 'line' in error ? error.line : undefined
  const place = [file, line].filter((part) => part !== undefined).join(':')
  return [
    `${paint('red', '!')}  ${name}  not compared: ${error.code}${place === '' ? '' : ` ${place}`}: ${error.message}`,
    ...(error.hint === undefined ? [] : [`     ${error.hint}`]),
  ]
}

function footnotes(
  boots: readonly VerifiedBoot[],
  notes: readonly string[],
  columns: number,
): string[] {
  const lines = notes.flatMap((note, index) => {
    const { source } = allDifferences(boots).find(
      ({ explanation }) => explanation?.reason === note,
    )!.explanation!
    const [first = '', ...rest] = wrap(`${note}. ${source}`, columns, '    ')
    return [`(${index + 1}) ${first.trimStart()}`, ...rest]
  })
  return lines.length === 0 ? [] : [...lines, '']
}

function sums(boots: readonly VerifiedBoot[]): string {
  const kernels = boots.flatMap((boot) => boot.kernels)
  const sum = (count: (kernel: VerifiedKernel) => number): number =>
    kernels.reduce((total, kernel) => total + count(kernel), 0)
  const differences = sum((kernel) => kernel.differences.length)
  return [
    `${plural(boots.length, 'boot')}, ${plural(kernels.length, 'kernel')}`,
    `${sum(({ descriptors }) => descriptors)} regions, ${sum(({ leaves }) => leaves)} leaves and ${sum(({ e820Entries }) => e820Entries)} entries of e820 maps compared`,
    `${plural(differences, 'difference')}, ${differences - unexplained(boots)} of them explained`,
    ...(unread(boots) === 0 ? [] : [`${plural(unread(boots), 'boot')} not compared`]),
  ].join(': ')
}
