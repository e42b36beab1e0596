import { type CpuFeatures, NEHALEM, QEMU_TCG } from '@trapdoor/core'

/**
 * Which CPU an emulated machine had, as far as page tables can tell: levels of paging and 1 GiB pages. `-cpu max` is what QEMU's TCG emulates. Every other name is taken for Nehalem, with neither,
 * as QEMU's qemu64, kvm64 and its models of Intel's CPUs up to Nehalem are; of a later one by its name, the flags have to say more. They switch on or off: `flag`, `flag=on` and `flag=off`, of which
 * the last one counts, `+flag` over these, and `-flag` over all (QEMU target/i386/cpu.c: x86_cpu_parse_featurestr(); tests/qtest/test-x86-cpuid-compat.c: test_plus_minus_subprocess()).
 */
export function featuresOf(cpuModel: string): CpuFeatures {
  const [name, ...words] = cpuModel.split(',')
  const model = name === 'max' ? QEMU_TCG : NEHALEM
  const isOn = (flag: string): boolean | undefined => {
    if (words.includes(`-${flag}`)) return false
    if (words.includes(`+${flag}`)) return true
    const word = words.findLast((each) => each.split('=')[0] === flag)
    return word === undefined ? undefined : !word.endsWith('=off')
  }
  return {
    ...model,
    la57: isOn('la57') ?? model.la57,
    pages1G: isOn('pdpe1gb') ?? model.pages1G,
  }
}
