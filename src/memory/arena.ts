import { ArgumentError } from '../errors.js';
import { RangeAllocator } from './ranges.js';
import { allocateRegion, HUGE_PAGE_BYTES, PAGE_BYTES, type Region } from './region.js';
import { WINDOW_MAX } from './window.js';

/** A piece of an arena. */
export interface Block {
  readonly region: Region;
  /** Offset of the first byte in the region. */
  readonly offset: number;
  readonly byteLength: number;
}

interface Chunk {
  readonly region: Region;
  readonly free: RangeAllocator;
}

/** Makes DMA memory of at least so many bytes: whole pages, all zero. */
export type RegionSource = (byteLength: number) => Region;

/** The arena grows by chunks of at least this much. */
const CHUNK_BYTES = 16 * 2 ** 20;
/** Nothing that reads memory asks for more. */
const ALIGNMENT_MAX = HUGE_PAGE_BYTES;

function checkRequest(byteLength: number, alignment: number): void {
  if (!Number.isSafeInteger(byteLength) || byteLength < 1 || byteLength > WINDOW_MAX) {
    throw new ArgumentError(`cannot allocate ${String(byteLength)} bytes`, {
      hint: `one buffer holds 1 … ${WINDOW_MAX} bytes; allocate several`,
      fields: { byteLength },
    });
  }
  if (!Number.isSafeInteger(alignment) || alignment < 1 || alignment > ALIGNMENT_MAX || (alignment & (alignment - 1)) !== 0) {
    throw new ArgumentError(`cannot align memory to ${String(alignment)} bytes`, {
      hint: `alignment is a power of two from 1 to ${ALIGNMENT_MAX}`,
      fields: { alignment },
    });
  }
}

/**
 * DMA memory in small pieces: a few large regions, mapped once each, cut up first-fit. Blocks keep their chunk; a chunk
 * that is empty again goes back to the system.
 */
export class Arena {
  private readonly chunks: Chunk[] = [];
  private readonly chunkBytes: number;
  private readonly source: RegionSource;
  private readonly onGrow: (region: Region) => void;
  private readonly onShrink: (region: Region) => void;

  /**
   * @param hooks called with each region that the arena starts (map it) or stops using (unmap it); `source` makes the regions, by
   * default of memory without a name
   */
  constructor(
    hooks: { onGrow?: (region: Region) => void; onShrink?: (region: Region) => void; chunkBytes?: number; source?: RegionSource } = {},
  ) {
    this.source = hooks.source ?? allocateRegion;
    this.onGrow = hooks.onGrow ?? (() => {});
    this.onShrink = hooks.onShrink ?? (() => {});
    this.chunkBytes = hooks.chunkBytes ?? CHUNK_BYTES;
  }

  /**
   * @param byteLength 1 … 2 GiB
   * @param alignment a power of two, at most 2 MiB
   * @throws ArgumentError for another length or alignment; SystemError when there is no memory
   */
  allocate(byteLength: number, alignment = 64): Block {
    checkRequest(byteLength, alignment);
    for (const { region, free } of this.chunks) {
      const offset = free.allocate(byteLength, alignment, -region.address);
      if (offset >= 0) return { region, offset, byteLength };
    }
    const slack = Math.max(0, alignment - PAGE_BYTES);
    const region = this.source(byteLength <= WINDOW_MAX - slack ? Math.max(byteLength + slack, this.chunkBytes) : byteLength);
    const free = new RangeAllocator(0, region.byteLength);
    const offset = free.allocate(byteLength, alignment, -region.address);
    if (offset < 0)
      throw new ArgumentError(`no ${byteLength} bytes aligned to ${alignment} in one buffer`, {
        hint: 'ask for less alignment or less memory',
      });
    this.onGrow(region);
    this.chunks.push({ region, free });
    return { region, offset, byteLength };
  }

  /**
   * Takes a region over whose bytes are in use already.
   * @param used offsets and lengths of the blocks in it
   * @returns false when they overlap or do not lie in it; nothing is taken over then
   */
  adopt(region: Region, used: Iterable<{ offset: number; byteLength: number }>): boolean {
    const free = new RangeAllocator(0, region.byteLength);
    for (const { offset, byteLength } of used) if (!free.take(offset, byteLength)) return false;
    this.chunks.push({ region, free });
    return true;
  }

  /** Gives a block back; its bytes are zeroed by whoever needs them zero. */
  free(block: Block): void {
    const index = this.chunks.findIndex((chunk) => chunk.region === block.region);
    if (index < 0) return;
    const { region, free } = this.chunks[index];
    free.free(block.offset, block.byteLength);
    if (free.isWhole(0, region.byteLength) && this.chunks.length > 1) {
      this.chunks.splice(index, 1);
      this.drop(region);
    }
  }

  /** The regions in use. */
  get regions(): Region[] {
    return this.chunks.map((chunk) => chunk.region);
  }

  /** Stops using all regions. Views that are still held stay readable. */
  close(): void {
    for (const { region } of this.chunks.splice(0)) this.drop(region);
  }

  private drop(region: Region): void {
    this.onShrink(region);
    region.closeFile?.();
  }
}

/** The bytes of a block. */
export function bytesOf(block: Block): Buffer<ArrayBuffer> {
  const { region, offset, byteLength } = block;
  return Buffer.from(region.bytes.buffer as ArrayBuffer, region.bytes.byteOffset + offset, byteLength);
}
