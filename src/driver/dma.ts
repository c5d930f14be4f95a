import type { Bus } from '../bus/bus.js';
import { BusLostError, ClosedError, SdxiError } from '../errors.js';
import { Access } from '../memory/address-space.js';
import { Arena, type Block, bytesOf } from '../memory/arena.js';
import { RangeAllocator } from '../memory/ranges.js';
import { PAGE_BYTES, type Region } from '../memory/region.js';

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

  /** An address for memory at a process address, congruent with it modulo the page size. @throws SdxiError ERR_SDXI_RESOURCE */
  reserve(address: number, byteLength: number): number {
    const start = this.free.allocate(pages(address, byteLength), PAGE_BYTES);
    if (start < 0) {
      throw new SdxiError('ERR_SDXI_RESOURCE', `no DMA addresses left for ${byteLength} bytes`, {
        hint: 'close registrations that are not needed any more',
      });
    }
    return start + (address % PAGE_BYTES);
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

/** The DMA memory of one function: what is mapped for it, and an arena of small pieces. */
export class DmaSpace {
  readonly iovas: IovaSpace;
  private readonly bus: Bus;
  private readonly mapped = new Set<Mapped>();
  private readonly chunks = new Map<Region, DmaRange>();
  private readonly pasids = new Map<number, number>();
  private readonly arena: Arena;
  private readonly cleaner = new Cleaner();

  constructor(bus: Bus, iovas = new IovaSpace()) {
    this.bus = bus;
    this.iovas = iovas;
    this.arena = new Arena({
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
    const { bus, iovas, mapped, pasids } = this;
    const iova = at ?? iovas.reserve(region.address, region.byteLength);
    const entry: Mapped = { iova, region, access };
    try {
      bus.map({ iova, region, access });
      for (const pasid of pasids.keys()) bus.map({ iova, region, access, pasid });
    } catch (error) {
      if (at === undefined) iovas.release(iova, region.byteLength);
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
        if (at === undefined) iovas.release(iova, region.byteLength);
      },
    };
  }

  /**
   * Zeroed memory for structures and bounce buffers.
   * @param alignment a power of two up to 4096
   */
  allocate(byteLength: number, alignment = 64): DmaBuffer {
    const block = this.arena.allocate(byteLength, alignment);
    const bytes = this.cleaner.clean(block);
    const words = byteLength >>> 2;
    const range = this.chunks.get(block.region) as DmaRange;
    let held: Block | undefined = block;
    return {
      bytes,
      u32: new Uint32Array(bytes.buffer, bytes.byteOffset, words),
      i32: new Int32Array(bytes.buffer, bytes.byteOffset, words),
      address: block.region.address + block.offset,
      iova: range.iova + block.offset,
      byteLength,
      free: () => {
        if (held) this.arena.free(held);
        held = undefined;
      },
    };
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
