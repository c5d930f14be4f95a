/** The fault catalogue of ref §12, and plans of faults for functions. */
export { exampleOf, FAULTS, type Fault, findFault, PARAMETERS, type Parameter } from './catalogue.js';
export { type PlannedFault, parseFaults } from './parse.js';
export { FaultPlan } from './plan.js';
