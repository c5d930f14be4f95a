/**
 * sdxi: memory-to-memory data movers after the SNIA Smart Data Accelerator Interface, SDXI 1.0.
 * Lower floors have subpaths of their own: `sdxi/driver`, `sdxi/bus`, `sdxi/function`, `sdxi/spec`; the conformance suite is `sdxi/conform`.
 */
export * from './errors.js';
export * from './mover/index.js';
