import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { Command } from 'commander'
import { runQemu } from './qemu.ts'
import {
  FULL_ACCESS,
  imagePath,
  runOurs,
  UNIT_TESTS,
  type UnitTest,
  type Verdict,
} from './unit-tests.ts'

interface Options {
  readonly full?: true
  readonly only?: readonly string[]
  readonly qemu: boolean
  readonly qemuSeconds: string
}

/** Where the folder is looked for if no argument tells. */
const VARIABLE = 'TRAPDOOR_KVM_UNIT_TESTS'

const program = new Command('guests')
  .description(
    'Runs a copy of kvm-unit-tests on our CPU and under QEMU without hardware acceleration, and prints what passed, what failed, and how long it took.',
  )
  .argument(
    '[folder]',
    `a copy of kvm-unit-tests that was built with ./configure --arch=x86_64 && make; default: $${VARIABLE}`,
  )
  .option('--only <test...>', `only these of ${UNIT_TESTS.map(({ name }) => name).join(', ')}`)
  .option('--full', 'access with protection keys, too: 19 million cases')
  .option('--no-qemu', 'our CPU alone')
  .option('--qemu-seconds <n>', 'how long QEMU may take for a test', '120')
  .addHelpText(
    'after',
    '\nExit codes: 0 all passed, or no folder was named; 1 a test failed; 2 bad usage.',
  )
  .showHelpAfterError()
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
  .parse()

const options = program.opts<Options>()
const named = program.args[0] ?? process.env[VARIABLE]
if (named === undefined) {
  console.log(
    `skipped: no copy of kvm-unit-tests was named (pnpm guests FOLDER, or ${VARIABLE}=FOLDER)`,
  )
} else {
  process.exitCode = await runAll(resolve(named))
}

async function runAll(folder: string): Promise<number> {
  const wanted = options.only
  const tests = [...UNIT_TESTS, ...(options.full === true ? [FULL_ACCESS] : [])].filter(
    ({ name }) => wanted === undefined || wanted.includes(name),
  )
  const missing = tests.find((test) => !existsSync(imagePath(folder, test)))
  if (missing !== undefined) {
    console.error(`guests: there is no ${imagePath(folder, missing)}`)
    console.error('  hint: build it there with ./configure --arch=x86_64 && make')
    return 2
  }
  console.log(
    'test                         cpu        pass       fail  skip  ended           instructions  CPU s',
  )
  let areGood = true
  for (const test of tests) areGood = (await runBoth(folder, test)) && areGood
  return areGood ? 0 : 1
}

async function runBoth(folder: string, test: UnitTest): Promise<boolean> {
  const ours = runOurs(folder, test)
  console.log(row(test.name, test.cpu, ours, ours.instructions.toLocaleString('en-US')))
  if (!ours.isGood) {
    const failures = ours.text.split(/\r?\n/).filter((line) => line.startsWith('FAIL'))
    for (const line of failures.slice(0, 10)) console.log(`  ${line}`)
  }
  if (options.qemu) {
    const theirs = await runQemu(folder, test, Number(options.qemuSeconds))
    console.log(
      theirs === undefined
        ? '  QEMU                       not run: qemu-system-x86_64 is not installed'
        : row('  QEMU', test.qemuCpu.split(',')[0]!, theirs, ''),
    )
  }
  return ours.isGood
}

function row(name: string, cpu: string, verdict: Verdict, instructions: string): string {
  const { passed, failed, skipped, ended, cpuSeconds } = verdict
  return [
    name.padEnd(28),
    cpu.padEnd(10),
    String(passed).padStart(9),
    String(failed).padStart(6),
    String(skipped).padStart(5),
    ` ${ended.padEnd(16)}`,
    instructions.padStart(14),
    cpuSeconds.toFixed(2).padStart(8),
  ].join(' ')
}
