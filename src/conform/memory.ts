import type { Bus } from '../bus/bus.js';
import { Access, allocateRegion, PAGE_BYTES, type Region } from '../memory/index.js';
import { CheckFailure, skip } from './check.js';

/**
 * What a function may change in a block: nothing but what the check expects (`fixed`), vl of slots (`ring`), state and read_index
 * (`status`), signal and er (`csb`), anything (`free`).
 */
export type BlockRule = 'fixed' | 'ring' | 'status' | 'csb' | 'free';

const MAY_CHANGE: Record<BlockRule, (offset: number, expected: number, actual: number) => boolean> = {
  fixed: () => false,
  ring: (offset, expected, actual) => offset % 64 === 0 && actual === (expected & ~1),
  status: (offset) => offset % 16 === 0 || offset % 16 >= 8,
  csb: (offset, expected, actual) => offset % 32 < 8 || (offset % 32 === 11 && actual === (expected | 0x80)),
  free: () => true,
};

/** Working memory of one check. */
const ARENA_BYTES = 6 * 2 ** 20;
/** Between any two blocks, and behind the last one. */
const GUARD_BYTES = 64;
const GUARD = 0xc5;
/** Where the arena lies for the function: above 4 GiB, away from what platforms reserve below. */
const ARENA_IOVA = 0x1_0000_0000;
/** Blocks with access rights of their own, each with a hole before and behind. */
const SPECIAL_IOVA = 0x2_0000_0000;
/** Never mapped. */
const HOLE_IOVA = 0x3_0000_0000;

/** A piece of memory that a check works with: its bytes, and beside them the bytes that it should have. */
export class Block {
  readonly name: string;
  /** DMA address of the first byte. */
  readonly iova: number;
  readonly bytes: Uint8Array;
  readonly expected: Uint8Array;
  readonly rule: BlockRule;
  /** Position in the arena. */
  readonly position: number;
  private readonly i64: BigInt64Array;
  private readonly i32: Int32Array;
  private readonly loose: [from: number, to: number][] = [];

  constructor(name: string, iova: number, position: number, bytes: Uint8Array, expected: Uint8Array, rule: BlockRule) {
    this.name = name;
    this.iova = iova;
    this.position = position;
    this.bytes = bytes;
    this.expected = expected;
    this.rule = rule;
    const at = bytes.byteOffset - (bytes.byteOffset % 8);
    const words = Math.floor((bytes.byteLength + (bytes.byteOffset - at)) / 8);
    this.i64 = new BigInt64Array(bytes.buffer, at, words);
    this.i32 = new Int32Array(bytes.buffer, bytes.byteOffset - (bytes.byteOffset % 4), bytes.byteLength >>> 2);
  }

  get byteLength(): number {
    return this.bytes.byteLength;
  }

  /** Writes as software does. */
  put(offset: number, data: ArrayLike<number>): void {
    this.bytes.set(data, offset);
    this.expected.set(data, offset);
  }

  /** One 8-byte store, at an offset that is a multiple of 8 in memory. */
  putU64(offset: number, value: number | bigint): void {
    const word = BigInt.asIntN(64, BigInt(value));
    Atomics.store(this.i64, offset / 8, word);
    new DataView(this.expected.buffer, this.expected.byteOffset).setBigInt64(offset, word, true);
  }

  /** The dwords behind the first one, then the first one: how descriptors and table entries are published. */
  publish(offset: number, data: Uint8Array): void {
    this.bytes.set(data.subarray(4), offset + 4);
    this.expected.set(data, offset);
    Atomics.store(this.i32, offset / 4, data[0] | (data[1] << 8) | (data[2] << 16) | (data[3] << 24));
  }

  /** What the function should have written when the check is over. */
  want(offset: number, data: ArrayLike<number>): void {
    this.expected.set(data, offset);
  }

  /** A range about which nothing can be said. */
  ignore(offset = 0, byteLength = this.byteLength - offset): void {
    this.loose.push([offset, offset + byteLength]);
  }

  u64(offset = 0): bigint {
    return BigInt.asUintN(64, Atomics.load(this.i64, offset / 8));
  }

  u32(offset: number): number {
    return Atomics.load(this.i32, offset / 4) >>> 0;
  }

  u8(offset = 0): number {
    return this.bytes[offset];
  }

  /** True once the bytes are those that {@link want} announced. */
  isAsExpected(): boolean {
    return this.difference() < 0;
  }

  /** First byte that is not as it should be, or -1. */
  difference(): number {
    if (Buffer.compare(this.bytes, this.expected) === 0) return -1;
    const allowed = MAY_CHANGE[this.rule];
    for (let i = 0; i < this.byteLength; i++) {
      if (this.bytes[i] === this.expected[i] || allowed(i, this.expected[i], this.bytes[i])) continue;
      if (!this.loose.some(([from, to]) => i >= from && i < to)) return i;
    }
    return -1;
  }

  /** @throws CheckFailure when a byte is not as it should be */
  verify(): void {
    const at = this.difference();
    if (at < 0) return;
    const hex = (value: number) => `0x${value.toString(16).padStart(2, '0')}`;
    throw new CheckFailure(`byte ${at} of ${this.name} is ${hex(this.bytes[at])}, not ${hex(this.expected[at])}`);
  }
}

export interface SpecialOptions {
  access?: Access;
  pasid?: number;
  rule?: BlockRule;
  /** Offset of the block in its first page. */
  offset?: number;
  /** Each page is a mapping of its own. */
  pages?: boolean;
}

/** Memory of a check. Between blocks lie guard bytes; a second copy holds what everything should be when the check is over. */
export class TestMemory {
  private readonly bus: Bus;
  private readonly region: Region;
  private readonly shadow = new Uint8Array(ARENA_BYTES);
  private readonly mapped: { iova: number; byteLength: number; pasid?: number }[] = [];
  private blocks: Block[] = [];
  private used = 0;
  private nextSpecial = SPECIAL_IOVA;

  constructor(bus: Bus) {
    this.bus = bus;
    this.region = bus.memoryAdvice?.source?.(ARENA_BYTES) ?? allocateRegion(ARENA_BYTES, 'sdxi-conform');
    bus.map({ iova: ARENA_IOVA, region: this.region, access: Access.READ_WRITE });
    this.region.bytes.fill(GUARD);
    this.shadow.fill(GUARD);
  }

  /** Never mapped, and neither is anything near it. */
  get hole(): number {
    return HOLE_IOVA;
  }

  /** Zeroed memory that the function may read and write. */
  alloc(name: string, byteLength: number, { align = 64, rule = 'fixed' as BlockRule } = {}): Block {
    return this.place(name, byteLength, align, 0, rule, (position) => ARENA_IOVA + position);
  }

  /** Memory with access rights or an address space of its own; holes before and behind it. */
  special(name: string, byteLength: number, options: SpecialOptions = {}): Block {
    const { access = Access.READ_WRITE, pasid, rule = 'fixed', offset = 0, pages = false } = options;
    if (access === Access.WRITE && this.bus.memoryAdvice?.writeOnlyIsReadable)
      skip('what the bus grants for writing alone may be readable: not every IOMMU tells the two apart');
    const base = this.nextSpecial;
    const block = this.place(name, byteLength, PAGE_BYTES, offset, rule, () => base + offset);
    const length = Math.ceil((offset + byteLength) / PAGE_BYTES) * PAGE_BYTES;
    this.nextSpecial += length + 2 * PAGE_BYTES;
    const step = pages ? PAGE_BYTES : length;
    for (let at = 0; at < length; at += step) this.map(base + at, block.position - offset + at, step, access, pasid);
    return block;
  }

  /** Gives a whole-page part of a block another address as well. */
  alias(
    block: Block,
    iova: number,
    { offset = 0, byteLength = block.byteLength, access = Access.READ_WRITE as Access, pasid = undefined as number | undefined } = {},
  ): void {
    this.map(iova, block.position + offset, byteLength, access, pasid);
  }

  /** Addresses for aliases: `byteLength` bytes with a hole before and behind. */
  reserve(byteLength: number): number {
    const base = this.nextSpecial;
    this.nextSpecial += Math.ceil(byteLength / PAGE_BYTES) * PAGE_BYTES + 2 * PAGE_BYTES;
    return base;
  }

  /** Takes the mappings of a block made by {@link special}. */
  unmap(iova: number, byteLength: number, pasid?: number): void {
    this.bus.unmap(iova, byteLength, pasid);
    const inside = (entry: { iova: number }) => entry.iova >= iova && entry.iova < iova + byteLength;
    for (const entry of this.mapped.filter(inside)) this.mapped.splice(this.mapped.indexOf(entry), 1);
  }

  /** @throws CheckFailure for the first byte that changed without anybody expecting it */
  verify(): void {
    let at = 0;
    for (const block of this.blocks) {
      this.verifyGuard(at, block.position, block.name);
      block.verify();
      at = block.position + block.byteLength;
    }
    this.verifyGuard(at, Math.min(at + PAGE_BYTES, ARENA_BYTES), 'the end of memory');
  }

  /** Everything back to guard bytes; special mappings taken away. */
  reset(): void {
    for (const { iova, byteLength, pasid } of this.mapped.splice(0)) this.bus.unmap(iova, byteLength, pasid);
    const end = Math.min(this.used + PAGE_BYTES, ARENA_BYTES);
    this.region.bytes.fill(GUARD, 0, end);
    this.shadow.fill(GUARD, 0, end);
    this.blocks = [];
    this.used = 0;
    this.nextSpecial = SPECIAL_IOVA;
  }

  /** Takes all memory from the function. */
  close(): void {
    this.reset();
    this.bus.unmap(ARENA_IOVA, this.region.byteLength);
    this.region.closeFile?.();
  }

  private verifyGuard(from: number, to: number, before: string): void {
    if (Buffer.compare(this.region.bytes.subarray(from, to), this.shadow.subarray(from, to)) === 0) return;
    const changed = this.region.bytes.subarray(from, to).findIndex((value) => value !== GUARD);
    throw new CheckFailure(`a guard byte changed, ${to - from - changed} bytes before ${before}`);
  }

  private map(iova: number, position: number, byteLength: number, access: Access, pasid?: number): void {
    this.bus.map({ iova, region: this.region, offset: position, byteLength, access, pasid });
    this.mapped.push({ iova, byteLength, pasid });
  }

  private place(
    name: string,
    byteLength: number,
    align: number,
    offset: number,
    rule: BlockRule,
    iovaOf: (position: number) => number,
  ): Block {
    const position = Math.ceil((this.used + GUARD_BYTES) / align) * align + offset;
    const end = position + byteLength;
    if (end + GUARD_BYTES > ARENA_BYTES) throw new Error(`a check needs more than ${ARENA_BYTES} bytes`);
    const bytes = this.region.bytes.subarray(position, end);
    const expected = this.shadow.subarray(position, end);
    bytes.fill(0);
    expected.fill(0);
    const block = new Block(name, iovaOf(position), position, bytes, expected, rule);
    this.blocks.push(block);
    this.used = align === PAGE_BYTES ? Math.ceil(end / PAGE_BYTES) * PAGE_BYTES : end;
    return block;
  }
}

/** Bytes without a short period, different for each seed. */
export function pattern(byteLength: number, seed = 1): Uint8Array {
  const data = new Uint8Array(byteLength);
  let x = (seed * 0x9e3779b1) >>> 0 || 1;
  for (let i = 0; i < byteLength; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    data[i] = x;
  }
  return data;
}
