import { SdxiError } from '../errors.js';
import { publish32 } from '../spec/u64.js';
import { WINDOW_MAX, Window } from './window.js';

/** What a mapping allows the function to do. */
export const Access = { READ: 1, WRITE: 2, READ_WRITE: 3 } as const;
export type Access = (typeof Access)[keyof typeof Access];

/** Addresses from here on cannot be mapped: JS numbers are exact below (S-103). */
export const ADDRESS_LIMIT = 2 ** 53;

const NOWHERE = new Window(new ArrayBuffer(0));

/** Most mappings in a bucket of the sorted list: inserting moves at most this many references. */
const BUCKET_MAX = 512;

/**
 * Who has to be asked before bytes of a mapping are touched, and told after: memory that is a copy of somebody else's, or whose changes
 * are logged. What {@link access} was asked for may be read and changed until the function's step is over.
 *
 * Between two calls the function changes one structure only: the one it asked for last, from its highest address down, and 64-bit values
 * at once. So a watch that brings what has changed to its owner at each call keeps the order of the function's writes (S-74); it must do
 * so before it fetches bytes anew, because these may be among them. A watch maps and unmaps nothing while it is asked.
 */
export interface MappingWatch {
  /**
   * Before a structure of `length` bytes is read or changed in place.
   * @param access bits of {@link Access}; what is only written is read as well, where the mapping allows that
   * @returns false: it cannot be accessed
   */
  access(mapping: Mapping, address: number, length: number, access: number): boolean;
  /** Before `length` bytes of data are read. @returns false: they cannot be had */
  read(mapping: Mapping, address: number, length: number): boolean;
  /** After `length` bytes of data were written. @returns false: they did not arrive */
  wrote(mapping: Mapping, address: number, length: number): boolean;
}

/** Two watches of one mapping: the one that brings the bytes, and the one of the whole address space. */
class BothWatches implements MappingWatch {
  private readonly first: MappingWatch;
  private readonly second: MappingWatch;

  constructor(first: MappingWatch, second: MappingWatch) {
    this.first = first;
    this.second = second;
  }

  access(mapping: Mapping, address: number, length: number, access: number): boolean {
    return this.first.access(mapping, address, length, access) && this.second.access(mapping, address, length, access);
  }

  read(mapping: Mapping, address: number, length: number): boolean {
    return this.first.read(mapping, address, length) && this.second.read(mapping, address, length);
  }

  /** Both hear of it in any case: a piece that did not arrive may have arrived in part. */
  wrote(mapping: Mapping, address: number, length: number): boolean {
    const arrived = this.first.wrote(mapping, address, length);
    return this.second.wrote(mapping, address, length) && arrived;
  }
}

function together(own: MappingWatch | undefined, common: MappingWatch | undefined): MappingWatch | undefined {
  return own !== undefined && common !== undefined ? new BothWatches(own, common) : (own ?? common);
}

/**
 * One contiguous piece of an address space that lies in one window. Whoever has found a mapping may keep it: once it is
 * removed its range is empty, so {@link covers} says no and nothing can be reached through it.
 *
 * The `load`/`store` methods are for structures (aligned, inside the mapping: ask {@link covers} first); bulk data goes
 * through `u8` at `address + shift`.
 */
export class Mapping {
  start: number;
  end: number;
  /** Bits of {@link Access} in force; 0 while bus mastering is off (S-47). */
  access: number;
  readonly granted: number;
  /** Add to an address to get the byte index in the window. */
  shift: number;
  u8: Uint8Array;
  u32: Uint32Array;
  i32: Int32Array;
  i64: BigInt64Array;
  /** Asked and told of every access, if there is one. */
  watch: MappingWatch | undefined;
  /** The one that it was mapped with. */
  private readonly ownWatch: MappingWatch | undefined;

  constructor(start: number, length: number, access: number, window: Window, offset: number, watch?: MappingWatch) {
    this.start = start;
    this.end = start + length;
    this.access = access;
    this.granted = access;
    this.shift = offset - start;
    this.u8 = window.u8;
    this.u32 = window.u32;
    this.i32 = window.i32;
    this.i64 = window.i64;
    this.watch = watch;
    this.ownWatch = watch;
  }

  /** Puts a watch of the whole address space beside the mapping's own, or takes it away. */
  watchToo(common: MappingWatch | undefined): void {
    this.watch = together(this.ownWatch, common);
  }

  /**
   * True when all of [address, address + length) may be accessed this way through this mapping: for structures, each time before they are
   * touched, because a watch may have to bring them.
   */
  covers(address: number, length: number, access: number): boolean {
    // Differences below 2^53 are exact; `address + length` need not be.
    const inside = address >= this.start && length <= this.end - address && (this.access & access) === access;
    return inside && (this.watch === undefined || this.watch.access(this, address, length, access));
  }

  /** True when data at `address` may be accessed this way: what is moved there is asked for with {@link fetch} and told with {@link sent}. */
  holds(address: number, access: number): boolean {
    return address >= this.start && address < this.end && (this.access & access) === access;
  }

  /** Before data is read. @returns false: it cannot be had */
  fetch(address: number, length: number): boolean {
    return this.watch === undefined || this.watch.read(this, address, length);
  }

  /** After data was written. @returns false: it did not arrive */
  sent(address: number, length: number): boolean {
    return this.watch === undefined || this.watch.wrote(this, address, length);
  }

  /** Makes the mapping empty for everyone who still holds it. */
  revoke(): void {
    this.start = Number.POSITIVE_INFINITY;
    this.end = Number.NEGATIVE_INFINITY;
    this.access = 0;
    this.watch = undefined;
    this.u8 = NOWHERE.u8;
    this.u32 = NOWHERE.u32;
    this.i32 = NOWHERE.i32;
    this.i64 = NOWHERE.i64;
  }

  /** Index of the dword at a 4-byte aligned address. */
  word(address: number): number {
    return (address + this.shift) >>> 2;
  }

  load32(address: number): number {
    return this.u32[(address + this.shift) >>> 2];
  }

  store8(address: number, value: number): void {
    this.u8[address + this.shift] = value;
  }

  store32(address: number, value: number): void {
    this.u32[(address + this.shift) >>> 2] = value;
  }

  /**
   * Atomically takes 1 from the 64-bit value at an 8-byte aligned address; 0 wraps to 2^64 − 1 (S-13, S-73).
   *
   * While the low dword is not 0 nothing is borrowed from the high one, so a compare-and-swap of the low dword is the same
   * indivisible change of all 64 bits, without the cost of BigInt.
   */
  decrementSignal(address: number): void {
    const word = (address + this.shift) >>> 2;
    for (;;) {
      const low = this.i32[word];
      if (low === 0) break;
      if (Atomics.compareExchange(this.i32, word, low, (low - 1) | 0) === low) return;
    }
    Atomics.sub(this.i64, word >>> 1, 1n);
  }

  /** Overwrites the 64-bit value at an 8-byte aligned address, after everything stored before. */
  storeSignal(address: number, value: number): void {
    Atomics.store(this.i64, (address + this.shift) >>> 3, BigInt(value));
  }

  /**
   * Stores a growing 64-bit counter for others to see, after everything stored before: the high dword is written only when
   * it has to be; the low dword goes first, so that a reader sees too small a value for a moment, never too large a one (S-72).
   */
  publish64(address: number, value: number): void {
    const word = (address + this.shift) >>> 2;
    const high = (value / 2 ** 32) >>> 0;
    publish32(this.u32, word, value >>> 0);
    if (this.u32[word + 1] !== high) publish32(this.u32, word + 1, high);
  }
}

/** Why an access cannot be made: nothing there (sub_step 1), or there and not allowed (sub_step 2). Ref §7.1 item 4. */
export type Refusal = 'unmapped' | 'refused';

/**
 * What DMA addresses mean for one (function, PASID): a sorted set of mappings that do not overlap, added and removed at
 * any time (S-102). Lookups cost O(log n), changes O(√n).
 */
export class AddressSpace {
  private buckets: Mapping[][] = [];
  private firsts: number[] = [];
  private blocked = false;
  private watch: MappingWatch | undefined;
  /** Number of mappings in force. */
  size = 0;

  /**
   * Grants `length` bytes at `address`, which are the bytes of `window` from `offset` on. More than 2 GiB are given as several windows.
   * @param watch asked and told of every access
   * @throws SdxiError ERR_SDXI_MAPPING when the range is empty, wraps, overlaps another or is not congruent with its memory modulo 8.
   */
  map(address: number, length: number, access: number, window: Window, offset = 0, watch?: MappingWatch): Mapping {
    const bad = (why: string, hint: string): never => {
      throw new SdxiError('ERR_SDXI_MAPPING', `cannot map ${length} bytes at 0x${address.toString(16)}: ${why}`, {
        hint,
        fields: { address, length },
      });
    };
    if (!Number.isSafeInteger(address) || !Number.isSafeInteger(length) || address < 0 || length <= 0 || length > ADDRESS_LIMIT - address) {
      bad('not a range of addresses below 2^53', 'give a byte address and a length of at least 1');
    }
    if (length > WINDOW_MAX || offset < 0 || offset + length > window.byteLength)
      bad('it reaches beyond its memory', 'map at most the length of the window');
    if ((address - offset) % 8 !== 0)
      bad('address and memory differ modulo 8', 'give the address the same offset in its page as the memory has');
    if ((access & ~Access.READ_WRITE) !== 0 || access === 0) bad('no access granted', 'grant read, write or both');
    const at = this.bucketOf(address);
    const bucket = this.buckets[at] ?? this.insertBucket();
    const index = upperBound(bucket, address);
    const next = bucket[index] ?? this.buckets[at + 1]?.[0];
    const previous = bucket[index - 1];
    if ((previous && previous.end > address) || (next && next.start < address + length)) {
      bad('part of it is mapped already', 'unmap the old range first');
    }
    const mapping = new Mapping(address, length, access, window, offset, watch);
    if (this.blocked) mapping.access = 0;
    if (this.watch !== undefined) mapping.watchToo(this.watch);
    bucket.splice(index, 0, mapping);
    if (index === 0) this.firsts[at] = address;
    if (bucket.length > BUCKET_MAX) this.split(at);
    this.size++;
    return mapping;
  }

  /**
   * Removes every mapping inside [address, address + length).
   * @returns the number of bytes that were mapped.
   * @throws SdxiError ERR_SDXI_MAPPING when the range cuts a mapping in two; nothing is removed then.
   */
  unmap(address: number, length: number): number {
    const end = address + length;
    const inside: Mapping[] = [];
    for (const mapping of this.from(address)) {
      if (mapping.start >= end) break;
      if (mapping.start < address || mapping.end > end) {
        throw new SdxiError('ERR_SDXI_MAPPING', `unmapping ${length} bytes at 0x${address.toString(16)} would cut a mapping in two`, {
          hint: 'unmap ranges as they were mapped',
          fields: { address, length, mapped: mapping.start, mappedLength: mapping.end - mapping.start },
        });
      }
      inside.push(mapping);
    }
    let bytes = 0;
    for (const mapping of inside) {
      bytes += mapping.end - mapping.start;
      this.remove(mapping);
    }
    return bytes;
  }

  /** Removes everything. */
  clear(): void {
    for (const bucket of this.buckets) for (const mapping of bucket) mapping.revoke();
    this.buckets = [];
    this.firsts = [];
    this.size = 0;
  }

  /** Whether any byte of a range is mapped. */
  overlaps(address: number, length: number): boolean {
    for (const mapping of this.from(address)) return mapping.start < address + length;
    return false;
  }

  /** The mapping that holds `address`, whatever it allows. */
  at(address: number): Mapping | undefined {
    const bucket = this.buckets[this.bucketOf(address)];
    if (!bucket) return undefined;
    const mapping = bucket[upperBound(bucket, address) - 1];
    return mapping && address < mapping.end ? mapping : undefined;
  }

  /** The mapping that allows all of [address, address + length), when a single one does. */
  find(address: number, length: number, access: number): Mapping | undefined {
    const mapping = this.at(address);
    return mapping?.covers(address, length, access) ? mapping : undefined;
  }

  /**
   * Walks [address, address + length) piece by piece, in ascending order.
   * Ends with the first address that cannot be accessed and why, when there is one.
   */
  *translate(
    address: number,
    length: number,
    access: number,
  ): Generator<{ mapping: Mapping; address: number; length: number }, { address: number; why: Refusal } | undefined> {
    let at = address;
    for (let left = length; left > 0; ) {
      const mapping = this.at(at);
      if (!mapping) return { address: at, why: this.absence };
      if ((mapping.access & access) !== access) return { address: at, why: 'refused' };
      const piece = Math.min(left, mapping.end - at);
      yield { mapping, address: at, length: piece };
      at += piece;
      left -= piece;
    }
    return undefined;
  }

  /** Why {@link find} said no. A structure that two mappings share counts as refused: it cannot be accessed as a whole. */
  refusal(address: number, length: number): Refusal {
    // Up there sums are inexact, and adding a length may change nothing.
    if (length > ADDRESS_LIMIT - address) return this.absence;
    for (let at = address; at < address + length; ) {
      const mapping = this.at(at);
      if (!mapping) return this.absence;
      at = mapping.end;
    }
    return 'refused';
  }

  /** What an address without a mapping is: with bus mastering off, every access is refused before it is translated (S-47). */
  private get absence(): Refusal {
    return this.blocked ? 'refused' : 'unmapped';
  }

  /** All mappings in ascending order. */
  *[Symbol.iterator](): Generator<Mapping> {
    for (const bucket of this.buckets) yield* bucket;
  }

  /** Refuses every access while `blocked` (bus mastering off, S-47); what is mapped stays mapped. */
  setBlocked(blocked: boolean): void {
    this.blocked = blocked;
    for (const mapping of this) mapping.access = blocked ? 0 : mapping.granted;
  }

  /** Has every mapping watched, those to come as well and beside the watches of their own; `undefined` ends it. */
  setWatch(watch: MappingWatch | undefined): void {
    this.watch = watch;
    for (const mapping of this) mapping.watchToo(watch);
  }

  private *from(address: number): Generator<Mapping> {
    for (let b = this.bucketOf(address); b < this.buckets.length; b++) {
      for (const mapping of this.buckets[b]) if (mapping.end > address) yield mapping;
    }
  }

  private remove(mapping: Mapping): void {
    const b = this.bucketOf(mapping.start);
    const bucket = this.buckets[b];
    const index = upperBound(bucket, mapping.start) - 1;
    bucket.splice(index, 1);
    if (bucket.length === 0) {
      this.buckets.splice(b, 1);
      this.firsts.splice(b, 1);
    } else if (index === 0) {
      this.firsts[b] = bucket[0].start;
    }
    this.size--;
    mapping.revoke();
  }

  private insertBucket(): Mapping[] {
    const bucket: Mapping[] = [];
    this.buckets.push(bucket);
    this.firsts.push(0);
    return bucket;
  }

  private split(b: number): void {
    const upper = this.buckets[b].splice(BUCKET_MAX / 2);
    this.buckets.splice(b + 1, 0, upper);
    this.firsts.splice(b + 1, 0, upper[0].start);
  }

  /** The last bucket whose first mapping starts at or below `address`; the first bucket when none does. */
  private bucketOf(address: number): number {
    let low = 0;
    let high = this.firsts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.firsts[middle] <= address) low = middle + 1;
      else high = middle;
    }
    return low === 0 ? 0 : low - 1;
  }
}

/** Index of the first mapping that starts above `address`. */
function upperBound(bucket: Mapping[], address: number): number {
  let low = 0;
  let high = bucket.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (bucket[middle].start <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** "No PASID": the function's own address space. */
export const NO_PASID = -1;

/** The address spaces that one function can reach: its own, and one for each PASID the platform has bound. */
export class AddressSpaces {
  readonly own = new AddressSpace();
  private readonly byPasid = new Map<number, AddressSpace>();
  private blocked = false;
  private watch: MappingWatch | undefined;

  /** The space of a PASID, or `undefined` when the platform does not know it (S-109). */
  of(pasid: number): AddressSpace | undefined {
    return pasid === NO_PASID ? this.own : this.byPasid.get(pasid);
  }

  /** The space of a PASID, bound on first use. @throws RangeError unless it is NO_PASID or a 20-bit number. */
  bind(pasid: number): AddressSpace {
    if (pasid === NO_PASID) return this.own;
    if (!Number.isInteger(pasid) || pasid < 0 || pasid > 0xfffff) throw new RangeError(`a PASID has 20 bits, ${pasid} does not fit`);
    let space = this.byPasid.get(pasid);
    if (!space) {
      space = new AddressSpace();
      space.setBlocked(this.blocked);
      space.setWatch(this.watch);
      this.byPasid.set(pasid, space);
    }
    return space;
  }

  /** Forgets a PASID with all its mappings. */
  unbind(pasid: number): void {
    this.byPasid.get(pasid)?.clear();
    this.byPasid.delete(pasid);
  }

  /** Bus mastering off and on again (S-47). */
  setBlocked(blocked: boolean): void {
    this.blocked = blocked;
    this.own.setBlocked(blocked);
    for (const space of this.byPasid.values()) space.setBlocked(blocked);
  }

  /** {@link AddressSpace.setWatch} for all of them, those to come as well. */
  setWatch(watch: MappingWatch | undefined): void {
    this.watch = watch;
    this.own.setWatch(watch);
    for (const space of this.byPasid.values()) space.setWatch(watch);
  }
}
