export { Assembler, type CodeBits, Condition, type ControlRegister, Register } from './assembler.ts'
