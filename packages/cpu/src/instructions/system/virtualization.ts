import { Mnemonic } from 'iced-x86'

import { type InstructionFamily, type Translator, undefinedHere } from '../table.ts'

/**
 * Instructions of SVM, VMX, SMX and of system-management mode. CPUID tells of none of the former, so that each is #UD whatever the privilege level is: those of SVM where EFER.SVME is clear and
 * there is no SKINIT (APM Vol. 3, STGI and SKINIT), those of VMX where CR4.VMXE is clear or outside of VMX operation (SDM Vol. 3, chapter 31), GETSEC where CR4.SMXE is clear (SDM Vol. 2, GETSEC). RSM is #UD
 * outside of system-management mode (SDM Vol. 2, RSM), which a CPU here is never in.
 */
export const VIRTUALIZATION: InstructionFamily = {
  name: 'virtualization',
  translators: new Map<Mnemonic, Translator>(
    [
      Mnemonic.Vmrun,
      Mnemonic.Vmload,
      Mnemonic.Vmsave,
      Mnemonic.Vmmcall,
      Mnemonic.Stgi,
      Mnemonic.Clgi,
      Mnemonic.Skinit,
      Mnemonic.Invlpga,
      Mnemonic.Vmxon,
      Mnemonic.Vmxoff,
      Mnemonic.Vmclear,
      Mnemonic.Vmptrld,
      Mnemonic.Vmptrst,
      Mnemonic.Vmread,
      Mnemonic.Vmwrite,
      Mnemonic.Vmlaunch,
      Mnemonic.Vmresume,
      Mnemonic.Vmcall,
      Mnemonic.Vmfunc,
      Mnemonic.Invept,
      Mnemonic.Invvpid,
      Mnemonic.Getsec,
      Mnemonic.Rsm,
    ].map((mnemonic) => [mnemonic, undefinedHere]),
  ),
}
