import { Access, type Mapping, type MappingWatch } from '../memory/address-space.js';

/** Pages of one word of the log. */
const WORD_PAGES = 32;
/** Pages noted in one block of words. */
const BLOCK_WORDS = 1024;
const BLOCK_PAGES = BLOCK_WORDS * WORD_PAGES;

/**
 * Which pages the function has written since they were last reported: what a live migration has to send again. A structure that the
 * function may have written counts as written.
 */
export class DirtyLog implements MappingWatch {
  private pageBytes = 4096;
  private ranges: readonly { start: number; end: number }[] = [];
  /** Bits of pages, in blocks by their number. */
  private readonly blocks = new Map<number, Uint32Array>();
  private on = false;

  get active(): boolean {
    return this.on;
  }

  /** Bytes that one bit stands for. */
  get granularity(): number {
    return this.pageBytes;
  }

  /** @param ranges of addresses to be noted; none: all */
  start(pageBytes: number, ranges: readonly { start: number; end: number }[]): void {
    this.pageBytes = pageBytes;
    this.ranges = ranges;
    this.blocks.clear();
    this.on = true;
  }

  stop(): void {
    this.on = false;
    this.blocks.clear();
  }

  access(_mapping: Mapping, address: number, length: number, access: number): boolean {
    if ((access & Access.WRITE) !== 0) this.note(address, length);
    return true;
  }

  read(): boolean {
    return true;
  }

  wrote(_mapping: Mapping, address: number, length: number): boolean {
    this.note(address, length);
    return true;
  }

  /** Pages of [address, address + length) have been written. */
  note(address: number, length: number): void {
    if (!this.on) return;
    const { ranges, pageBytes, blocks } = this;
    if (ranges.length > 0 && !ranges.some(({ start, end }) => address < end && address + length > start)) return;
    const last = Math.floor((address + length - 1) / pageBytes);
    for (let page = Math.floor(address / pageBytes); page <= last; page++) {
      const number = Math.floor(page / BLOCK_PAGES);
      let block = blocks.get(number);
      if (block === undefined) {
        block = new Uint32Array(BLOCK_WORDS);
        blocks.set(number, block);
      }
      const within = page % BLOCK_PAGES;
      block[within >>> 5] |= 1 << (within & 31);
    }
  }

  /**
   * The bitmap of [iova, iova + length) in units of `pageBytes`, and forgets it: bit n of the 64-bit words is unit n.
   * @param into zeroed; at least 8 bytes for each 64 units
   */
  report(iova: number, length: number, pageBytes: number, into: Uint8Array): void {
    const own = this.pageBytes;
    const end = iova + length;
    for (const [number, block] of this.blocks) {
      const blockStart = number * BLOCK_PAGES * own;
      if (blockStart >= end || blockStart + BLOCK_PAGES * own <= iova) continue;
      for (let word = 0; word < BLOCK_WORDS; word++) {
        for (let bits = block[word]; bits !== 0; bits &= bits - 1) {
          const page = word * WORD_PAGES + 31 - Math.clz32(bits & -bits);
          const start = Math.max(blockStart + page * own, iova);
          const stop = Math.min(blockStart + (page + 1) * own, end);
          if (start >= stop) continue;
          for (let unit = Math.floor((start - iova) / pageBytes); unit <= Math.floor((stop - 1 - iova) / pageBytes); unit++) {
            into[unit >>> 3] |= 1 << (unit & 7);
          }
          // The rest of a page that was asked for in part has yet to be told.
          if (stop - start === own) block[word] &= ~(1 << (page & 31));
        }
      }
    }
  }
}
