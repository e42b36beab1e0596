import type { StrategyOption } from '@trapdoor/kernel'

/** One position for every switch. */
export interface Positions {
  readonly filter: 'runtime' | 'runtime-and-boot' | 'type-bits' | 'all'
  readonly addresses: 'none' | 'identity' | 'direct-map' | 'top-down' | 'constant'
  readonly svamOrder: 'ascending' | 'descending'
  readonly mergeRegions: 'off' | 'on'
  readonly retainBootServices: 'never' | 'until-svam' | 'forever'
  readonly unmapBootServices: 'off' | 'on'
  readonly identity: 'off' | 'on'
  readonly page0: 'unmapped' | 'no-execute' | 'executable'
  readonly pageSize: '4K' | '2M' | '1G'
  readonly globalBit: 'off' | 'on'
  readonly caching: 'ignore' | 'uncached' | 'best'
  readonly executable: 'everything' | 'code'
  readonly tighten: 'none' | 'properties-table' | 'memory-attributes-table'
  readonly root: 'allocated' | 'static' | 'current'
  readonly sharePgd0: 'off' | 'on'
  readonly kernelHalf: 'none' | 'two' | 'all'
  readonly syncPolicy: 'once' | 'per-call'
  readonly interrupts: 'off' | 'on'
  readonly preemption: 'off' | 'on'
  readonly saveFpu: 'off' | 'on'
  readonly saveArea: 'static' | 'per-cpu' | 'stack'
  readonly restore: 'saved' | 'task'
  readonly flush: 'nothing' | 'on-leave' | 'on-both'
  readonly lock: 'off' | 'on'
  readonly faultRecovery: 'none' | 'disable' | 'abort-call'
  readonly preemptRt: 'off' | 'on'
  readonly svamFailure: 'panic' | 'disable'
  readonly handOver: 'nothing' | 'addresses'
}

type Switch<Position> = StrategyOption & {
  readonly values: readonly Position[]
  readonly default: Position
}

/** Every choice that strategies differ in, with its default: together a cautious kernel of today. */
export const SWITCHES: { readonly [Name in keyof Positions]: Switch<Positions[Name]> } = {
  filter: {
    title:
      'which regions firmware gets: those with RUNTIME, boot services too, those whose type passes the test of bits of the 2010 patch, or all that the map lists',
    values: ['runtime', 'runtime-and-boot', 'type-bits', 'all'],
    default: 'runtime',
  },
  addresses: {
    title:
      'what SetVirtualAddressMap is told: nothing, PA, the direct map’s addresses, addresses from −4 GiB downwards, PA + a constant',
    values: ['none', 'identity', 'direct-map', 'top-down', 'constant'],
    default: 'top-down',
  },
  svamOrder: {
    title: 'the order of the map that SetVirtualAddressMap gets, and in which addresses are given',
    values: ['ascending', 'descending'],
    default: 'descending',
  },
  mergeRegions: {
    title: 'whether neighbours of one type and attribute are made one',
    values: ['off', 'on'],
    default: 'on',
  },
  retainBootServices: {
    title: 'how long boot-services memory is kept from the page allocator',
    values: ['never', 'until-svam', 'forever'],
    default: 'until-svam',
  },
  unmapBootServices: {
    title: 'whether what is given back leaves the tables',
    values: ['off', 'on'],
    default: 'on',
  },
  identity: {
    title: 'whether regions stay mapped 1:1 in calls',
    values: ['off', 'on'],
    default: 'on',
  },
  page0: {
    title: 'page 0 in the tables of calls',
    values: ['unmapped', 'no-execute', 'executable'],
    default: 'no-execute',
  },
  pageSize: {
    title: 'the largest page of the tables',
    values: ['4K', '2M', '1G'],
    default: '2M',
  },
  globalBit: { title: 'whether leaves are global', values: ['off', 'on'], default: 'off' },
  caching: {
    title:
      'what a region without write-back is mapped as: cached all the same, UC-, or the best that it names',
    values: ['ignore', 'uncached', 'best'],
    default: 'uncached',
  },
  executable: {
    title: 'what is executable',
    values: ['everything', 'code'],
    default: 'code',
  },
  tighten: {
    title:
      'which of the firmware’s tables takes rights away: none, the properties table of UEFI 2.5, the memory attributes table of 2.6',
    values: ['none', 'properties-table', 'memory-attributes-table'],
    default: 'memory-attributes-table',
  },
  root: {
    title:
      'the root of the tables: a page from the allocator, one in the kernel’s static data, or none but the current one',
    values: ['allocated', 'static', 'current'],
    default: 'allocated',
  },
  sharePgd0: {
    title:
      'whether the first root entry is the direct map’s, as in trampoline_pgd, so that what is 1:1 in the low 512 GiB is the kernel’s own map',
    values: ['off', 'on'],
    default: 'off',
  },
  kernelHalf: {
    title:
      'which root entries of the kernel firmware sees: none, those of direct map and text, all',
    values: ['none', 'two', 'all'],
    default: 'all',
  },
  syncPolicy: {
    title: 'when these are copied',
    values: ['once', 'per-call'],
    default: 'per-call',
  },
  interrupts: { title: 'RFLAGS.IF in calls', values: ['off', 'on'], default: 'on' },
  preemption: {
    title: 'whether the scheduler may take the CPU away inside a call, where interrupts are on',
    values: ['off', 'on'],
    default: 'off',
  },
  saveFpu: {
    title: 'whether a process’s floating-point state is kept over a call',
    values: ['off', 'on'],
    default: 'on',
  },
  saveArea: {
    title: 'where CR3 and IF are kept in a call: one place for all CPUs, one for each, the stack',
    values: ['static', 'per-cpu', 'stack'],
    default: 'stack',
  },
  restore: {
    title: 'what CR3 gets after a call: what was kept, or the root of the task that runs',
    values: ['saved', 'task'],
    default: 'saved',
  },
  flush: {
    title: 'what is flushed beside what a write to CR3 does',
    values: ['nothing', 'on-leave', 'on-both'],
    default: 'nothing',
  },
  lock: { title: 'whether calls wait for one another', values: ['off', 'on'], default: 'on' },
  faultRecovery: {
    title:
      'what a page fault in firmware does: kills the kernel, aborts the call and ends runtime services, aborts the call',
    values: ['none', 'disable', 'abort-call'],
    default: 'disable',
  },
  preemptRt: {
    title:
      'whether the kernel is one for real time, which goes without runtime services unless efi=runtime says otherwise',
    values: ['off', 'on'],
    default: 'off',
  },
  svamFailure: {
    title: 'what a refused SetVirtualAddressMap does',
    values: ['panic', 'disable'],
    default: 'disable',
  },
  handOver: {
    title: 'what the next kernel gets through kexec',
    values: ['nothing', 'addresses'],
    default: 'addresses',
  },
}
