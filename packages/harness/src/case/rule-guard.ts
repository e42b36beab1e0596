import { HarnessError } from '../error.ts'
import type { PluginRegistry } from '../plugin/registry.ts'
import type { Rule, RuleHooks } from '../rules/rule.ts'
import { explainsItself, isMachineOutcome } from './error-kind.ts'

/** Does the work of a rule; a mistake in it becomes HARNESS_PLUGIN_THREW with the names of rule and plugin. */
export type RuleGuard = <T>(work: () => T) => T

/** The guard of a rule. What it runs into on the machine is the machine's, and errors with a code explain themselves. */
export function guardOf(rule: Rule, registry: PluginRegistry): RuleGuard {
  return (work) => {
    try {
      return work()
    } catch (error) {
      if (isMachineOutcome(error) || explainsItself(error)) throw error
      throw new HarnessError('HARNESS_PLUGIN_THREW', {
        expected: `rule ${rule.id} of ${registry.pluginOf('rule', rule.id)} to run`,
        found: error instanceof Error ? `${error.name}: ${error.message}` : String(error),
        hint: 'the stack of the cause names the plugin’s file',
        cause: error,
      })
    }
  }
}

/** Makes what a rule taps while it begins to watch run under its guard. */
export class GuardedTaps {
  #guard: RuleGuard | undefined

  constructor(hooks: RuleHooks) {
    for (const hook of Object.values(hooks)) this.#intercept(hook)
  }

  /** Runs `watch`, which taps hooks, for the rule that `guard` is of. */
  during(guard: RuleGuard, watch: () => void): void {
    this.#guard = guard
    try {
      guard(watch)
    } finally {
      this.#guard = undefined
    }
  }

  #intercept(hook: RuleHooks[keyof RuleHooks]): void {
    hook.intercept({
      register: (tap) => {
        const guard = this.#guard
        if (guard === undefined) return tap
        return { ...tap, fn: (...args: readonly unknown[]) => guard(() => tap.fn(...args)) }
      },
    })
  }
}
