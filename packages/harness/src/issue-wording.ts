import type { z } from 'zod'

/** What a schema wanted and what it got, without zod's own frame around them. */
export interface IssueWording {
  readonly expected: string
  /** The kind of what there was; undefined where zod does not say. */
  readonly received: string | undefined
}

/** Takes zod's message of a wrong value apart; a message that a schema brings itself is what was expected. */
export function issueWording({ message }: z.core.$ZodIssue): IssueWording {
  const match = /^Invalid (?:input|option): expected (.*?)(?:, received (.*))?$/.exec(message)
  return { expected: match?.[1] ?? message, received: match?.[2] }
}
