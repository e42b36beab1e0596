import type { Plugin } from '../src/index.ts'

/** A plugin with one part of each kind; nothing in it ever runs. */
export function samplePlugin(changes: Partial<Plugin> = {}): Plugin {
  return {
    name: 'trapdoor-plugin-sample',
    apiVersion: 1,
    quirks: [
      { id: 'Q01', name: 'first-habit', title: 'Does one thing', sources: ['a mail'], hooks: {} },
      { id: 'Q02', name: 'second-habit', title: 'Does another', sources: ['a mail'], hooks: {} },
    ],
    strategies: [
      {
        name: 'plain',
        title: 'Nothing special',
        mode: 'physical',
        sources: ['a mail'],
        create: () => ({}),
      },
      {
        name: 'tuned',
        title: 'With options',
        mode: 'virtual',
        sources: ['a mail'],
        options: {
          state: { title: 'State of the patch', values: ['A', 'B'], default: 'A' },
          area: { title: 'Save area', values: ['static', 'per-cpu'], default: 'static' },
        },
        create: () => ({}),
      },
    ],
    scenarios: [
      { name: 'boot', title: 'Boots', steps: [{ name: 'boot', run: () => undefined }] },
      { name: 'kexec', title: 'Boots twice', steps: [{ name: 'boot', run: () => undefined }] },
    ],
    rules: [
      {
        id: 'H9',
        title: 'Never do that',
        severity: 'error',
        advice: 'Do this',
        sources: ['a mail'],
        watch: () => undefined,
      },
    ],
    ...changes,
  }
}
