import { compileFunction } from 'node:vm'
import type { Execution } from '../execution.ts'
import type { Block, Operation } from './block.ts'

type Whole = (general: Int32Array, execution: Execution) => number

/** Texts are told apart by it: functions of the same text would share what V8 learns about them. */
let joined = 0

/**
 * Makes one function of a block's operations. Each call in it has one target only, so that V8, which sees no more than calls to anywhere in a loop over operations, compiles what they do in a row. The
 * operations stay what they are, and so does what they come to.
 */
export function joinOperations({ operations, plain }: Block): Whole {
  joined++
  const names = operations.map((_, index) => `o${index}`)
  const lines = names.map((name, at) => {
    if (plain[at] === true) return `${name}(g, e)`
    const isLast = at === names.length - 1
    return `e.at = ${at}; ${name}(g, e)${isLast ? '' : `; if (e.end === 0) return ${at + 1}`}`
  })
  const body = [
    `// ${joined}`,
    'return (g, e) => {',
    'e.end = 1',
    ...lines,
    `return ${names.length}`,
    '}',
  ]
  const make = compileFunction(body.join('\n'), names) as (...all: readonly Operation[]) => Whole
  return make(...operations)
}
