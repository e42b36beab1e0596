import { esxMmap } from './esx-mmap.ts'
import { freebsdText } from './freebsd-text.ts'
import { grub } from './grub.ts'
import { linuxArm } from './linux-arm.ts'
import { linuxMemattr } from './linux-memattr.ts'
import { linuxNumbered } from './linux-numbered.ts'
import { linuxRemoveMmio } from './linux-remove-mmio.ts'
import { opencoreDevirt } from './opencore-devirt.ts'
import type { MapReader } from './reader.ts'
import { runtimeMapList } from './runtime-map.ts'
import { shell } from './shell.ts'
import { uboot } from './uboot.ts'
import { xen } from './xen.ts'

/** Every form that is read line by line; no line is an entry of two of them. */
export const MAP_READERS: readonly MapReader[] = [
  linuxNumbered,
  linuxRemoveMmio,
  linuxMemattr,
  linuxArm,
  runtimeMapList,
  shell,
  grub,
  xen,
  uboot,
  esxMmap,
  opencoreDevirt,
  freebsdText,
]
