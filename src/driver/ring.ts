import { ArgumentError, ClosedError, SdxiError } from '../errors.js';
import { Window } from '../memory/window.js';
import { ContextState, nameOf } from '../spec/codes.js';
import { DescriptorFlag, encodeNop, NO_CSB } from '../spec/encode.js';
import { CSB_BYTES, DESCRIPTOR_BYTES } from '../spec/limits.js';
import { loadSharedU64, loadU64, MAX_INDEX } from '../spec/u64.js';

/** Dwords of a descriptor slot and of a completion block. */
const SLOT_WORDS = DESCRIPTOR_BYTES / 4;
const CSB_WORDS = CSB_BYTES / 4;
/** CST_BLK.er, bit 31 of the dword at byte 8. ref §4.9. */
const ER_WORD = 2;

/**
 * On x64 stores become visible in program order, so one atomic store at the end of a batch orders all of it, at 1.2 ns a
 * descriptor. Elsewhere (arm64) each dword 0 is stored atomically: 12 ns here, and a store-release there.
 */
const STORES_STAY_IN_ORDER = process.arch === 'x64';

/** Where a ring lies: plain numbers, so that it can be posted to another thread of this process. */
export interface RingShare {
  readonly context: number;
  readonly entries: number;
  /** Process addresses. */
  readonly ring: number;
  readonly status: number;
  readonly writeIndex: number;
  readonly blocks: number;
  /** DMA address of the completion blocks. */
  readonly blocksIova: number;
  /** Byte offset of the doorbell in BAR 2. */
  readonly doorbell: number;
}

/** Rings the context's doorbell with a new Write_Index. */
export type Doorbell = (writeIndex: number) => void;

/**
 * The producers' end of a descriptor ring (SDXI 1.0 ch. 5, ref §6.1), lock-free: any number of `Ring` objects over the same
 * memory, in any threads, may produce at once. Beside each slot lies the completion block that its descriptor may use.
 *
 * Write_Index is claimed by a 64-bit compare-and-swap, one for each batch (57 ns; BigInt is no worry there). Two 32-bit halves
 * would not do: at the wrap of the low half the function sees for a moment an index that is 2^32 off, which is an error of the
 * context (step 6), and a producer that slept through 2^32 descriptors would take the old low half for the current one.
 *
 * The views do not keep the memory alive for other threads: whoever shares a ring closes the context after they are done.
 */
export class Ring {
  readonly context: number;
  /** Slots; any number from 1024, not only powers of two. */
  readonly entries: number;
  /** The slots. */
  readonly u32: Uint32Array;
  private readonly i32: Int32Array;
  private readonly status: Uint32Array;
  private readonly writeIndex64: BigInt64Array;
  private readonly blocks: Int32Array;
  private readonly where: RingShare;
  private readonly doorbell: Doorbell;
  private closed = false;
  /** Whatever keeps the memory mapped for as long as someone may look at it through this object. */
  protected readonly keeper: unknown;

  private constructor(where: RingShare, doorbell: Doorbell, keeper: unknown) {
    this.where = where;
    this.doorbell = doorbell;
    this.keeper = keeper;
    this.context = where.context;
    this.entries = where.entries;
    const view = (address: number, bytes: number) => {
      const { window, offset } = Window.over(address, bytes);
      return { buffer: window.u8.buffer as ArrayBuffer, offset };
    };
    const ring = view(where.ring, where.entries * DESCRIPTOR_BYTES);
    this.u32 = new Uint32Array(ring.buffer, ring.offset, where.entries * SLOT_WORDS);
    this.i32 = new Int32Array(ring.buffer, ring.offset, where.entries * SLOT_WORDS);
    const status = view(where.status, 16);
    this.status = new Uint32Array(status.buffer, status.offset, 4);
    const index = view(where.writeIndex, 8);
    this.writeIndex64 = new BigInt64Array(index.buffer, index.offset, 1);
    const blocks = view(where.blocks, where.entries * CSB_BYTES);
    this.blocks = new Int32Array(blocks.buffer, blocks.offset, where.entries * CSB_WORDS);
  }

  /**
   * A producer for a ring that `share()` described, in whatever thread of the same process.
   * @param keeper held as long as the ring is; in other threads nothing can hold the memory
   */
  static attach(share: RingShare, doorbell: Doorbell, keeper?: unknown): Ring {
    return new Ring(share, doorbell, keeper);
  }

  /** What another thread of this process needs to produce into this ring; structured-clonable. */
  share(): RingShare {
    return this.where;
  }

  /** @internal Nothing can be claimed any more: the memory may be somebody else's. */
  close(): void {
    this.closed = true;
  }

  /** Next descriptor that the function will take. */
  get readIndex(): number {
    return loadSharedU64(this.status, 2);
  }

  /** Next descriptor that a producer will claim. */
  get writeIndex(): number {
    return Number(Atomics.load(this.writeIndex64, 0));
  }

  /** CXT_STS.state. */
  get state(): ContextState {
    return (Atomics.load(this.status, 0) & 0xf) as ContextState;
  }

  /**
   * Claims `count` descriptors in a row (ref §6.1 steps 1-3). The function sees the claim at once and waits at the first slot
   * that is not valid (O-18), so write and publish them soon.
   * @param count 1 … entries
   * @returns index of the first one, or -1 when the ring has no room for all of them; nothing is changed then
   * @throws ArgumentError for another count (EINVAL of ref §13.5); SdxiError ERR_SDXI_RING when Read_Index is ahead of
   * Write_Index (EIO)
   */
  tryReserve(count: number): number {
    if (this.closed) throw new ClosedError(`the ring of context ${this.context}`);
    if (!Number.isInteger(count) || count < 1 || count > this.entries) {
      throw new ArgumentError(`cannot reserve ${count} descriptors`, {
        hint: `a batch has 1 … ${this.entries} descriptors, the size of the ring`,
        fields: { context: this.context, count },
      });
    }
    for (;;) {
      // Read_Index first: it only grows, so what is free by this pair of values is free.
      const read = this.readIndex;
      const claimed = Atomics.load(this.writeIndex64, 0);
      const write = Number(claimed);
      if (read > write || write >= MAX_INDEX) this.throwDamaged(read, write);
      const next = write + count;
      if (next - read > this.entries) return -1;
      if (Atomics.compareExchange(this.writeIndex64, 0, claimed, BigInt(next)) === claimed) return write;
    }
  }

  /**
   * As {@link tryReserve}, but a full ring is an error.
   * @throws SdxiError ERR_SDXI_BUSY (EBUSY of ref §13.5)
   */
  reserve(count: number): number {
    const first = this.tryReserve(count);
    if (first >= 0) return first;
    throw new SdxiError('ERR_SDXI_BUSY', `the ring of context ${this.context} has no room for ${count} descriptors`, {
      hint: 'wait for work in flight to complete, or create the context with a larger ring',
      fields: { context: this.context, count, free: this.free },
    });
  }

  /** Slots that can be claimed now. */
  get free(): number {
    const read = this.readIndex;
    return this.entries - (this.writeIndex - read);
  }

  /** Word index in {@link u32} of the slot of a descriptor. */
  slotWord(index: number): number {
    return (index % this.entries) * SLOT_WORDS;
  }

  /**
   * Hands `count` claimed and encoded descriptors to the function (ref §6.1 steps 5-6): sets vl in dword 0 of each, which
   * their encoders have left at 0. After that they must not be touched.
   */
  publish(first: number, count: number): void {
    const { u32, i32 } = this;
    const start = this.slotWord(first);
    const end = this.entries * SLOT_WORDS;
    let word = start;
    for (let i = 1; i < count; i++) {
      word += SLOT_WORDS;
      if (word === end) word = 0;
      if (STORES_STAY_IN_ORDER) u32[word] |= DescriptorFlag.VL;
      else Atomics.store(i32, word, i32[word] | DescriptorFlag.VL);
    }
    // The first slot last: until it is valid nothing behind it is executed.
    Atomics.store(i32, start, i32[start] | DescriptorFlag.VL);
  }

  /** Tells the function (ref §6.1 step 7): `writeIndex` is the index of the last published descriptor + 1. */
  ringDoorbell(writeIndex: number): void {
    this.doorbell(writeIndex);
  }

  /** DMA address of the completion block of a descriptor's slot. */
  blockIova(index: number): number {
    return this.where.blocksIova + (index % this.entries) * CSB_BYTES;
  }

  /** Word index of a descriptor's completion block, for {@link isDone}. */
  blockWord(index: number): number {
    return (index % this.entries) * CSB_WORDS;
  }

  /** Prepares the completion block of one descriptor, before it is published. */
  arm(blockWord: number): void {
    const { blocks } = this;
    blocks[blockWord] = 1;
    blocks[blockWord + 1] = 0;
    blocks[blockWord + ER_WORD] = 0;
  }

  /** True once the descriptor has completed; its effects are visible then. */
  isDone(blockWord: number): boolean {
    return Atomics.load(this.blocks, blockWord) === 0;
  }

  /** True if a completed descriptor failed (er). Ask only after {@link isDone}. */
  hasFailed(blockWord: number): boolean {
    return this.blocks[blockWord + ER_WORD] < 0;
  }

  /**
   * Replaces a descriptor that will not be executed by a valid NOP. Only while the context is stopped, or for a slot that is
   * claimed and not published.
   * @param block keep the slot's completion block, so that whoever waits for it is served
   */
  overwrite(index: number, block: 'keep' | 'none'): void {
    const word = this.slotWord(index);
    const first = encodeNop(this.u32, word, block === 'keep' ? DescriptorFlag.FE : 0, block === 'keep' ? this.blockIova(index) : NO_CSB);
    Atomics.store(this.i32, word, first | 0);
  }

  /** DMA address that an operand of a descriptor names; undefined for one without addresses. */
  operandAddress(index: number, operand: number): number | undefined {
    const word = this.slotWord(index) + 4 + operand * 2;
    return operand > 1 ? undefined : loadU64(this.u32, word);
  }

  private throwDamaged(read: number, write: number): never {
    throw new SdxiError('ERR_SDXI_RING', `context ${this.context}: Read_Index ${read} and Write_Index ${write} cannot be right`, {
      hint: 'the indexes in memory were damaged; close the context and create a new one',
      fields: { context: this.context, readIndex: read, writeIndex: write, state: nameOf(ContextState, this.state) },
    });
  }
}
