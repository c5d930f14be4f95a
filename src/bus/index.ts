export type { Bus, FoundFunction, MapRequest, MemoryAdvice, WaitOptions } from './bus.js';
export { attachEmbedded, doorbellOf, EmbeddedClient, type EmbeddedShare } from './embedded/client.js';
export { EmbeddedBus, engineEntry } from './embedded/embedded.js';
export { InlineBus } from './embedded/inline.js';
export type { EmbeddedOptions } from './embedded/options.js';
export { listFunctions, type OpenBusOptions, openBus } from './open.js';
export { type BusRecord, RecordingBus, type RecordingOptions } from './recording.js';
export { canSnapshot, type Snapshotting, snapshotting } from './snapshot.js';
export { VfioBus } from './vfio/vfio.js';
