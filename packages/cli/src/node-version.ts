/** The oldest Node.js that strips types without a flag. */
const OLDEST = [22, 18] as const

/** What to say to a Node.js of this version that cannot run the command; undefined where it can. */
export function oldNodeMessage(version: string): string | undefined {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return undefined
  return [
    'error TRAPDOOR_OLD_NODE: expected Node.js 22.18 or newer, found ',
    `${version}\n  hint: configurations and plugins in .ts need it; Node.js 24 is the current LTS\n`,
  ].join('')
}
