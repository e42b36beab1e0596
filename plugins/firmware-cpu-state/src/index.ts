import type { Quirk } from '@trapdoor/firmware'
import { ifEnabled } from './q44-if-enabled.ts'

export { ifEnabled }

const plugin: { name: string; apiVersion: 1; quirks: readonly Quirk[] } = {
  name: '@trapdoor/firmware-cpu-state',
  apiVersion: 1,
  quirks: [ifEnabled],
}

export default plugin
