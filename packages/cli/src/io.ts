/** Everything that a command line has of its surroundings. */
export interface CliIo {
  readonly stdout: TextSink
  readonly stderr: TextSink
  /** Working directory: relative paths start here. */
  readonly cwd: string
  readonly env: Readonly<Record<string, string | undefined>>
  /** Whether people read along: progress is rewritten in place, and text has colours. */
  readonly isTTY: boolean
  /** Columns of the terminal. Default: 100. */
  readonly columns?: number | undefined
  /** Aborted when the user interrupts. */
  readonly signal?: AbortSignal
}

/** Where text goes. */
export interface TextSink {
  write(text: string): unknown
}
