export { highHalf, joinHalves as join, lowHalf } from '@trapdoor/core'
