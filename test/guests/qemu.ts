import { runTimed } from './processor-time.ts'
import { countResults, imagePath, type UnitTest, type Verdict } from './unit-tests.ts'

export const QEMU = 'qemu-system-x86_64'
/** isa-debug-exit makes 1 of the guest's 0. */
const EXIT_OF_ZERO = 1

/** Runs a test under QEMU without hardware acceleration, for so many seconds at the most; undefined where QEMU is not installed. */
export async function runQemu(
  folder: string,
  test: UnitTest,
  timeLimitSeconds: number,
): Promise<Verdict | undefined> {
  const args = [
    ['-nodefaults', '-no-user-config', '-no-reboot'],
    ['-display', 'none'],
    ['-accel', 'tcg'],
    ['-cpu', test.qemuCpu],
    ['-m', '256'],
    ['-serial', 'stdio'],
    ['-device', 'pc-testdev'],
    ['-device', 'isa-debug-exit,iobase=0xf4,iosize=4'],
    ['-kernel', imagePath(folder, test)],
  ].flat()
  const ran = await runTimed(QEMU, args, timeLimitSeconds)
  if (ran === undefined) return undefined
  const { stdout: text, code, cpuSeconds } = ran
  return {
    ...countResults(text),
    ended: code === 124 ? `not within ${timeLimitSeconds} s` : `exit ${code >> 1}`,
    isGood: code === EXIT_OF_ZERO,
    cpuSeconds,
    text,
  }
}
