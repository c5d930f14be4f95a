/**
 * 64-bit values. In memory they are little-endian pairs of 32-bit words; inside the package they are JS numbers, because BigInt costs a hot
 * loop 5 to 12 times its speed. From 2^53 on a number is no longer exact: an index or address up there is a fault (S-103). Registers and
 * the edges of the API, where every bit counts, use bigint.
 */
import { SdxiError } from '../errors.js';

if (new Uint8Array(Uint32Array.of(1).buffer)[0] !== 1) {
  // SDXI is little-endian (ref §0.2) and the hot paths read it through typed arrays, which have the byte order of the host.
  throw new SdxiError('ERR_SDXI_UNSUPPORTED', 'sdxi needs a little-endian machine', {
    hint: 'SDXI structures are little-endian and this package reads them in place',
  });
}

/**
 * True on x64, where loads become visible in program order and stores in program order, and V8 keeps the order of accesses to typed
 * arrays: plain accesses do for what other threads are to see in order. Elsewhere (arm64) that takes `Atomics`, which costs
 * 10 to 25 ns an access on Node 20.
 */
export const ACCESSES_STAY_IN_ORDER = process.arch === 'x64';

/** 2^32. */
export const TWO32 = 4294967296;

/** Multiplying by it is exact, and cheaper than dividing by 2^32. */
const PER_TWO32 = 2 ** -32;

/** 2^53: the first index or address that is a fault. S-103. */
export const MAX_INDEX = 2 ** 53;

/** Low 32 bits of a non-negative integer below 2^64. */
export function lo32(n: number): number {
  return n >>> 0;
}

/** Bits 63:32 of a non-negative integer below 2^64. */
export function hi32(n: number): number {
  return (n * PER_TWO32) >>> 0;
}

/**
 * The 64-bit value at a word index. A result of {@link MAX_INDEX} or more is inexact and means "fault".
 * Not for words that another thread writes at the same time: see {@link loadSharedU64}.
 */
export function loadU64(u32: Uint32Array, word: number): number {
  return u32[word + 1] * TWO32 + u32[word];
}

/**
 * The 64-bit counter at a word index, while another thread or process may be advancing it: reads high, low, high until both highs agree
 * (S-72). One 32-bit carry would have to happen between the reads each time, so a few turns are plenty.
 */
export function loadSharedU64(u32: Uint32Array, word: number): number {
  let high = loadShared32(u32, word + 1);
  for (let turn = 0; turn < 8; turn++) {
    const low = loadShared32(u32, word);
    const again = loadShared32(u32, word + 1);
    if (again === high) return high * TWO32 + low;
    high = again;
  }
  return high * TWO32 + loadShared32(u32, word);
}

/** A dword that another thread writes: whatever is loaded after it is at least as young. */
export function loadShared32(words: Uint32Array | Int32Array, word: number): number {
  return ACCESSES_STAY_IN_ORDER ? words[word] : Atomics.load(words, word);
}

/** Stores a dword for other threads to see, after everything stored before. */
export function publish32(words: Uint32Array | Int32Array, word: number, value: number): void {
  if (ACCESSES_STAY_IN_ORDER) words[word] = value;
  else Atomics.store(words, word, value);
}

/**
 * Stores a 64-bit value, low word first: a reader of a growing counter then sees for a moment a value that is too small, never one that
 * is too large (S-72).
 *
 * @param value a non-negative integer below 2^53
 */
export function storeU64(u32: Uint32Array, word: number, value: number): void {
  u32[word] = value >>> 0;
  u32[word + 1] = (value * PER_TWO32) >>> 0;
}

/** A bigint from two unsigned 32-bit halves. */
export function toBigInt(lo: number, hi: number): bigint {
  return (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
}

/** The unsigned 32-bit halves, low first, of a bigint; bits above 63 are dropped. */
export function fromBigInt(v: bigint): [lo: number, hi: number] {
  return [Number(BigInt.asUintN(32, v)), Number(BigInt.asUintN(32, v >> 32n))];
}
