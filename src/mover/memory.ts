import { checkDuration, checkOptions } from '../bus/checks.js';
import { Cleaner, type DmaRange, type IovaSpace, type SdxiDriver } from '../driver/index.js';
import { ArgumentError, SdxiError } from '../errors.js';
import { Access } from '../memory/address-space.js';
import { Arena, type Block } from '../memory/arena.js';
import { type PinnableMemory, pinRegion, type Region } from '../memory/region.js';
import { RangeIndex } from './range-index.js';

/** A range of process memory that the functions of a mover may access. */
export class Grant {
  /** DMA address of the first byte; the same for all functions. */
  readonly iova: number;
  /** Process address of the first byte. */
  readonly address: number;
  /** Position in its ArrayBuffer. */
  readonly start: number;
  readonly end: number;
  /** Requests that use it. */
  users = 0;
  private onIdle: (() => void) | undefined;

  constructor(iova: number, address: number, start: number, byteLength: number) {
    this.iova = iova;
    this.address = address;
    this.start = start;
    this.end = start + byteLength;
  }

  /** One request less. */
  release(): void {
    if (--this.users === 0) this.onIdle?.();
  }

  /** Calls back once nothing uses it, now or later. */
  whenIdle(callback: () => void): void {
    if (this.users === 0) callback();
    else this.onIdle = callback;
  }
}

/** DMA memory of the mover's own. */
export interface Scratch {
  readonly bytes: Buffer<ArrayBuffer>;
  readonly iova: number;
  free(): void;
}

/** Memory of the user's that a mover may work on, until it is closed. */
export interface Registration {
  readonly byteLength: number;
  /**
   * Waits for the work that uses the memory, then takes it away from the functions. New work on it is refused at once. Idempotent.
   * @param options.timeoutMs after so long the memory is taken away from work in flight, which then fails; default 30000
   */
  close(options?: { timeoutMs?: number }): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface RegisterOptions {
  /** What the functions may do with it; default both. */
  access?: 'read' | 'write' | 'readWrite';
}

/** A registration that is closed waits so long for work in flight. */
const CLOSE_MS = 30_000;

const ACCESS = { read: Access.READ, write: Access.WRITE, readWrite: Access.READ_WRITE } as const;

interface Chunk {
  readonly region: Region;
  readonly ranges: DmaRange[];
  readonly iova: number;
}

/** All memory that a mover knows: what it allocated, and what was registered with it. */
export class MemoryTable {
  /** The grant that the last {@link locate} found. */
  grant!: Grant;
  readonly iovas: IovaSpace;
  private readonly drivers: readonly SdxiDriver[];
  private readonly arena: Arena;
  private readonly cleaner = new Cleaner();
  private readonly chunks = new Map<Region, Chunk>();
  private readonly blocks = new Map<Grant, Block>();
  private readonly registered = new Set<Grant>();
  private readonly byBuffer = new WeakMap<ArrayBufferLike, RangeIndex>();
  private lastBuffer: ArrayBufferLike | undefined;
  private lastIndex: RangeIndex | undefined;

  constructor(drivers: readonly SdxiDriver[], iovas: IovaSpace) {
    this.drivers = drivers;
    this.iovas = iovas;
    const advice = drivers.map(({ bus }) => bus.memoryAdvice ?? {});
    const chunks = advice.map(({ chunkBytes }) => chunkBytes).filter((bytes) => bytes !== undefined);
    this.arena = new Arena({
      onGrow: (region) => this.grow(region),
      onShrink: (region) => this.shrink(region),
      source: advice.find(({ source }) => source)?.source,
      chunkBytes: chunks.length > 0 ? Math.min(...chunks) : undefined,
    });
  }

  /**
   * The DMA address of a view; {@link grant} says whose it is. Tens of ns: this runs for every operand.
   * @param byteLength of the view, which the caller has looked up already
   * @throws SdxiError ERR_SDXI_NOT_REGISTERED, ERR_SDXI_DETACHED
   */
  locate(view: ArrayBufferView, byteLength: number, what: string): number {
    const { buffer, byteOffset } = view;
    if (buffer !== this.lastBuffer) {
      this.lastBuffer = buffer;
      this.lastIndex = this.byBuffer.get(buffer);
    }
    const grant = this.lastIndex?.find(byteOffset, byteOffset + byteLength);
    if (grant === undefined) throw this.unknown(view, what);
    this.grant = grant;
    return grant.iova + (byteOffset - grant.start);
  }

  /** A view without bytes is no work, unless it lost them. @throws SdxiError ERR_SDXI_DETACHED */
  checkEmpty(view: ArrayBufferView, what: string): void {
    const { buffer } = view as { buffer: ArrayBufferLike & { detached?: boolean } };
    if (buffer.detached || (buffer.byteLength === 0 && this.byBuffer.get(buffer)?.size)) throw this.unknown(view, what);
  }

  private unknown(view: ArrayBufferView, what: string): SdxiError {
    const { buffer, byteOffset, byteLength } = view;
    const known = this.byBuffer.get(buffer);
    const fields = { operand: what, byteOffset, byteLength };
    if (byteLength === 0 && buffer.byteLength === 0) {
      return new SdxiError('ERR_SDXI_DETACHED', `the ${what} was detached`, {
        hint: 'it was transferred, or its WebAssembly memory grew: register the new buffer, or use alloc() memory, which cannot be detached',
        fields,
      });
    }
    const hint = known?.size
      ? 'only part of its ArrayBuffer is registered: a registration covers exactly the bytes of the view that was given'
      : 'use memory from mover.alloc(), or register it first (mover.register); freed and closed memory must not be used any more';
    return new SdxiError('ERR_SDXI_NOT_REGISTERED', `the ${what} is not memory of this mover`, { hint, fields });
  }

  /** @see Mover.alloc */
  alloc(byteLength: number, alignment: number): Buffer<ArrayBuffer> {
    if (!Number.isInteger(alignment) || alignment < 1 || alignment > 4096 || (alignment & (alignment - 1)) !== 0) {
      throw new ArgumentError(`memory cannot be aligned to ${String(alignment)}`, {
        hint: 'use a power of two up to 4096',
        fields: { alignment },
      });
    }
    const block = this.arena.allocate(byteLength, Math.max(alignment, 64));
    const bytes = this.cleaner.clean(block);
    const { iova } = this.chunks.get(block.region) as Chunk;
    const grant = new Grant(iova + block.offset, block.region.address + block.offset, bytes.byteOffset, byteLength);
    this.index(bytes.buffer).add(grant);
    this.blocks.set(grant, block);
    return bytes;
  }

  /** @see Mover.free */
  free(view: ArrayBufferView): void {
    const index = ArrayBuffer.isView(view) ? this.byBuffer.get(view.buffer) : undefined;
    const grant = index?.find(view.byteOffset, view.byteOffset + view.byteLength);
    const block = grant && this.blocks.get(grant);
    if (!index || !grant || !block || grant.start !== view.byteOffset || grant.end !== view.byteOffset + view.byteLength) {
      throw new ArgumentError('only memory from alloc() can be freed, as a whole and once', {
        hint: 'pass the Buffer that alloc() returned',
      });
    }
    index.delete(grant);
    this.blocks.delete(grant);
    // Work in flight still writes there: the block is nobody else's before that is over.
    grant.whenIdle(() => this.arena.free(block));
  }

  /** Memory for the mover's own use: not found by {@link locate}. */
  scratch(byteLength: number, alignment = 64): Scratch {
    const block = this.arena.allocate(byteLength, alignment);
    const { iova } = this.chunks.get(block.region) as Chunk;
    return { bytes: this.cleaner.clean(block), iova: iova + block.offset, free: () => this.arena.free(block) };
  }

  /** @see Mover.register */
  register(memory: PinnableMemory, { access = 'readWrite' }: RegisterOptions = {}): Registration {
    if (!Object.hasOwn(ACCESS, access))
      throw new ArgumentError(`access cannot be ${String(access)}`, { hint: `one of ${Object.keys(ACCESS).join(', ')}` });
    const region = pinRegion(memory);
    const iova = this.iovas.reserve(region.address, region.byteLength);
    const ranges: DmaRange[] = [];
    const unmap = () => {
      for (const range of ranges.splice(0)) range.close();
      this.iovas.release(iova, region.byteLength);
    };
    try {
      for (const driver of this.drivers) ranges.push(driver.map(region, ACCESS[access], iova));
    } catch (error) {
      unmap();
      throw error;
    }
    const { bytes } = region;
    const grant = new Grant(iova, region.address, bytes.byteOffset, region.byteLength);
    const index = this.index(bytes.buffer);
    index.add(grant);
    this.registered.add(grant);
    let closing: Promise<void> | undefined;
    const close = async (timeoutMs: number): Promise<void> => {
      index.delete(grant);
      await idleWithin(grant, timeoutMs);
      this.registered.delete(grant);
      unmap();
    };
    return {
      byteLength: region.byteLength,
      close: async (options) => {
        checkOptions(options);
        checkDuration(options?.timeoutMs);
        closing ??= close(options?.timeoutMs ?? CLOSE_MS);
        await closing;
      },
      [Symbol.asyncDispose]: () => {
        closing ??= close(CLOSE_MS);
        return closing;
      },
    };
  }

  /** Bytes and pieces, for info(). */
  summary(): Record<string, number> {
    let registeredBytes = 0;
    for (const { start, end } of this.registered) registeredBytes += end - start;
    let allocatedBytes = 0;
    for (const { start, end } of this.blocks.keys()) allocatedBytes += end - start;
    return {
      registrations: this.registered.size,
      registeredBytes,
      allocations: this.blocks.size,
      allocatedBytes,
      arenaBytes: this.arena.regions.reduce((sum, region) => sum + region.byteLength, 0),
    };
  }

  /** Takes everything away. The functions are closed. */
  close(): void {
    this.arena.close();
    this.registered.clear();
    this.blocks.clear();
    this.lastBuffer = undefined;
    this.lastIndex = undefined;
  }

  private index(buffer: ArrayBufferLike): RangeIndex {
    let index = this.byBuffer.get(buffer);
    if (!index) {
      index = new RangeIndex();
      this.byBuffer.set(buffer, index);
    }
    this.lastBuffer = undefined;
    return index;
  }

  private grow(region: Region): void {
    const iova = this.iovas.reserve(region.address, region.byteLength);
    const ranges: DmaRange[] = [];
    try {
      for (const driver of this.drivers) ranges.push(driver.map(region, Access.READ_WRITE, iova));
    } catch (error) {
      for (const range of ranges) range.close();
      this.iovas.release(iova, region.byteLength);
      throw error;
    }
    this.chunks.set(region, { region, ranges, iova });
  }

  private shrink(region: Region): void {
    const chunk = this.chunks.get(region);
    if (!chunk) return;
    this.chunks.delete(region);
    for (const range of chunk.ranges) range.close();
    this.iovas.release(chunk.iova, region.byteLength);
  }
}

/** Node's timers end here; a longer one would fire at once. */
const TIMER_MAX = 2 ** 31 - 1;

function idleWithin(grant: Grant, timeoutMs: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, Math.min(timeoutMs, TIMER_MAX));
    grant.whenIdle(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
