/** State components of XSAVE, as bits of XCR0 (SDM Vol. 1, 13.1). Others are not modelled, and CPUID does not have them. */
export const X87_COMPONENT = 1
export const SSE_COMPONENT = 2
export const STATE_COMPONENTS: number = X87_COMPONENT | SSE_COMPONENT
/** Words of the header that follows the legacy region, and bytes of both (SDM Vol. 1, 13.4). */
export const XSAVE_HEADER_WORDS = 16
export const XSAVE_AREA_BYTES: number = 512 + XSAVE_HEADER_WORDS * 4
