import { describe, expect, test } from 'vitest'
import { definePlugin, type Plugin, PluginRegistry } from '../src/index.ts'
import { samplePlugin } from './sample-plugin.ts'
import { thrownBy } from './thrown.ts'

/** A plugin as an author writes it who has no types. */
function untyped(plugin: unknown): Plugin {
  return plugin as Plugin
}

describe('definePlugin', () => {
  test('hands a plugin back unchanged', () => {
    const plugin = samplePlugin()
    expect(definePlugin(plugin)).toBe(plugin)
  })

  test('names a mistyped hook, the quirk it is in, and the hook that was meant', async () => {
    const [first, second] = samplePlugin().quirks!
    const quirks = [first, { ...second, hooks: { setVirtualAddresMap: () => undefined } }]
    const error = await thrownBy(() => definePlugin(untyped(samplePlugin({ quirks } as never))))
    expect(error.code).toBe('HARNESS_BAD_PLUGIN')
    expect(error.message).toBe(
      'expected a hook of the firmware, found "setVirtualAddresMap" in quirks[1] "Q02".hooks of plugin "trapdoor-plugin-sample"',
    )
    expect(error.hint).toBe('did you mean "setVirtualAddressMap"?')
  })

  test('names an unknown key and the nearest legal one', async () => {
    const error = await thrownBy(() =>
      definePlugin(untyped({ ...samplePlugin(), quirk: samplePlugin().quirks })),
    )
    expect(error.found).toBe('"quirk" in plugin "trapdoor-plugin-sample"')
    expect(error.hint).toBe('did you mean "quirks"?')
  })

  test('refuses another interface with a hint', async () => {
    const error = await thrownBy(() => definePlugin(untyped({ ...samplePlugin(), apiVersion: 2 })))
    expect(error.expected).toBe('apiVersion 1')
    expect(error.found).toBe('2 in plugin "trapdoor-plugin-sample"')
    expect(error.hint).toContain('needs another Trapdoor')
  })

  test('says where a value of the wrong kind is', async () => {
    const [strategy] = samplePlugin().strategies!
    const strategies = [{ ...strategy, create: 'later' }]
    const error = await thrownBy(() => definePlugin(untyped(samplePlugin({ strategies } as never))))
    expect(error.message).toBe(
      'expected a function, found "later" in strategies[0] "plain".create of plugin "trapdoor-plugin-sample"',
    )
  })

  test('refuses one id twice', async () => {
    const [quirk] = samplePlugin().quirks!
    const quirks = [quirk!, { ...quirk!, name: 'other-habit' }]
    const error = await thrownBy(() => definePlugin(samplePlugin({ quirks })))
    expect(error.message).toBe(
      'expected every quirk id once, found "Q01" twice in plugin "trapdoor-plugin-sample"',
    )
  })

  test('refuses a default that is no legal value of its option', async () => {
    const [plain] = samplePlugin().strategies!
    const options = { state: { title: 'State', values: ['A', 'B'], default: 'C' } }
    const strategies = [{ ...plain!, options }]
    const error = await thrownBy(() => definePlugin(samplePlugin({ strategies })))
    expect(error.expected).toBe('the default of option "state" among its values (A, B)')
  })
})

describe('PluginRegistry', () => {
  test('finds a quirk by its id and by its name', () => {
    const registry = new PluginRegistry([samplePlugin()])
    expect(registry.quirk('Q02')).toBe(registry.quirk('second-habit'))
    expect(registry.pluginOf('quirk', 'Q02')).toBe('trapdoor-plugin-sample')
  })

  test('gives the nearest legal name for an unknown one', async () => {
    const registry = new PluginRegistry([samplePlugin()])
    const error = await thrownBy(() => registry.strategy('plan'))
    expect(error.code).toBe('HARNESS_UNKNOWN_NAME')
    expect(error.hint).toBe('did you mean "plain"?')
  })

  test('takes two copies of one plugin for one, whatever their identity', () => {
    const registry = new PluginRegistry([samplePlugin(), samplePlugin()])
    expect(registry.plugins).toHaveLength(1)
  })

  test('refuses one name in two plugins and names both', async () => {
    const { quirks = [] } = samplePlugin()
    const other: Plugin = { name: 'trapdoor-plugin-other', apiVersion: 1, quirks }
    const error = await thrownBy(() => new PluginRegistry([samplePlugin(), other]))
    expect(error.code).toBe('HARNESS_DUPLICATE_NAME')
    expect(error.message).toBe(
      'expected quirk "Q01" from one plugin, found it in "trapdoor-plugin-sample" and in "trapdoor-plugin-other"',
    )
  })

  test('refuses two versions of one plugin', async () => {
    const error = await thrownBy(
      () =>
        new PluginRegistry([
          samplePlugin({ version: '1.0.0' }),
          samplePlugin({ version: '2.0.0' }),
        ]),
    )
    expect(error.found).toBe('two different plugins named "trapdoor-plugin-sample"')
  })
})
