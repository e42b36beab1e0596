export { BUILT_IN_PLUGINS } from './builtin.ts'
export { ExitCode } from './exit-code.ts'
export type { CliIo, TextSink } from './io.ts'
export { runCli } from './run-cli.ts'
