/** EFI_RESET_TYPE (UEFI 2.10, 8.5.1). */
export const ResetType = { Cold: 0, Warm: 1, Shutdown: 2, PlatformSpecific: 3 } as const
