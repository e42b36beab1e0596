/** A machine to boot a firmware on. */
export interface MachineChoice {
  readonly board: 'pc' | 'q35'
  /** MiB. */
  readonly memory: number
  /** What follows -cpu. */
  readonly cpu: string
  /** More arguments, such as -device and its value. */
  readonly extra: readonly string[]
}

/** What of a machine the firmware decides. */
export interface MachineNeeds {
  readonly smm: boolean
  /** Whether the variable store is a flash of its own. */
  readonly separateVariables: boolean
  /** Whether the application is handed over by -kernel, or found on a disk. */
  readonly start: 'kernel' | 'disk'
}

/** Files of a machine in its folder. */
export const MachineFile = {
  Code: 'code.fd',
  Variables: 'variables.fd',
  Application: 'handover.efi',
  /** A folder that the machine sees as a disk with a FAT file system. */
  Disk: 'disk',
  Serial: 'serial.log',
  DebugConsole: 'debug.log',
} as const

/**
 * One instruction takes 256 ns of the machine's time, and time that nothing uses is skipped: the same firmware then does the same at the same instruction, whatever else the host does, and what it waits for
 * comes sooner than on the host's clock (QEMU, docs/devel/tcg-icount.rst).
 */
const INSTRUCTION_CLOCK = 'shift=8,sleep=off'
/** The machine's clock starts here, in UTC. */
const CLOCK_START = '2024-01-01T00:00:00'
/** Where OVMF's debug builds write to (OvmfPkg/Library/PlatformDebugLibIoPort). */
const DEBUG_PORT = '0x402'

/** The arguments of qemu-system-x86_64, which is run in the folder that has the {@link MachineFile}s. The machine waits, and the GDB stub is on standard input and output. */
export function qemuArguments(choice: MachineChoice, needs: MachineNeeds): string[] {
  return [
    ['-accel', 'tcg'],
    ['-M', needs.smm ? `${choice.board},smm=on` : choice.board],
    ['-m', `${choice.memory}M`],
    ['-cpu', choice.cpu],
    ['-smp', '1'],
    ['-nodefaults', '-no-user-config', '-no-reboot'],
    ['-display', 'none'],
    ['-icount', INSTRUCTION_CLOCK],
    ['-rtc', `base=${CLOCK_START},clock=vm`],
    // Without these, OVMF's SMM builds refuse to start, or hang in S3 code that they lack.
    needs.smm ? ['-global', 'driver=cfi.pflash01,property=secure,value=on'] : [],
    needs.smm ? ['-global', 'ICH9-LPC.disable_s3=1'] : [],
    flash(0, MachineFile.Code, needs.separateVariables ? 'fixed' : 'writable'),
    needs.separateVariables ? flash(1, MachineFile.Variables, 'writable') : [],
    ['-serial', `file:${MachineFile.Serial}`],
    ['-debugcon', `file:${MachineFile.DebugConsole}`],
    ['-global', `isa-debugcon.iobase=${DEBUG_PORT}`],
    needs.start === 'kernel'
      ? ['-kernel', MachineFile.Application]
      : ['-drive', `format=raw,file=fat:rw:${MachineFile.Disk}`],
    choice.extra,
    ['-gdb', 'stdio', '-S'],
  ].flat()
}

function flash(unit: number, file: string, access: 'fixed' | 'writable'): string[] {
  const options = `if=pflash,unit=${unit},format=raw${access === 'fixed' ? ',readonly=on' : ''}`
  return ['-drive', `${options},file=${file}`]
}
