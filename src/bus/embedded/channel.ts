/**
 * What the user's threads and the engine thread share besides DMA memory: one small SharedArrayBuffer, because only such
 * memory can be waited on. This file is its layout and the operations that both ends agree on.
 *
 * Order: every operation below that publishes something is a sequentially consistent atomic, so what a thread did before it
 * (descriptors, Write_Index) is seen by whoever sees it.
 */
import { ArgumentError } from '../../errors.js';
import { VECTORS_MAX } from '../../spec/limits.js';
import { InterruptWords, VECTOR_WORDS } from '../interrupt-words.js';
import { Life } from '../life.js';

export { Life };

/** What the layout depends on. */
export interface ChannelShape {
  /** Highest context number, 0 … 65535. */
  readonly maxContext: number;
  /** Interrupt vectors, 1 … {@link VECTORS_MAX}. */
  readonly vectors: number;
}

/** What a request asks of the engine. */
export const Op = {
  READ: 1,
  WRITE: 2,
  DOORBELL: 3,
  MAP: 4,
  UNMAP: 5,
  RESET: 6,
  PUBLISH: 7,
  MEET: 8,
  PART: 9,
  SNAPSHOT: 10,
  RESTORE: 11,
  FAULTS: 12,
} as const;
export type Op = (typeof Op)[keyof typeof Op];

/** {@link Channel.owner} of a mapping of the function itself; another member of its fabric goes by its index there. */
export const OWN = -1;

/** States of the request slot. Bit 0: the engine has to answer. */
export const Slot = { DONE: 2, PENDING: 1, PENDING_ASLEEP: 3 } as const;

// Bits of the call word, the one word that the engine looks at: who calls, and whether it must be woken to hear it.
const ASLEEP = 1 << 31;
const REQUEST = 1 << 30;
const LIFE_CHANGED = 1 << 29;
/** Somebody has called in the channel of a virtual function, which the engine does not sleep on. */
const VIRTUAL = 1 << 28;
/** A bit for each chunk of contexts of which one was rung. */
const CHUNKS = 28;
const RUNG = (1 << CHUNKS) - 1;

// Dword indexes of the fixed part. Each group starts a cache line: its words are written by one side at a time.
const LINE = 16;
const LIFE = 0;
const REASON_BYTES = 1;
const LOCK = LINE;
/** One line holds a whole request: state, op, two small arguments, one 64-bit value, five numbers. */
const SLOT = 2 * LINE;
const TEXT = 3 * LINE;
/** Bytes for the answer of a request that failed, or for the last words of an engine. */
export const TEXT_BYTES = 2048;
/** Counters that fit. */
export const COUNTERS_MAX = 64;
const COUNTERS = TEXT + TEXT_BYTES / 4;
/** The bitmap of contexts follows at once: up to 480 of them lie in the same line. */
const CALL = COUNTERS + COUNTERS_MAX * 2;

const lines = (words: number): number => Math.ceil(words / LINE) * LINE;

/** One end of the channel; any number of threads may hold one. */
export class Channel {
  readonly buffer: SharedArrayBuffer;
  readonly shape: ChannelShape;
  readonly words: Int32Array;
  /** Numbers of the request: region address, region bytes, offset, length, iova; or the register's offset first. */
  readonly numbers: Float64Array;
  /** The 64-bit value of the request or its answer. */
  readonly value: BigUint64Array;
  readonly counters: Float64Array;
  readonly text: Uint8Array;
  readonly interrupts: InterruptWords;
  /** The engine's memo that {@link take} found calls in channels of virtual functions. */
  virtualCalled = false;
  /** The channel that the engine sleeps on, for one of a virtual function. */
  private readonly primary: Channel | undefined;
  private readonly doorbells: Float64Array;
  private readonly bitmap: number;
  private readonly bitmapWords: number;
  /** log2 of the contexts in a chunk: 5 up to 896 contexts, 12 for 65,536. */
  private readonly chunkShift: number;

  constructor(shape: ChannelShape, buffer?: SharedArrayBuffer, primary?: Channel) {
    this.primary = primary;
    const contexts = shape.maxContext + 1;
    if (!Number.isInteger(contexts) || contexts < 1 || contexts > 65536) throw new ArgumentError(`no channel for ${contexts} contexts`);
    if (!Number.isInteger(shape.vectors) || shape.vectors < 1 || shape.vectors > VECTORS_MAX) {
      throw new ArgumentError(`a bus cannot have ${shape.vectors} interrupt vectors`, { hint: `1 … ${VECTORS_MAX}, like an MSI-X table` });
    }
    this.bitmapWords = Math.ceil(contexts / 32);
    this.chunkShift = Math.max(5, Math.ceil(Math.log2(contexts / CHUNKS)));
    this.bitmap = CALL + 1;
    const values = CALL + lines(1 + this.bitmapWords);
    const interrupts = values + lines(contexts * 2);
    const byteLength = (interrupts + shape.vectors * VECTOR_WORDS) * 4;
    if (buffer && buffer.byteLength !== byteLength) {
      throw new ArgumentError(`the channel has ${buffer.byteLength} bytes, its shape asks for ${byteLength}`, {
        hint: 'both threads must run the same version of sdxi: build again (npm run build)',
      });
    }
    this.buffer = buffer ?? new SharedArrayBuffer(byteLength);
    this.shape = shape;
    this.words = new Int32Array(this.buffer);
    this.interrupts = new InterruptWords(this.words, interrupts, shape.vectors);
    this.value = new BigUint64Array(this.buffer, (SLOT + 4) * 4, 1);
    this.numbers = new Float64Array(this.buffer, (SLOT + 6) * 4, 5);
    this.text = new Uint8Array(this.buffer, TEXT * 4, TEXT_BYTES);
    this.counters = new Float64Array(this.buffer, COUNTERS * 4, COUNTERS_MAX);
    this.doorbells = new Float64Array(this.buffer, values * 4, contexts);
  }

  // ---- Life ----

  /** A plain read, because every access asks: who sees an old value a moment longer finds out when it waits. */
  get life(): Life {
    return this.words[LIFE] as Life;
  }

  /** Moves life forward; later states win. Everyone who sleeps anywhere wakes up to look. @returns false when it had got there already */
  setLife(life: Life): boolean {
    for (;;) {
      const old = Atomics.load(this.words, LIFE);
      if (old >= life) return false;
      if (Atomics.compareExchange(this.words, LIFE, old, life) === old) break;
    }
    this.call(LIFE_CHANGED);
    if (life !== Life.RUNNING) this.wakeUsers();
    return true;
  }

  /** The engine's last words, once life is LOST. */
  get reason(): string {
    return new TextDecoder().decode(this.text.slice(0, Atomics.load(this.words, REASON_BYTES)));
  }

  /** The engine ends because of an error. */
  fail(reason: string): void {
    if (this.life >= Life.LOST) return;
    this.primary?.fail(reason);
    Atomics.store(this.words, REASON_BYTES, this.writeText(reason));
    this.setLife(Life.LOST);
  }

  private wakeUsers(): void {
    Atomics.notify(this.words, SLOT);
    Atomics.notify(this.words, LOCK);
    this.interrupts.wakeAll();
  }

  // ---- Calling the engine ----

  /** Sets a bit of the call word and wakes the engine if it sleeps. What the caller stored before, the engine sees. */
  private call(bit: number): void {
    if (Atomics.or(this.words, CALL, bit) < 0 && Atomics.and(this.words, CALL, ~ASLEEP) < 0) Atomics.notify(this.words, CALL, 1);
    // After the bit here, so that the engine finds it.
    this.primary?.call(VIRTUAL);
  }

  /** True when somebody has called: a plain read, for the loop of an engine that is busy anyway. */
  get called(): boolean {
    return this.words[CALL] !== 0;
  }

  /** The same for an engine that has nothing else to do. */
  get calledNow(): boolean {
    return Atomics.load(this.words, CALL) !== 0;
  }

  /**
   * Takes all calls. Doorbells go to `ring`, in ascending order of contexts; of several values of a context the last one.
   * @returns whether there is a request: the doorbells that its thread rang before are among the ones just taken (S-10)
   */
  take(ring: (context: number, value: number) => void): boolean {
    const { words, bitmap, chunkShift } = this;
    const calls = Atomics.exchange(words, CALL, 0);
    if ((calls & VIRTUAL) !== 0) this.virtualCalled = true;
    const perChunk = 1 << (chunkShift - 5);
    for (let chunks = calls & RUNG; chunks !== 0; chunks &= chunks - 1) {
      const first = (31 - Math.clz32(chunks & -chunks)) * perChunk;
      const end = Math.min(first + perChunk, this.bitmapWords);
      for (let w = first; w < end; w++) {
        if (Atomics.load(words, bitmap + w) === 0) continue;
        for (let bits = Atomics.exchange(words, bitmap + w, 0); bits !== 0; bits &= bits - 1) {
          const context = w * 32 + 31 - Math.clz32(bits & -bits);
          ring(context, this.doorbells[context]);
        }
      }
    }
    return (calls & REQUEST) !== 0 && (Atomics.load(words, SLOT) & 1) !== 0;
  }

  /** The engine sleeps until somebody calls or `timeoutMs` passed. Announcing it and looking once more is one step, so no call is lost. */
  sleep(timeoutMs: number): void {
    const { words } = this;
    if (Atomics.compareExchange(words, CALL, 0, ASLEEP) !== 0) return;
    Atomics.wait(words, CALL, ASLEEP, timeoutMs);
    Atomics.and(words, CALL, ~ASLEEP);
  }

  get asleep(): boolean {
    return Atomics.load(this.words, CALL) < 0;
  }

  /** Rings for a context that exists. */
  ring(context: number, value: number): void {
    const { words } = this;
    // A plain store: the value is a hint (S-9) and an aligned 8-byte store is one instruction. What publishes it, and all
    // that the producer wrote before, is the atomic OR after it.
    this.doorbells[context] = value;
    Atomics.or(words, this.bitmap + (context >>> 5), 1 << (context & 31));
    const chunk = 1 << (context >>> this.chunkShift);
    // Called already: the engine takes the calls before the bitmap, so it will find the bit.
    if ((Atomics.load(words, CALL) & (chunk | ASLEEP)) !== chunk) this.call(chunk);
  }

  // ---- Request slot ----

  /** Dword of the slot's state; the ones behind it are op, and the two small arguments, of which the first is also the answer's status. */
  get slot(): number {
    return SLOT;
  }

  get lock(): number {
    return LOCK;
  }

  get op(): Op {
    return this.words[SLOT + 1] as Op;
  }

  /** Access bits of a mapping; in the answer 0, or the bytes of the error's JSON in {@link text}. */
  get status(): number {
    return this.words[SLOT + 2];
  }

  set status(status: number) {
    this.words[SLOT + 2] = status;
  }

  get pasid(): number {
    return this.words[SLOT + 3];
  }

  set pasid(pasid: number) {
    this.words[SLOT + 3] = pasid;
  }

  /** Whose memory a MAP or UNMAP is about: {@link OWN}, or a member of the fabric. */
  get owner(): number {
    return Number(BigInt.asIntN(32, this.value[0]));
  }

  set owner(owner: number) {
    this.value[0] = BigInt.asUintN(32, BigInt(owner));
  }

  /** Hands the filled slot to the engine. */
  post(op: Op): void {
    this.words[SLOT + 1] = op;
    Atomics.store(this.words, SLOT, Slot.PENDING);
    this.call(REQUEST);
  }

  /** The engine has answered. */
  answer(): void {
    if (Atomics.exchange(this.words, SLOT, Slot.DONE) === Slot.PENDING_ASLEEP) Atomics.notify(this.words, SLOT, 1);
  }

  /** Stores text, cut to what fits. @returns its bytes */
  writeText(text: string): number {
    const bytes = new TextEncoder().encode(text).subarray(0, TEXT_BYTES);
    this.text.set(bytes);
    return bytes.length;
  }

  readText(byteLength: number): string {
    return new TextDecoder().decode(this.text.slice(0, byteLength));
  }
}
