/**
 * The driver: owns one SDXI function through a bus. Package subpath `sdxi/driver`.
 */

export { allocateRegion, type FilePart, openRegion, pinRegion, type Region, type RegionSource } from '../memory/index.js';
export type { Capabilities, Limits } from './activate.js';
export { AdminQueue } from './admin.js';
export { DescriptorBatch } from './batch.js';
export { type Segment, Submission } from './completions.js';
export { type BatchOptions, Context, type WorkOptions } from './context.js';
export { Cleaner, type DmaBuffer, type DmaRange, IovaSpace, type SavedMemory } from './dma.js';
export { type ContextOptions, type DriverOptions, type ResumeOptions, SdxiDriver } from './driver.js';
export { ErrorLog, type ErrorRecord } from './errorlog.js';
export { type AKeyFields, AKeyTable, type Grant, RKeyTable } from './keys.js';
export { type Doorbell, Ring, type RingShare } from './ring.js';
export { DRIVER_SNAPSHOT_VERSION, type DriverSnapshot, type SnapshotMemory } from './snapshot.js';
export type { SuspendOptions } from './suspension.js';
export type { CompletionMode } from './tracker.js';
