import { tmpdir } from 'node:os'

import { expect, test } from 'vitest'

import { EmulatorError } from './machines/emulator.ts'
import { runEmulator } from './machines/process.ts'

/** How a command fails that stands for an emulator, or undefined where it does not. */
async function failureOf(command: string, args: readonly string[]): Promise<unknown> {
  const options = { directory: tmpdir(), packages: ['one', 'two'], exitCodes: [0, 1] }
  try {
    await runEmulator(command, args, options)
  } catch (error) {
    return error
  }
  return undefined
}

test('an emulator that is not there is named with the packages that bring it', async () => {
  const failure = await failureOf('no-such-emulator', [])
  expect(failure).toBeInstanceOf(EmulatorError)
  expect(failure).toMatchObject({
    code: 'EMULATOR_MISSING',
    message: 'no-such-emulator is not installed',
    hint: 'apt-get install --no-install-recommends one two',
  })
})

test('an emulator that ends otherwise than it should has its last words told', async () => {
  const failure = await failureOf(process.execPath, ['-e', 'console.log("panic"); process.exit(3)'])
  expect(failure).toMatchObject({
    code: 'EMULATOR_FAILED',
    message: `${process.execPath} ended with exit code 3 instead of 0 or 1`,
    hint: 'it said:\npanic',
  })
})

test.each([0, 1])('an emulator that ends with %i has run its guest', async (exitCode) => {
  const args = ['-e', `process.exit(${exitCode})`]
  expect(await failureOf(process.execPath, args)).toBeUndefined()
})
