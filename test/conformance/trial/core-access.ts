import { type Access, AccessKind } from '@trapdoor/core'

import { AccessBit } from '../oracle/access-rights.ts'

/** What core calls what an access does. */
export function verbOf(access: number): Access {
  if ((access & AccessBit.Fetch) !== 0) return 'execute'
  return (access & AccessBit.Write) !== 0 ? 'write' : 'read'
}

function kindOf(access: number): number {
  const verb = verbOf(access)
  const kind =
    verb === 'execute' ? AccessKind.Execute : verb === 'write' ? AccessKind.Write : AccessKind.Read
  if ((access & AccessBit.User) !== 0) return kind + AccessKind.UserOffset
  return (access & AccessBit.Implicit) !== 0 ? kind + AccessKind.ImplicitOffset : kind
}

/** Core's AccessKind of each access. */
export const KINDS: readonly number[] = Array.from({ length: 10 }, (_, access) => kindOf(access))
