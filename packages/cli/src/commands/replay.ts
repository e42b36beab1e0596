import { existsSync, readdirSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { type ReplayedCall, replayFolder } from '@trapdoor/replay'
import type { Command } from 'commander'
import { ExitCode } from '../exit-code.ts'
import type { CliIo } from '../io.ts'
import { renderReplay, type ReplayedFolder } from '../replay/report.ts'
import { createPaint } from '../text/paint.ts'

interface ReplayOptions {
  readonly json?: true
}

/** Adds `trapdoor replay`. `finish` is told the exit code. */
export function addReplayCommand(
  program: Command,
  io: CliIo,
  finish: (code: number) => void,
): void {
  program
    .command('replay')
    .description('run recorded calls of a firmware again, and compare')
    .argument('<folder>', 'a recording (snapshot.json, vectors.json.gz, …), or a folder of such')
    .option('--json', 'print the comparison as JSON')
    .action(async (argument: string, options: ReplayOptions) => {
      const folders: ReplayedFolder[] = []
      for (const folder of recordings(resolve(io.cwd, argument))) {
        const calls: ReplayedCall[] = []
        for (const call of replayFolder(folder)) {
          calls.push(call)
          // A pending interrupt is delivered only when this gives way.
          await setImmediate()
          if (io.signal?.aborted === true) {
            finish(ExitCode.Interrupted)
            return
          }
        }
        folders.push({ folder, calls })
      }
      io.stdout.write(
        options.json === true
          ? `${JSON.stringify(folders, undefined, 2)}\n`
          : renderReplay(folders, createPaint(io)),
      )
      const isSame = folders.every(({ calls }) =>
        calls.every((call) => call.differences.length === 0),
      )
      finish(isSame ? ExitCode.Ok : ExitCode.Finding)
    })
}

/** A folder that is a recording, or those in it that are. */
function recordings(folder: string): string[] {
  const isFolder = statSync(folder, { throwIfNoEntry: false })?.isDirectory() === true
  if (!isFolder || existsSync(join(folder, 'snapshot.json'))) return [folder]
  const inside = readdirSync(folder)
    .toSorted()
    .map((name) => join(folder, name))
    .filter((each) => existsSync(join(each, 'vectors.json.gz')))
  return inside.length === 0 ? [folder] : inside
}
