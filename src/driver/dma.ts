import type { Bus } from '../bus/bus.js';
import { ArgumentError, BusLostError, ClosedError, SdxiError } from '../errors.js';
import { Access } from '../memory/address-space.js';
import { Arena, type Block, bytesOf, type RegionSource } from '../memory/arena.js';
import { RangeAllocator } from '../memory/ranges.js';
import { HUGE_PAGE_BYTES, PAGE_BYTES, type Region } from '../memory/region.js';

/** IOVAs start here, so that no small number is ever a valid address by accident. */
const IOVA_FIRST = 2 ** 32;
/** Every IOMMU that SDXI runs behind translates at least 47 bits. */
const IOVA_END = 2 ** 47;

/**
 * Hands out DMA addresses. Ranges lie on pages of their own with an unmapped page behind each, so that running over the end
 * of a buffer is an error and never somebody else's bytes. Several functions may draw from one space: memory that is mapped
 * for all of them then has one address.
 */
export class IovaSpace {
  private readonly free = new RangeAllocator(IOVA_FIRST, IOVA_END);

  /**
   * An address for memory at a process address, congruent with it modulo the page size. Memory that starts on a huge page gets an address
   * that does: an IOMMU may then map it in pages of that size.
   * @throws SdxiError ERR_SDXI_RESOURCE
   */
  reserve(address: number, byteLength: number): number {
    const huge = address % HUGE_PAGE_BYTES === 0 && byteLength >= HUGE_PAGE_BYTES;
    const start = this.free.allocate(pages(address, byteLength), huge ? HUGE_PAGE_BYTES : PAGE_BYTES);
    if (start < 0) {
      throw new SdxiError('ERR_SDXI_RESOURCE', `no DMA addresses left for ${byteLength} bytes`, {
        hint: 'close registrations that are not needed any more',
      });
    }
    return start + (address % PAGE_BYTES);
  }

  /** Reserves a range whose address is given. @throws SdxiError ERR_SDXI_RESOURCE when a part of it is taken */
  take(iova: number, byteLength: number): void {
    if (this.free.take(iova - (iova % PAGE_BYTES), pages(iova, byteLength))) return;
    throw new SdxiError('ERR_SDXI_RESOURCE', `DMA addresses 0x${iova.toString(16)} … are in use, or outside 2^32 … 2^47`, {
      hint: 'give addresses there that nothing else has; a function that is resumed takes an IovaSpace of its own',
      fields: { iova, byteLength },
    });
  }

  /** Gives a range back; its addresses are reused. */
  release(iova: number, byteLength: number): void {
    this.free.free(iova - (iova % PAGE_BYTES), pages(iova, byteLength));
  }
}

/** Bytes from the page that holds `address` to the end of the guard page. */
function pages(address: number, byteLength: number): number {
  return (Math.ceil(((address % PAGE_BYTES) + byteLength) / PAGE_BYTES) + 1) * PAGE_BYTES;
}

/**
 * Zeroes blocks of an arena before they are handed out, but not what has never been used: new memory is zero, and pages that nobody
 * touches cost nothing.
 */
export class Cleaner {
  /** Up to where each region has been handed out. */
  private readonly used = new WeakMap<Region, number>();

  /** All of a region has been used before. */
  adopt(region: Region): void {
    this.used.set(region, region.byteLength);
  }

  /** The bytes of a block, all zero. */
  clean(block: Block): Buffer<ArrayBuffer> {
    const bytes = bytesOf(block);
    const { region, offset, byteLength } = block;
    const used = this.used.get(region) ?? 0;
    if (offset < used) bytes.fill(0, 0, Math.min(byteLength, used - offset));
    if (offset + byteLength > used) this.used.set(region, offset + byteLength);
    return bytes;
  }
}

/** Memory that a function may access, until it is closed. */
export interface DmaRange {
  readonly iova: number;
  readonly byteLength: number;
  readonly region: Region;
  /** Takes the memory back; returns when no access is in flight any more (S-102). Idempotent. */
  close(): void;
}

/** A piece of DMA memory. */
export interface DmaBuffer {
  readonly bytes: Buffer<ArrayBuffer>;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  /** Process address of the first byte, for other threads of this process. */
  readonly address: number;
  readonly iova: number;
  readonly byteLength: number;
  /** Idempotent. */
  free(): void;
}

interface Mapped {
  readonly iova: number;
  readonly region: Region;
  readonly access: Access;
}

/** Memory that a function may reach, in a snapshot of its driver. */
export interface SavedMemory {
  readonly iova: number;
  readonly byteLength: number;
  readonly access: Access;
  /** Where it lies in its file, if it has one. */
  readonly fileOffset: number | null;
  /** Pieces that `allocate` has handed out, as [offset, length]; null: memory that was mapped as a whole. */
  readonly pieces: readonly (readonly [number, number])[] | null;
}

/** The DMA memory of one function: what is mapped for it, and an arena of small pieces. */
export class DmaSpace {
  readonly iovas: IovaSpace;
  private readonly bus: Bus;
  private readonly mapped = new Set<Mapped>();
  private readonly chunks = new Map<Region, DmaRange>();
  private readonly pasids = new Map<number, number>();
  private readonly arena: Arena;
  private readonly cleaner = new Cleaner();
  /** What {@link allocate} has handed out, by DMA address. */
  private readonly blocks = new Map<number, Block>();

  constructor(bus: Bus, iovas = new IovaSpace(), source?: RegionSource) {
    this.bus = bus;
    this.iovas = iovas;
    this.arena = new Arena({
      source: source ?? bus.memoryAdvice?.source,
      chunkBytes: bus.memoryAdvice?.chunkBytes,
      onGrow: (region) => this.chunks.set(region, this.map(region)),
      onShrink: (region) => {
        this.chunks.get(region)?.close();
        this.chunks.delete(region);
      },
    });
  }

  /**
   * Lets the function access a region.
   * @param at DMA address from an {@link IovaSpace}; default: one of this space's, given back when the range is closed
   * @throws SdxiError ERR_SDXI_MAPPING, ERR_SDXI_RESOURCE
   */
  map(region: Region, access: Access = Access.READ_WRITE, at?: number): DmaRange {
    const { iovas } = this;
    const iova = at ?? iovas.reserve(region.address, region.byteLength);
    return this.grant({ iova, region, access }, at === undefined);
  }

  /** @param own the address is given back with the memory, or when this fails */
  private grant(entry: Mapped, own: boolean): DmaRange {
    const { bus, iovas, mapped, pasids } = this;
    const { iova, region, access } = entry;
    try {
      bus.map({ iova, region, access });
      for (const pasid of pasids.keys()) bus.map({ iova, region, access, pasid });
    } catch (error) {
      if (own) iovas.release(iova, region.byteLength);
      throw error;
    }
    mapped.add(entry);
    return {
      iova,
      byteLength: region.byteLength,
      region,
      close: () => {
        if (!mapped.delete(entry)) return;
        this.unmap(entry);
        if (own) iovas.release(iova, region.byteLength);
      },
    };
  }

  /**
   * Zeroed memory for structures and bounce buffers.
   * @param alignment a power of two up to 4096
   */
  allocate(byteLength: number, alignment = 64): DmaBuffer {
    const block = this.arena.allocate(byteLength, alignment);
    this.cleaner.clean(block);
    return this.buffer(block);
  }

  private buffer(block: Block): DmaBuffer {
    const bytes = bytesOf(block);
    const { byteLength } = block;
    const words = byteLength >>> 2;
    const range = this.chunks.get(block.region) as DmaRange;
    const iova = range.iova + block.offset;
    let held: Block | undefined = block;
    this.blocks.set(iova, block);
    return {
      bytes,
      u32: new Uint32Array(bytes.buffer, bytes.byteOffset, words),
      i32: new Int32Array(bytes.buffer, bytes.byteOffset, words),
      address: block.region.address + block.offset,
      iova,
      byteLength,
      free: () => {
        // Of several handles on one piece the first one counts.
        if (held && this.blocks.get(iova) === held) {
          this.blocks.delete(iova);
          this.arena.free(held);
        }
        held = undefined;
      },
    };
  }

  /** A piece that was allocated before. @throws ArgumentError when there is none at this address */
  at(iova: number): DmaBuffer {
    const block = this.blocks.get(iova);
    if (block) return this.buffer(block);
    throw new ArgumentError(`nothing was allocated at DMA address ${String(iova)}`, {
      hint: 'give the iova of what allocate() returned',
      fields: { iova },
    });
  }

  /** What is mapped, oldest first; the same order as {@link describe}. */
  get regions(): Region[] {
    return [...this.mapped].map(({ region }) => region);
  }

  /** What is mapped, for a snapshot. */
  describe(): SavedMemory[] {
    const blocks = [...this.blocks.values()];
    return [...this.mapped].map(({ iova, region, access }) => {
      const own = blocks.filter((block) => block.region === region).map(({ offset, byteLength }) => [offset, byteLength] as const);
      return {
        iova,
        byteLength: region.byteLength,
        access,
        fileOffset: region.file?.offset ?? null,
        pieces: this.chunks.has(region) ? own : null,
      };
    });
  }

  /** Takes memory over as {@link describe} has described it. @throws SdxiError ERR_SDXI_MAPPING, ERR_SDXI_RESOURCE, ERR_SDXI_STATE */
  adopt({ iova, access, pieces }: SavedMemory, region: Region): void {
    this.iovas.take(iova, region.byteLength);
    const range = this.grant({ iova, region, access }, true);
    if (pieces === null) return;
    const blocks = pieces.map(([offset, byteLength]) => ({ region, offset, byteLength }));
    if (!this.arena.adopt(region, blocks)) {
      throw new SdxiError('ERR_SDXI_STATE', 'pieces of memory in the snapshot overlap', { hint: 'it was changed; save again' });
    }
    this.chunks.set(region, range);
    this.cleaner.adopt(region);
    for (const block of blocks) this.blocks.set(iova + block.offset, block);
  }

  /** Everything that is mapped, now and later, gets the same address in the address space of a PASID too. Counted. */
  bindPasid(pasid: number): void {
    const count = this.pasids.get(pasid) ?? 0;
    if (count === 0) for (const { iova, region, access } of this.mapped) this.bus.map({ iova, region, access, pasid });
    this.pasids.set(pasid, count + 1);
  }

  unbindPasid(pasid: number): void {
    const count = this.pasids.get(pasid) ?? 0;
    if (count > 1) return void this.pasids.set(pasid, count - 1);
    if (this.pasids.delete(pasid)) for (const { iova, region } of this.mapped) this.bus.unmap(iova, region.byteLength, pasid);
  }

  /** Unmaps everything. The function must be stopped, or gone. */
  close(): void {
    for (const entry of this.mapped) this.unmap(entry);
    this.mapped.clear();
    this.chunks.clear();
    this.arena.close();
  }

  /** A function that is gone has let go of everything already. */
  private unmap({ iova, region }: Mapped): void {
    try {
      for (const pasid of this.pasids.keys()) this.bus.unmap(iova, region.byteLength, pasid);
      this.bus.unmap(iova, region.byteLength);
    } catch (error) {
      if (!(error instanceof BusLostError || error instanceof ClosedError)) throw error;
    }
  }
}
