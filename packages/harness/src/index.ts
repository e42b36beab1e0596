export {
  caseId,
  type CaseSpec,
  DEFAULT_SEED,
  firmwareLabel,
  parseCaseId,
  parseStrategyLabel,
  strategyLabel,
  type StrategySelection,
} from './config/case-spec.ts'
export {
  defineConfig,
  fromSnapshot,
  type MemoryMapReference,
  type SnapshotReference,
  type TrapdoorConfig,
} from './config/config.ts'
export { CONFIG_FILES } from './config/find.ts'
export { type ConfigOverrides, loadConfig, type LoadConfigOptions } from './config/load.ts'
export { type CaseFilters, findCase, planCases } from './config/plan.ts'
export { explainCommand } from './config/reproduce.ts'
export { type MemoryMapFile, type ResolvedConfig } from './config/resolved-config.ts'
export { HarnessError, type HarnessErrorCode, type HarnessErrorDetail } from './error.ts'
export { nameHint, nearestName } from './nearest.ts'
export type { PluginReference } from './plugin/load.ts'
export {
  definePlugin,
  type Plugin,
  PLUGIN_API_VERSION,
  type PluginFactory,
} from './plugin/plugin.ts'
export { type PluginPart, PluginRegistry } from './plugin/registry.ts'
export { collectResults, toolVersion } from './results/collect.ts'
export {
  type ExpectedOutcomes,
  parseExpected,
  serializeExpected,
  type Surprise,
  surprises,
} from './results/expected.ts'
export {
  type CaseResult,
  countOutcomes,
  type Finding,
  type FindingAccess,
  type FindingPhysical,
  type FindingWalkStep,
  type Legend,
  type MemoryMapSummary,
  type Outcome,
  OUTCOMES,
  type Results,
  type ServiceResult,
  type Severity,
  type StrategyCost,
} from './results/results.ts'
export { parseResults, resultsJsonSchema, resultsSchema } from './results/schema.ts'
export { refuseUnwritable, serializeResults, writeFileAtomically } from './results/write.ts'
export { isSample } from './scenario/sample.ts'
export { type CaseEnvironment, createEnvironment } from './case/environment.ts'
export { readMapFile } from './case/map-file.ts'
export { type CaseTrace, runCase, traceCase } from './case/run-case.ts'
export { machineOf, runCases } from './case/run-cases.ts'
export type { TableSurvey } from './case/table-survey.ts'
export type {
  Death,
  FindingDraft,
  Rule,
  RuleContext,
  RuleHooks,
  TableInspection,
} from './rules/rule.ts'
export type {
  CpuProgram,
  KernelChoice,
  Scenario,
  ScenarioContext,
  ScenarioStep,
} from './scenario/scenario.ts'
export type { Difference, Subject } from './verify/difference.ts'
export type { Explanation } from './verify/explanations.ts'
export {
  type VerifiedBoot,
  type VerifiedDifference,
  type VerifiedKernel,
  type VerifyError,
  verifyFolder,
} from './verify/verify.ts'
export {
  type CellRunner,
  passes,
  type RankedStrategy,
  recommend,
  type RecommendRequest,
} from './recommend/recommend.ts'
export {
  type Execution,
  explore,
  type Explored,
  type Footprint,
  oneOfAlike,
} from './scenario/explore.ts'
