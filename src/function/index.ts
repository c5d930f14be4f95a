/** The device wing: one SDXI 1.0 function, without threads, sockets or system calls. */
export { type FunctionConfig, functionConfig, parseFunctionOptions } from './config.js';
export type { FunctionCounters } from './core.js';
export { Fabric, type Peer } from './fabric.js';
export { SdxiFunction } from './function.js';
export type { CompletionFault, DescriptorFault, FabricPort, FaultPort, FunctionPorts, InterruptPort } from './ports.js';
export type { FunctionSnapshot } from './snapshot.js';
export { CONTEXT_TRANSITIONS, FUNCTION_TRANSITIONS } from './state.js';
