import type { ResolvedConfig } from './resolved-config.ts'

/** The command line that explains a case of this configuration, to be pasted into a POSIX shell. */
export function explainCommand(config: ResolvedConfig, caseId: string): string {
  return ['trapdoor', 'explain', caseId, ...config.commandArguments].map(quote).join(' ')
}

function quote(word: string): string {
  return /^[\w./:=,+@#%-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`
}
