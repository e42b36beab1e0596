export { boot, bootToRuntime, Caller, SMALL_MAP, smallFirmware, VIRTUAL_BASE } from './caller.ts'
export { APPEND, BS, GLOBAL, NV, RT, Variables } from './variables.ts'
