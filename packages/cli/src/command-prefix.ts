import { delimiter } from 'node:path'
import type { CliIo } from './io.ts'

/**
 * How the user comes to this command, for lines to paste: by itself, or as a script of Trapdoor's own workspace, through the pnpm that npx
 * fetched where there is no other.
 */
function commandPrefix({ env }: CliIo): string {
  if (env['npm_package_name'] !== 'trapdoor-monorepo') return 'trapdoor'
  const fetchedByNpx = (env['PATH'] ?? '')
    .split(delimiter)
    .some((folder) => /[/\\]_npx[/\\]/.test(folder))
  const version = /^pnpm\/(\S+)/.exec(env['npm_config_user_agent'] ?? '')?.[1]
  return fetchedByNpx && version !== undefined ? `npx -y pnpm@${version} trapdoor` : 'pnpm trapdoor'
}

/** A command line that begins with `trapdoor`, as the user would type it. */
export function asTyped(command: string, io: CliIo): string {
  return command.replace(/^trapdoor\b/, commandPrefix(io))
}
