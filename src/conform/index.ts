/**
 * Conformance suite: what a function has to do, checked through its bus alone. Package subpath `sdxi/conform`.
 */
export type { Check, CheckKind, CheckResult, CheckStatus, ModelOption, Need } from './check.js';
export { CHECKS } from './checks/index.js';
export { MUTANTS, type Mutant } from './mutants.js';
export { bySection, isDeviation, junitReport, tapReport } from './report.js';
export { type ConformanceOptions, type ConformanceReport, runConformance } from './run.js';
export { selectChecks } from './select.js';
export { type MutantResult, runSelfTest, type SelfTestOptions, type SelfTestReport } from './self-test.js';
