import { Ring, type RingShare } from '../../src/driver/ring.js';
import { addressOf } from '../../src/native/libc.js';

/** A ring in ordinary memory with the function's end in the test's hands. */
export class MemoryRing {
  readonly ring: Ring;
  readonly doorbells: number[] = [];
  readonly status = new BigUint64Array(2);
  readonly writeIndex = new BigUint64Array(1);
  readonly slots: Uint32Array;
  readonly blocks: Uint32Array;

  constructor(entries = 1024) {
    this.slots = new Uint32Array(entries * 16);
    this.blocks = new Uint32Array(entries * 8);
    this.ring = Ring.attach(this.share(entries), (value) => this.doorbells.push(value));
    this.state = 1;
  }

  private share(entries: number): RingShare {
    const at = (view: ArrayBufferView) => addressOf(new Uint8Array(view.buffer as ArrayBuffer));
    return {
      context: 1,
      entries,
      ring: at(this.slots),
      status: at(this.status),
      writeIndex: at(this.writeIndex),
      blocks: at(this.blocks),
      blocksIova: 0x1_0000_0000,
      doorbell: 0x1000,
    };
  }

  set state(state: number) {
    this.status[0] = BigInt(state);
  }

  set indexes({ read, write }: { read: number | bigint; write: number | bigint }) {
    this.status[1] = BigInt(read);
    this.writeIndex[0] = BigInt(write);
  }

  /** Takes the next descriptor if it is valid, as a function does: clears vl, then moves Read_Index. @returns dwords 0 and 1 */
  take(): [number, number] | undefined {
    const entries = this.slots.length / 16;
    const read = Number(this.status[1]);
    const word = (read % entries) * 16;
    if (read === Number(this.writeIndex[0]) || (this.slots[word] & 1) === 0) return undefined;
    const taken: [number, number] = [this.slots[word], this.slots[word + 1]];
    this.slots[word] &= ~1;
    this.status[1] = BigInt(read + 1);
    return taken;
  }
}
