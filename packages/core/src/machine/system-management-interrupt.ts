/** Firmware has raised a system-management interrupt (SMI), and there is nobody to handle it: the code that did does not go on. It is thrown by the write to the port. */
export class SystemManagementInterrupt extends Error {
  override readonly name = 'SystemManagementInterrupt'
  /** The byte that was written to the command port. */
  readonly command: number

  constructor(command: number) {
    super(
      `system-management interrupt 0x${command.toString(16)}: its handler is in SMRAM, which this machine does not have`,
    )
    this.command = command
  }
}
