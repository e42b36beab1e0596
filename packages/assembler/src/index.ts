export { Assembler, type CodeBits, Condition, type ControlRegister, Register } from './assembler.ts'
export { AssemblerError, type AssemblerErrorCode } from './error.ts'
