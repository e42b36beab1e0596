import { parseCaseId } from './case-spec.ts'
import type { ResolvedConfig } from './resolved-config.ts'

/** The command line that explains a case of this configuration, to be pasted into a POSIX shell. */
export function explainCommand(config: ResolvedConfig, caseId: string): string {
  const { memoryMapId } = parseCaseId(caseId)
  const map = config.memoryMaps.find(({ id }) => id === memoryMapId)
  const words = ['trapdoor', 'explain', caseId, ...config.commandArguments]
  if (map?.argument !== undefined) {
    words.push(map.kind === 'snapshot' ? '--snapshot' : '--memory-map', map.argument)
  }
  return words.map(quote).join(' ')
}

function quote(word: string): string {
  return /^[\w./:=,+@#%-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`
}
