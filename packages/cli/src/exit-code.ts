/** What the command line exits with. */
export const ExitCode = {
  /** Everything is as expected. */
  Ok: 0,
  /** A case did not end as expected, or a comparison found a difference that was not wanted. */
  Finding: 1,
  /** The command line, the configuration, a plugin or an input file is wrong. */
  Usage: 2,
  /** The user interrupted. */
  Interrupted: 130,
} as const
