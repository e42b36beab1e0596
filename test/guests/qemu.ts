import { execa } from 'execa'
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
  // The shell tells how much processor time its child has used: `times` prints it, the children's in the second line.
  const script = `timeout ${timeLimitSeconds} "$@" 2>/dev/null; echo "exit $?"; times`
  const { stdout, failed } = await execa('sh', ['-c', script, 'sh', QEMU, ...args], {
    reject: false,
    stdin: 'ignore',
    cleanup: true,
  })
  const [, code, minutes, seconds] =
    /\nexit (\d+)\n.*\n(\d+)m([\d.]+)s \d+m[\d.]+s\s*$/.exec(stdout) ?? []
  if (failed || code === undefined || code === '127') return undefined
  const text = stdout.slice(0, stdout.lastIndexOf('\nexit '))
  return {
    ...countResults(text),
    ended: code === '124' ? `not within ${timeLimitSeconds} s` : `exit ${Number(code) >> 1}`,
    isGood: Number(code) === EXIT_OF_ZERO,
    cpuSeconds: Number(minutes) * 60 + Number(seconds),
    text,
  }
}
