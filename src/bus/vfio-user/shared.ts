import { viewMemory } from '../../native/libc.js';

/** Mappings that the server reaches by messages, at most. */
export const GRANTS_MAX = 4096;

// Dwords: the lock of the socket, mappings in force; then 4 numbers each: DMA address, bytes, process address, access.
const LOCK = 0;
const COUNT = 1;
const TABLE_BYTES = 64;
const ENTRY = 4;

/** Time to wake up for a thread that waits for the socket. */
const HAND_OVER_MS = 1;

/** A piece of this process's memory that the server may reach by messages. */
export interface Grant {
  readonly iova: number;
  readonly byteLength: number;
  readonly address: number;
  readonly access: number;
}

/** What the user's thread and the watcher share about one connection: who may use the socket, and what the server may reach. */
export class SharedLink {
  readonly buffer: SharedArrayBuffer;
  private readonly words: Int32Array;
  private readonly table: Float64Array;

  constructor(buffer?: SharedArrayBuffer) {
    this.buffer = buffer ?? new SharedArrayBuffer(TABLE_BYTES + GRANTS_MAX * ENTRY * 8);
    this.words = new Int32Array(this.buffer);
    this.table = new Float64Array(this.buffer, TABLE_BYTES);
  }

  /** Takes the socket for this thread. @returns false when another one has kept it for so long */
  acquire(timeoutMs: number): boolean {
    const { words } = this;
    if (Atomics.compareExchange(words, LOCK, 0, 1) === 0) return true;
    for (const deadline = performance.now() + timeoutMs; ; ) {
      // 2 = someone waits: the holder will notify.
      if (Atomics.exchange(words, LOCK, 2) === 0) return true;
      const left = deadline - performance.now();
      if (left <= 0) return false;
      Atomics.wait(words, LOCK, 2, left);
    }
  }

  release(): void {
    if (Atomics.exchange(this.words, LOCK, 0) === 2) Atomics.notify(this.words, LOCK, 1);
  }

  /** The same, and lets a thread that waits for it go first. */
  handOver(): void {
    const { words } = this;
    if (Atomics.exchange(words, LOCK, 0) !== 2) return;
    Atomics.notify(words, LOCK, 1);
    Atomics.wait(words, LOCK, 0, HAND_OVER_MS);
  }

  /** Mappings in force. */
  get grants(): number {
    return Atomics.load(this.words, COUNT);
  }

  /** The socket must be this thread's. @returns false when there is no room for another */
  grant({ iova, byteLength, address, access }: Grant): boolean {
    const count = this.grants;
    if (count === GRANTS_MAX) return false;
    this.table.set([iova, byteLength, address, access], count * ENTRY);
    Atomics.store(this.words, COUNT, count + 1);
    return true;
  }

  /** The socket must be this thread's. */
  revoke(iova: number): void {
    const { table, words } = this;
    const last = this.grants - 1;
    for (let i = 0; i <= last; i++) {
      if (table[i * ENTRY] !== iova) continue;
      table.copyWithin(i * ENTRY, last * ENTRY, (last + 1) * ENTRY);
      Atomics.store(words, COUNT, last);
      return;
    }
  }

  /** The server reaches nothing any more. Whoever finds it wrong does not need the socket for that. */
  revokeAll(): void {
    Atomics.store(this.words, COUNT, 0);
  }

  /** Memory of the process at a DMA address, as far as one grant with that right goes. @returns undefined when there is none */
  find(iova: number, byteLength: number, access: number): Uint8Array | undefined {
    const { table } = this;
    for (let at = 0, end = this.grants * ENTRY; at < end; at += ENTRY) {
      const from = iova - table[at];
      if (from < 0 || from >= table[at + 1] || (table[at + 3] & access) !== access) continue;
      return new Uint8Array(viewMemory(table[at + 2] + from, Math.min(byteLength, table[at + 1] - from)));
    }
    return undefined;
  }
}
