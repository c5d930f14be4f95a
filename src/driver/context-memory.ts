import type { ContextState } from '../spec/codes.js';
import { CXT_CTL } from '../spec/context.js';
import { CSB_BYTES, DESCRIPTOR_BYTES, KEY_BYTES } from '../spec/limits.js';
import type { ContextShape } from './context.js';
import type { DmaBuffer, DmaSpace } from './dma.js';
import type { RingShare } from './ring.js';
import { publishStructure, withdrawStructure } from './tables.js';

/** CXT_CTL, CXT_STS and Write_Index lie in one block, each on cache lines of its own: three parties write them. */
const STATUS_AT = 128;
const INDEX_AT = 256;
const CONTROL_BYTES = 384;

/** DMA addresses of the structures of a context. */
export interface SavedPlaces {
  readonly control: number;
  readonly ring: number;
  readonly blocks: number;
  readonly keys: number;
}

/** The structures of one context: CXT_CTL, CXT_STS, Write_Index, ring, completion blocks and AKey table. ref §4. */
export class ContextMemory {
  readonly control: DmaBuffer;
  readonly ring: DmaBuffer;
  /** One completion block for each slot of the ring. */
  readonly blocks: DmaBuffer;
  readonly keys: DmaBuffer;
  private readonly entries: number;
  private readonly held: DmaBuffer[] = [];

  /** @param places where they are already */
  constructor(dma: DmaSpace, { ringEntries, akeySize }: ContextShape, places?: SavedPlaces) {
    this.entries = ringEntries;
    const allocate = (byteLength: number, alignment: number, at?: number): DmaBuffer => {
      const buffer = at === undefined ? dma.allocate(byteLength, alignment) : dma.at(at);
      this.held.push(buffer);
      return buffer;
    };
    try {
      this.control = allocate(CONTROL_BYTES, 128, places?.control);
      this.ring = allocate(ringEntries * DESCRIPTOR_BYTES, 4096, places?.ring);
      this.blocks = allocate(ringEntries * CSB_BYTES, 64, places?.blocks);
      this.keys = allocate(2 ** (akeySize + 8) * KEY_BYTES, 4096, places?.keys);
    } catch (error) {
      this.free();
      throw error;
    }
  }

  /** Where the ring lies. @param doorbell its offset in BAR 2 */
  share(context: number, doorbell: number): RingShare {
    const { control, ring, blocks, entries } = this;
    return {
      context,
      entries,
      ring: ring.address,
      status: control.address + STATUS_AT,
      writeIndex: control.address + INDEX_AT,
      blocks: blocks.address,
      blocksIova: blocks.iova,
      doorbell,
    };
  }

  /** Where they are, for a snapshot. */
  save(): SavedPlaces {
    const { control, ring, blocks, keys } = this;
    return { control: control.iova, ring: ring.iova, blocks: blocks.iova, keys: keys.iova };
  }

  publishControl(qos: number): void {
    publishStructure(this.control, 0, this.encodeControl(qos));
  }

  /** Whether CXT_CTL in memory is the one that {@link publishControl} writes. */
  isPublished(qos: number): boolean {
    return Buffer.compare(this.control.bytes.subarray(0, CXT_CTL.byteLength), this.encodeControl(qos)) === 0;
  }

  private encodeControl(qos: number): Uint8Array {
    const { control, ring, entries } = this;
    return CXT_CTL.encode({
      vl: 1,
      qos,
      ds_ring_ptr: ring.iova,
      ds_ring_sz: entries,
      cxt_sts_ptr: control.iova + STATUS_AT,
      write_index_ptr: control.iova + INDEX_AT,
    });
  }

  withdrawControl(): void {
    withdrawStructure(this.control, 0, CXT_CTL.byteLength / 4);
  }

  /** CXT_STS.state; only while the context does not run (ref §4.5). */
  storeState(state: ContextState): void {
    this.control.bytes[STATUS_AT] = state;
  }

  free(): void {
    for (const buffer of this.held) buffer.free();
  }
}
