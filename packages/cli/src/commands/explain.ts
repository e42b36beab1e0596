import { createEnvironment, explainCommand, findCase, traceCase } from '@trapdoor/harness'
import type { Command } from 'commander'
import { asTyped } from '../command-prefix.ts'
import { ExitCode } from '../exit-code.ts'
import { renderExplanation } from '../explain/explanation.ts'
import type { CliIo } from '../io.ts'
import { type ConfigOptions, configOf, withConfigOptions } from '../options.ts'
import { createPaint } from '../text/paint.ts'

/** Adds `trapdoor explain`. `finish` is told the exit code. */
export function addExplainCommand(
  program: Command,
  io: CliIo,
  finish: (code: number) => void,
): void {
  const command = program
    .command('explain')
    .description('run one case again and tell what happened')
    .argument('<case>', 'map/firmware/strategy/scenario, as `run` prints it')
  withConfigOptions(command)
    .option('-a, --all', 'every event and every service')
    .action(async (id: string, options: ConfigOptions & { all?: true }) => {
      const config = await configOf(options, io)
      const spec = findCase(config, id)
      const environment = createEnvironment(config)
      const text = renderExplanation(traceCase(environment, spec), {
        paint: createPaint(io),
        width: Math.max(60, io.columns ?? 100),
        all: options.all === true,
        registry: config.registry,
        memoryMap: environment.memoryMaps.find((map) => map.id === spec.memoryMapId),
        reproduce: asTyped(explainCommand(config, spec.id), io),
      })
      io.stdout.write(`${text}\n`)
      finish(ExitCode.Ok)
    })
}
