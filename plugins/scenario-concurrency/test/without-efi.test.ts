import { createEnvironment, findCase, loadConfig, traceCase } from '@trapdoor/harness'
import { expect, test } from 'vitest'
import plugin from '../src/index.ts'

/** What each scenario says of itself where the kernel does without EFI. */
const SAID: Readonly<Record<string, string>> = {
  'trap-handler': 'kernel at',
  interrupts: 'kernel at',
  preemption: 'kernel at',
}

test.each(Object.entries(SAID))(
  'without runtime services %s runs to its end, and nothing is called',
  async (scenario, said) => {
    const none = {
      name: 'none',
      title: 'nothing',
      mode: 'physical' as const,
      sources: ['this test'],
      create: () => ({}),
    }
    const config = await loadConfig({
      directory: import.meta.dirname,
      builtIn: [plugin, { name: 'test', apiVersion: 1, strategies: [none] }],
      overrides: { memoryMaps: ['small.txt'], commandLine: 'noefi' },
    })
    const spec = findCase(config, `small/none/none/${scenario}`)
    const { result, events } = traceCase(createEnvironment(config), spec)
    expect(result.outcome).toBe('refused')
    const calls = result.services.filter(({ name }) => /^[A-Z]/.test(name))
    expect(calls).toEqual([])
    const messages = events.flatMap((event) => (event.kind === 'message' ? [event.text] : []))
    expect(messages.join('\n')).toContain(said)
  },
)
