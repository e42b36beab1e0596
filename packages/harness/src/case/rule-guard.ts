import { HarnessError } from '../error.ts'
import type { PluginRegistry } from '../plugin/registry.ts'
import type { Rule, RuleHooks } from '../rules/rule.ts'
import { explainsItself, isMachineOutcome } from './error-kind.ts'

/** Does the work of a rule; a mistake in it becomes HARNESS_PLUGIN_THREW with the names of rule and plugin. */
export class RuleGuard {
  readonly #rule: Rule
  readonly #registry: PluginRegistry

  constructor(rule: Rule, registry: PluginRegistry) {
    this.#rule = rule
    this.#registry = registry
  }

  run<T>(work: () => T): T {
    try {
      return work()
    } catch (error) {
      throw this.#explained(error)
    }
  }

  /** A function that does the same under this guard. Hooks are called often: it makes no closures and no lists. */
  around<First, Second, Result>(
    work: (first: First, second: Second) => Result,
  ): (first: First, second: Second) => Result {
    return (first, second) => {
      try {
        return work(first, second)
      } catch (error) {
        throw this.#explained(error)
      }
    }
  }

  /** What it runs into on the machine is the machine's, and errors with a code explain themselves. */
  #explained(error: unknown): unknown {
    if (isMachineOutcome(error) || explainsItself(error)) return error
    const { id } = this.#rule
    return new HarnessError('HARNESS_PLUGIN_THREW', {
      expected: `rule ${id} of ${this.#registry.pluginOf('rule', id)} to run`,
      found: error instanceof Error ? `${error.name}: ${error.message}` : String(error),
      hint: 'the stack of the cause names the plugin’s file',
      cause: error,
    })
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
      guard.run(watch)
    } finally {
      this.#guard = undefined
    }
  }

  #intercept(hook: RuleHooks[keyof RuleHooks]): void {
    hook.intercept({
      register: (tap) => {
        const guard = this.#guard
        if (guard === undefined) return tap
        return { ...tap, fn: guard.around(tap.fn as (first: unknown, second: unknown) => unknown) }
      },
    })
  }
}
