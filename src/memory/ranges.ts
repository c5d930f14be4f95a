/** First-fit allocator of ranges of numbers: offsets in an arena, addresses in an IOVA space. Holes are kept sorted and merged. */
export class RangeAllocator {
  private readonly starts: number[];
  private readonly ends: number[];

  /** Hands out parts of [start, end). */
  constructor(start: number, end: number) {
    this.starts = [start];
    this.ends = [end];
  }

  /**
   * @param length units, at least 1
   * @param alignment a power of two
   * @param phase the result is congruent to this modulo `alignment`
   * @returns the start of a free range, or -1 when no hole is large enough
   */
  allocate(length: number, alignment = 1, phase = 0): number {
    for (let i = 0; i < this.starts.length; i++) {
      const start = this.starts[i];
      const end = this.ends[i];
      const at = start + ((((phase - start) % alignment) + alignment) % alignment);
      if (at + length > end) continue;
      const before = at - start;
      const after = end - (at + length);
      if (before === 0 && after === 0) {
        this.starts.splice(i, 1);
        this.ends.splice(i, 1);
      } else if (before === 0) {
        this.starts[i] = at + length;
      } else {
        this.ends[i] = at;
        if (after > 0) {
          this.starts.splice(i + 1, 0, at + length);
          this.ends.splice(i + 1, 0, end);
        }
      }
      return at;
    }
    return -1;
  }

  /** Hands out exactly [start, start + length). @returns false when a part of it is handed out already, or lies outside */
  take(start: number, length: number): boolean {
    const end = start + length;
    const i = this.starts.findIndex((hole, n) => hole <= start && end <= (this.ends[n] as number));
    if (i < 0) return false;
    const [from, to] = [this.starts[i], this.ends[i]];
    const left = [
      [from, start],
      [end, to],
    ].filter(([a, b]) => a < b);
    this.starts.splice(i, 1, ...left.map(([a]) => a));
    this.ends.splice(i, 1, ...left.map(([, b]) => b));
    return true;
  }

  /** Gives [start, start + length) back. It must have been handed out. */
  free(start: number, length: number): void {
    let low = 0;
    let high = this.starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.starts[middle] < start) low = middle + 1;
      else high = middle;
    }
    const end = start + length;
    const joinsPrevious = low > 0 && this.ends[low - 1] === start;
    const joinsNext = low < this.starts.length && this.starts[low] === end;
    if (joinsPrevious && joinsNext) {
      this.ends[low - 1] = this.ends[low];
      this.starts.splice(low, 1);
      this.ends.splice(low, 1);
    } else if (joinsPrevious) {
      this.ends[low - 1] = end;
    } else if (joinsNext) {
      this.starts[low] = start;
    } else {
      this.starts.splice(low, 0, start);
      this.ends.splice(low, 0, end);
    }
  }

  /** Units that are free, in all holes together. */
  get available(): number {
    let sum = 0;
    for (let i = 0; i < this.starts.length; i++) sum += this.ends[i] - this.starts[i];
    return sum;
  }

  /** True when nothing is handed out of [start, end). */
  isWhole(start: number, end: number): boolean {
    return this.starts.length === 1 && this.starts[0] === start && this.ends[0] === end;
  }
}
