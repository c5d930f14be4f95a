/** Bits of an interrupt word; the rest of it counts deliveries. */
const MASKED = 1;
const PENDING = 2;
const ONE_DELIVERY = 4;

/** Most interrupts that one {@link InterruptWords.raise} delivers: far from where the counter could wrap twice. */
const AT_ONCE_MAX = 1 << 20;

/** Dwords of a vector: a cache line. */
export const VECTOR_WORDS = 16;

/**
 * Interrupt vectors in memory that threads share: counted, masked, waited for.
 *
 * One word per vector: bit 0 masked, bit 1 pending, and above them the deliveries modulo 2^30, so that delivering and masking cannot pass
 * each other. A second word counts how often the top bit of the first changed: with it the count is exact modulo 2^32. A third word counts
 * sleepers, because notify() costs more than all the rest.
 */
export class InterruptWords {
  readonly words: Int32Array;
  readonly vectors: number;
  private readonly first: number;

  /**
   * @param words over a SharedArrayBuffer
   * @param first dword of vector 0; {@link VECTOR_WORDS} for each vector follow
   */
  constructor(words: Int32Array, first: number, vectors: number) {
    this.words = words;
    this.first = first;
    this.vectors = vectors;
  }

  /** Dword to wait on for deliveries of a vector. It also changes when the vector is masked or becomes pending. */
  word(vector: number): number {
    return this.first + vector * VECTOR_WORDS;
  }

  /** Interrupts of the function: one, or as many as an event counter has counted (2^20 at most). */
  raise(vector: number, times = 1): void {
    const { words } = this;
    const at = this.word(vector);
    for (;;) {
      const old = words[at]; // the exchange says whether it still holds
      if ((old & MASKED) === 0) {
        const next = (old + Math.min(times, AT_ONCE_MAX) * ONE_DELIVERY) | 0;
        if (Atomics.compareExchange(words, at, old, next) !== old) continue;
        this.delivered(at, old, next);
        return;
      } else if (Atomics.compareExchange(words, at, old, old | PENDING) === old) {
        // Exchanged even if it was pending: whoever unmasks after that also sees what the interrupt announces.
        return;
      }
    }
  }

  mask(vector: number): void {
    Atomics.or(this.words, this.word(vector), MASKED);
  }

  unmask(vector: number): void {
    const { words } = this;
    const at = this.word(vector);
    for (;;) {
      const old = Atomics.load(words, at);
      if ((old & MASKED) === 0) return;
      const next = ((old & ~(MASKED | PENDING)) + ((old & PENDING) !== 0 ? ONE_DELIVERY : 0)) | 0;
      if (Atomics.compareExchange(words, at, old, next) !== old) continue;
      if ((old & PENDING) !== 0) this.delivered(at, old, next);
      return;
    }
  }

  pending(vector: number): boolean {
    return (Atomics.load(this.words, this.word(vector)) & PENDING) !== 0;
  }

  /** Deliveries so far, modulo 2^32. */
  count(vector: number): number {
    const { words } = this;
    const at = this.word(vector);
    for (;;) {
      const crossings = Atomics.load(words, at + 1);
      const word = Atomics.load(words, at);
      if (Atomics.load(words, at + 1) !== crossings) continue;
      // The parity of the crossings is the top bit of the word, unless whoever crossed has not written it down yet.
      const passed = (crossings & 1) === word >>> 31 ? crossings : crossings + 1;
      return (((passed >>> 1) << 30) | (word >>> 2)) >>> 0;
    }
  }

  /** All vectors as at power-on: nothing masked, nothing pending; counts stay. */
  reset(): void {
    for (let v = 0; v < this.vectors; v++) Atomics.and(this.words, this.word(v), ~(MASKED | PENDING));
  }

  /** From now on (`by` = 1) or no longer (`by` = -1) deliveries of the vector notify its word. */
  listen(vector: number, by: 1 | -1): void {
    Atomics.add(this.words, this.word(vector) + 2, by);
  }

  /** Everyone who sleeps on a vector wakes up to look. */
  wakeAll(): void {
    for (let v = 0; v < this.vectors; v++) Atomics.notify(this.words, this.word(v));
  }

  private delivered(at: number, old: number, next: number): void {
    if ((old ^ next) < 0) Atomics.add(this.words, at + 1, 1);
    if (Atomics.load(this.words, at + 2) > 0) Atomics.notify(this.words, at);
  }
}
