/**
 * The mover: copy, fill and change memory with SDXI functions. Package entry `sdxi`.
 */
export type { ChannelStats } from './channel.js';
export type { RegisterOptions, Registration } from './memory.js';
export { type BatchResult, Mover, type MoverFunction } from './mover.js';
export { type OpenOptions, open } from './open.js';
export type { AtomicName, AtomicOperands, BatchItem } from './planner.js';
export type { OperationOptions } from './request.js';
