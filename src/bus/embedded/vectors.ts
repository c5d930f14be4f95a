import type { InterruptPort } from '../../function/ports.js';

interface Vector {
  count: number;
  masked: boolean;
  pending: boolean;
}

/** The interrupt vectors of a function that runs on its user's thread; masks as in an MSI-X table. */
export class Vectors implements InterruptPort {
  readonly vectors: number;
  private readonly table: Vector[];

  constructor(vectors: number) {
    this.vectors = vectors;
    this.table = Array.from({ length: vectors }, () => ({ count: 0, masked: false, pending: false }));
  }

  raise(vector: number): void {
    const entry = this.table[vector];
    if (entry.masked) entry.pending = true;
    else entry.count = (entry.count + 1) >>> 0;
  }

  count(vector: number): number {
    return this.table[vector].count;
  }

  mask(vector: number): void {
    this.table[vector].masked = true;
  }

  unmask(vector: number): void {
    const entry = this.table[vector];
    if (!entry.masked) return;
    entry.masked = false;
    if (!entry.pending) return;
    entry.pending = false;
    this.raise(vector);
  }

  pending(vector: number): boolean {
    return this.table[vector].pending;
  }

  /** As at power-on: nothing masked, nothing pending; counts stay. */
  reset(): void {
    for (const entry of this.table) {
      entry.masked = false;
      entry.pending = false;
    }
  }
}
