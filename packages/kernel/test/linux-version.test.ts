import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compareVersions, isLinux } from '../src/index.ts'
import { boot, flat } from './booted.ts'

describe('versions', () => {
  test('are compared number by number, whatever distributions append', () => {
    expect(compareVersions('6.1.0-56-cloud-amd64', '6.1')).toBe(0)
    expect(compareVersions('6.12.117+deb12-cloud-amd64', '6.2')).toBe(1)
    expect(compareVersions('2.6.35', '2.6.37')).toBe(-1)
    expect(compareVersions('', '1')).toBe(-1)
  })

  test('are ordered as lists of numbers are', () => {
    const version = fc.array(fc.nat({ max: 20 }), { minLength: 3, maxLength: 3 })
    fc.assert(
      fc.property(version, version, (one, other) => {
        const difference = one.map((number, index) => number - other[index]!).find((by) => by !== 0)
        expect(compareVersions(one.join('.'), other.join('.'))).toBe(Math.sign(difference ?? 0))
      }),
    )
  })
})

describe('a kernel', () => {
  const strategy = { ...flat, linux: { from: '5.6', before: '7.0' } }

  test('is of its profile’s version', () => {
    const { kernel } = boot({ strategies: [strategy], linux: '6.1.0-56-cloud-amd64' })
    expect(['5.5', '6.1', '6.2'].map((version) => isLinux(kernel, version))).toEqual([
      true,
      true,
      false,
    ])
  })

  test('is of the last version that its strategy stands for, where it has none of its own', () => {
    const { kernel } = boot({ strategies: [strategy] })
    expect(isLinux(kernel, '6.19')).toBe(true)
    expect(isLinux(kernel, '7.0')).toBe(false)
  })

  test('of another system is none, and with noefi it is what it would have been', () => {
    expect(isLinux(boot().kernel, '2.6')).toBe(false)
    const { kernel } = boot({ strategies: [strategy], commandLine: 'noefi' })
    expect(isLinux(kernel, '6.0')).toBe(true)
  })
})
