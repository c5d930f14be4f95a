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

/** The structures of one context: CXT_CTL, CXT_STS, Write_Index, ring, completion blocks and AKey table. ref §4. */
export class ContextMemory {
  readonly control: DmaBuffer;
  readonly ring: DmaBuffer;
  /** One completion block for each slot of the ring. */
  readonly blocks: DmaBuffer;
  readonly keys: DmaBuffer;
  private readonly entries: number;
  private readonly held: DmaBuffer[] = [];

  constructor(dma: DmaSpace, { ringEntries, akeySize }: ContextShape) {
    this.entries = ringEntries;
    const allocate = (byteLength: number, alignment: number): DmaBuffer => {
      const buffer = dma.allocate(byteLength, alignment);
      this.held.push(buffer);
      return buffer;
    };
    try {
      this.control = allocate(CONTROL_BYTES, 128);
      this.ring = allocate(ringEntries * DESCRIPTOR_BYTES, 4096);
      this.blocks = allocate(ringEntries * CSB_BYTES, 64);
      this.keys = allocate(2 ** (akeySize + 8) * KEY_BYTES, 4096);
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

  publishControl(qos: number): void {
    const { control, ring, entries } = this;
    const fields = {
      vl: 1,
      qos,
      ds_ring_ptr: ring.iova,
      ds_ring_sz: entries,
      cxt_sts_ptr: control.iova + STATUS_AT,
      write_index_ptr: control.iova + INDEX_AT,
    };
    publishStructure(control, 0, CXT_CTL.encode(fields));
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
