import type { EfiServices, PreparedCall } from '@trapdoor/kernel'

const VENDOR = '12345678-1234-5678-9abc-def011223344'
const BOOT_VARIABLE = { name: 'BootOrder', vendor: '8be4df61-93ca-11d2-aa0d-00e098032b8c' }
const NV_BS_RT = 7

/** Calls by the name of their service. */
export const CALLS: Readonly<Record<string, (services: EfiServices) => PreparedCall<unknown>>> = {
  GetTime: (services) => services.getTime(),
  GetVariable: (services) => services.getVariable(BOOT_VARIABLE.name, BOOT_VARIABLE.vendor),
  SetVariable: (services) =>
    services.setVariable(
      'Twin',
      VENDOR,
      NV_BS_RT,
      Uint8Array.from({ length: 40 }, (_, at) => at),
    ),
  GetNextVariableName: (services) =>
    services.getNextVariableName({ name: BOOT_VARIABLE.name, guid: BOOT_VARIABLE.vendor }),
  QueryVariableInfo: (services) => services.queryVariableInfo(NV_BS_RT),
  GetNextHighMonotonicCount: (services) => services.getNextHighMonotonicCount(),
}
