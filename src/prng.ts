import { hi32, lo32 } from './spec/u64.js';

/** One step of splitmix32: spreads a small seed over the state of the generator below. */
function splitmix(state: number): number {
  let z = (state + 0x9e37_79b9) | 0;
  z = Math.imul(z ^ (z >>> 16), 0x21f0_aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a_2d97);
  return (z ^ (z >>> 15)) >>> 0;
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

/**
 * xoshiro128**: random numbers that a seed repeats exactly, on every machine and every Node. One stream for each thread of a
 * test, so that what one does never depends on how far another one got. Not for secrets.
 */
export class Prng {
  private a: number;
  private b: number;
  private c: number;
  private d: number;

  /** @param seed a whole number from 0 to 2^53 - 1; @param stream independent of all other streams of the same seed */
  constructor(seed: number, stream = 0) {
    this.a = splitmix(lo32(seed));
    this.b = splitmix(this.a ^ hi32(seed));
    this.c = splitmix(this.b ^ stream);
    // All four zero is the one state that never changes.
    this.d = splitmix(this.c) | 1;
  }

  /** 32 random bits. */
  next(): number {
    const result = Math.imul(rotate(Math.imul(this.b, 5), 7), 9) >>> 0;
    const shifted = this.b << 9;
    this.c ^= this.a;
    this.d ^= this.b;
    this.b ^= this.c;
    this.a ^= this.d;
    this.c ^= shifted;
    this.d = rotate(this.d, 11);
    return result;
  }

  /** A whole number from 0 to `limit` - 1; `limit` is at most 2^32. */
  below(limit: number): number {
    return Math.floor((this.next() / 2 ** 32) * limit);
  }

  /** Random bytes all over `target`. */
  fill(target: Uint8Array): void {
    const words = target.length >>> 2;
    const view = new DataView(target.buffer, target.byteOffset, target.byteLength);
    for (let i = 0; i < words; i++) view.setUint32(i * 4, this.next(), true);
    for (let i = words * 4; i < target.length; i++) target[i] = this.next();
  }

  /** The numbers 0 to `count` - 1 in random order (Fisher-Yates). */
  permutation(count: number): Uint32Array {
    const order = Uint32Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const swapped = order[i];
      order[i] = order[j];
      order[j] = swapped;
    }
    return order;
  }
}

/** A seed for whoever did not ask for one: below 2^32, so that it is short to type. */
export function randomSeed(): number {
  return Math.floor(Math.random() * 2 ** 32);
}
