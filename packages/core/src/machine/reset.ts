/** The machine was reset: nothing that ran goes on. It is thrown by the write to the port that does it. */
export class MachineReset extends Error {
  override readonly name = 'MachineReset'
  /** `cold` and `warm` restart, `shutdown` powers off. */
  readonly type: 'cold' | 'warm' | 'shutdown'
  /** What did it, such as "0x6 written to port 0xcf9". */
  readonly by: string

  constructor(type: 'cold' | 'warm' | 'shutdown', by: string) {
    super(`machine reset (${type}): ${by}`)
    this.type = type
    this.by = by
  }
}
