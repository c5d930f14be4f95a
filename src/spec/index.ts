/**
 * SDXI 1.0 as data: registers, structures, descriptors, codes and limits. Package subpath `sdxi/spec`.
 */
export * from './codes.js';
export * from './completion.js';
export * from './context.js';
export * from './descriptor.js';
export * from './descriptor-view.js';
export * from './dissect.js';
export * from './encode.js';
export * from './errorlog.js';
export * from './flyweights.js';
export * from './keys.js';
export * from './layout.js';
export * from './limits.js';
export * from './operations.js';
export * from './registers.js';
export * from './snapshot.js';
export * from './u64.js';
