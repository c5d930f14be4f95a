import { InterruptWords, VECTOR_WORDS } from '../interrupt-words.js';
import { Life } from '../life.js';

const LIFE = 0;
const CLAIMED = 1;
const REASON_BYTES = 2;
const TEXT = 16;
const TEXT_BYTES = 1024;
const INTERRUPTS = TEXT + TEXT_BYTES / 4;

/** What the user's threads and a watcher share: whether the other side lives, and its interrupts. One small SharedArrayBuffer. */
export class WatchState {
  readonly buffer: SharedArrayBuffer;
  readonly interrupts: InterruptWords;
  private readonly words: Int32Array;
  private readonly text: Uint8Array;

  constructor(vectors: number, buffer?: SharedArrayBuffer) {
    this.buffer = buffer ?? new SharedArrayBuffer((INTERRUPTS + vectors * VECTOR_WORDS) * 4);
    this.words = new Int32Array(this.buffer);
    this.text = new Uint8Array(this.buffer, TEXT * 4, TEXT_BYTES);
    this.interrupts = new InterruptWords(this.words, INTERRUPTS, vectors);
  }

  get life(): Life {
    return Atomics.load(this.words, LIFE) as Life;
  }

  /** Moves life forward; later states win. Everyone who sleeps wakes up to look. */
  setLife(life: Life): void {
    for (;;) {
      const old = Atomics.load(this.words, LIFE);
      if (old >= life) return;
      if (Atomics.compareExchange(this.words, LIFE, old, life) === old) break;
    }
    this.interrupts.wakeAll();
  }

  /** The other side is gone. The first reason stays. */
  fail(reason: string): void {
    if (this.life >= Life.LOST || Atomics.compareExchange(this.words, CLAIMED, 0, 1) !== 0) return;
    const bytes = new TextEncoder().encode(reason).subarray(0, TEXT_BYTES);
    this.text.set(bytes);
    Atomics.store(this.words, REASON_BYTES, bytes.length);
    this.setLife(Life.LOST);
  }

  /** Why, once life is LOST. */
  get reason(): string {
    return new TextDecoder().decode(this.text.slice(0, Atomics.load(this.words, REASON_BYTES)));
  }
}
