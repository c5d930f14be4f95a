import type { Access } from '../memory/address-space.js';
import type { RegionSource } from '../memory/arena.js';
import type { Region } from '../memory/region.js';

/** Memory as a bus maps it for its function. */
export interface MapRequest {
  /** DMA address of the first byte; congruent with the memory's process address modulo 4096. */
  iova: number;
  region: Region;
  /** Part of the region; default all of it. */
  offset?: number;
  byteLength?: number;
  access: Access;
  /** Address space; default the function's own (no PASID). */
  pasid?: number;
}

/** What memory suits a bus, and what the bus makes of it; whoever allocates may do otherwise. */
export interface MemoryAdvice {
  /** How much to map at once, where small pieces are cut out of it: mapping may be slow, and pinned memory may be scarce. */
  readonly chunkBytes?: number;
  readonly source?: RegionSource;
  /** What is granted for writing alone may be readable, too: not every IOMMU tells the two apart. */
  readonly writeOnlyIsReadable?: boolean;
}

export interface WaitOptions {
  /** What is waited for, for the error message. */
  what: string;
  timeoutMs: number;
  signal?: AbortSignal;
  /** An interrupt vector that announces the condition: lets the wait sleep. Without it the wait polls. */
  vector?: number;
  /** `polled` never sleeps on the vector, `interrupt` sleeps at once, `adaptive` (default) polls briefly first. */
  mode?: 'adaptive' | 'polled' | 'interrupt';
}

/**
 * How a driver reaches one function: its registers, its doorbells, its memory, its interrupts, and the only way to wait.
 * Register accesses are synchronous. All methods throw ClosedError after close() and BusLostError once the function's
 * side is gone (thread died, process vanished, device removed).
 */
export interface Bus {
  /** What `open` was given, e.g. `embedded:?maxContext=7`. */
  readonly uri: string;
  /** Interrupt vectors that the function can raise; vector 0 is the error interrupt (SDXI 1.0 §3.4). */
  readonly vectors: number;
  /** Size of the doorbell region in bytes (BAR 2). */
  readonly doorbellBytes: number;
  /**
   * Virtual functions 1, 2, … of a physical one (SR-IOV), each with memory and interrupts of its own; else empty. Closing the bus closes
   * theirs; a bus of theirs that is closed resets its function and takes its memory from it.
   */
  readonly virtualFunctions: readonly Bus[];
  /** How the function is reached, for people: `sdxi info` prints it. */
  readonly details?: Readonly<Record<string, string | number>>;
  readonly memoryAdvice?: MemoryAdvice;

  /** Reads the 64-bit register at a byte offset of BAR 0. */
  readRegister(offset: number): bigint;
  /** Writes a 64-bit register; returns after the function has seen it. */
  writeRegister(offset: number, value: bigint): void;
  /** 64-bit write at a byte offset of BAR 2; posted: returns at once. `value` is the producer's Write_Index (modulo 2^53). */
  writeDoorbell(offset: number, value: number): void;

  /** Grants memory to the function. Returns when it is in force. @throws SdxiError ERR_SDXI_MAPPING */
  map(request: MapRequest): void;
  /** Takes memory back. Returns when no access to it is in flight any more (S-102). Unknown ranges are ignored. */
  unmap(iova: number, byteLength: number, pasid?: number): void;

  /** How often a vector has been delivered so far (modulo 2^32). */
  interruptCount(vector: number): number;
  /** A masked vector is not delivered; it is remembered as pending, and delivered when unmasked (MSI-X). */
  maskInterrupt(vector: number): void;
  unmaskInterrupt(vector: number): void;
  /** True while a masked vector has something to deliver. */
  interruptPending(vector: number): boolean;

  /**
   * Resolves as soon as `condition` holds; it is called often and must be cheap. It is looked at once more after the deadline.
   * @throws TimeoutError, AbortError, BusLostError, ClosedError
   */
  wait(condition: () => boolean, options: WaitOptions): Promise<void>;
  /** Spins on the calling thread until `condition` holds or `timeoutMs` passed; for waits of microseconds. Returns whether it holds. */
  spin(condition: () => boolean, timeoutMs: number): boolean;

  /** While something is in flight the process must stay alive; counted: each ref() needs its unref(). */
  ref(): void;
  unref(): void;

  /** Function-level reset as the transport does it (S-46, S-107). */
  reset(): void;
  /** Ends the connection. Idempotent; waits that are pending reject with ClosedError. */
  close(): Promise<void>;
}

/** The next thing a bus can tell about: a device that {@link Bus} could be opened on. */
export interface FoundFunction {
  uri: string;
  description: string;
  /** What has to be done before it can be opened. */
  hint?: string;
}
