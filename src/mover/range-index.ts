import type { Grant } from './memory.js';

/**
 * Ranges of one ArrayBuffer that may be used, sorted by start; registrations may overlap. Finding the one that covers a view is a
 * binary search, and first of all a look at the one that was found last.
 */
export class RangeIndex {
  private readonly grants: Grant[] = [];
  /** Highest end among grants 0…i: where the walk to lower starts may stop. */
  private readonly reach: number[] = [];
  private last: Grant | undefined;

  get size(): number {
    return this.grants.length;
  }

  add(grant: Grant): void {
    const at = this.behind(grant.start);
    this.grants.splice(at, 0, grant);
    this.reach.splice(at, 0, 0);
    this.update(at, true);
  }

  delete(grant: Grant): void {
    const at = this.grants.indexOf(grant, Math.max(0, this.firstOf(grant.start)));
    if (at < 0) return;
    this.grants.splice(at, 1);
    this.reach.splice(at, 1);
    this.update(at, false);
    this.last = undefined;
  }

  /** A range that covers [start, end). */
  find(start: number, end: number): Grant | undefined {
    const { last } = this;
    if (last !== undefined && last.start <= start && end <= last.end) return last;
    for (let i = this.behind(start) - 1; i >= 0 && this.reach[i] >= end; i--) {
      if (this.grants[i].end < end) continue;
      this.last = this.grants[i];
      return this.last;
    }
    return undefined;
  }

  /** Index of the first grant that starts above `start`. */
  private behind(start: number): number {
    let low = 0;
    let high = this.grants.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.grants[middle].start <= start) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private firstOf(start: number): number {
    return this.behind(start - 1);
  }

  private update(from: number, added: boolean): void {
    const { grants, reach } = this;
    for (let i = from; i < grants.length; i++) {
      const most = Math.max(grants[i].end, i > 0 ? reach[i - 1] : 0);
      // Once nothing changes, nothing behind it does; a new entry changes itself in any case.
      if (reach[i] === most && !(added && i === from)) return;
      reach[i] = most;
    }
  }
}
