/** BAR 4: the MSI-X table and the pending bits. PCIe 6.0 §7.7.2, S-93. */
import { checkAccess, masksOf, register, ro, rw, written } from './config-space.js';

/** Place and sizes. S-93: BARs 0 and 2 hold nothing but SDXI. */
export const MSIX_BAR = 4;
export const MSIX_BAR_BYTES = 0x10000;
export const MSIX_TABLE_OFFSET = 0;
export const MSIX_PBA_OFFSET = 0x8000;
export const MSIX_ENTRY_BYTES = 16;

/** One entry of the table. Where a message goes is of no interest to the model: whoever listens is told the vector. */
export const MSIX_ENTRY = [
  register('MESSAGE_ADDRESS', 0, 4, 'PCIe 6.0 §7.7.2.5', {
    aligned: ro(1, 0, 0, 'a dword'),
    address: rw(31, 2, 0, 'where the message goes'),
  }),
  register('MESSAGE_UPPER_ADDRESS', 4, 4, 'PCIe 6.0 §7.7.2.6', { address: rw(31, 0, 0, 'upper half') }),
  register('MESSAGE_DATA', 8, 4, 'PCIe 6.0 §7.7.2.7', { data: rw(31, 0, 0, 'what is written there') }),
  register('VECTOR_CONTROL', 12, 4, 'PCIe 6.0 §7.7.2.8', { mask: rw(0, 0, 1, 'nothing is sent') }),
] as const;

const ENTRY = masksOf(MSIX_ENTRY, MSIX_ENTRY_BYTES);
const MASK_BYTE = 12;

/** Table and pending bits: what they hold, not what follows from it. */
export class MsixTable {
  readonly vectors: number;
  private readonly table: Uint8Array;
  private readonly pba: Uint8Array;

  constructor(vectors: number) {
    this.vectors = vectors;
    this.table = new Uint8Array(vectors * MSIX_ENTRY_BYTES);
    this.pba = new Uint8Array(Math.ceil(vectors / 8));
    this.reset(() => false);
  }

  /** @param keepsMask vectors whose mask bits stay as they are */
  reset(keepsMask: (vector: number) => boolean): void {
    for (let vector = 0; vector < this.vectors; vector++) {
      const masked = keepsMask(vector) ? this.masked(vector) : true;
      this.table.set(ENTRY.reset, vector * MSIX_ENTRY_BYTES);
      this.setMasked(vector, masked);
    }
    this.pba.fill(0);
  }

  masked(vector: number): boolean {
    return (this.table[vector * MSIX_ENTRY_BYTES + MASK_BYTE] & 1) === 1;
  }

  setMasked(vector: number, on: boolean): void {
    this.table[vector * MSIX_ENTRY_BYTES + MASK_BYTE] = on ? 1 : 0;
  }

  pending(vector: number): boolean {
    return ((this.pba[vector >> 3] >> (vector & 7)) & 1) === 1;
  }

  setPending(vector: number, on: boolean): void {
    const bit = 1 << (vector & 7);
    if (on) this.pba[vector >> 3] |= bit;
    else this.pba[vector >> 3] &= ~bit;
  }

  /** All vectors with a pending bit, lowest first. */
  allPending(): number[] {
    const found: number[] = [];
    this.pba.forEach((byte, at) => {
      for (let bit = 0; byte >> bit; bit++) if ((byte >> bit) & 1) found.push(at * 8 + bit);
    });
    return found;
  }

  /** Any size and alignment; what is neither table nor pending bit, up to the whole qwords of PCIe 6.0 §7.7.2.9, is 0 (S-123). @throws ArgumentError for an access that leaves BAR 4 */
  read(offset: number, into: Uint8Array): void {
    checkAccess('BAR 4', MSIX_BAR_BYTES, offset, into.length);
    for (let i = 0; i < into.length; i++) {
      const at = offset + i;
      into[i] = (at < MSIX_PBA_OFFSET ? this.table[at - MSIX_TABLE_OFFSET] : this.pba[at - MSIX_PBA_OFFSET]) ?? 0;
    }
  }

  /** Any size and alignment; pending bits are read only (S-123). @throws ArgumentError for an access that leaves BAR 4 */
  write(offset: number, bytes: Uint8Array): void {
    checkAccess('BAR 4', MSIX_BAR_BYTES, offset, bytes.length);
    const end = Math.min(offset + bytes.length, this.table.length);
    for (let at = offset; at < end; at++) {
      this.table[at] = written(this.table[at], bytes[at - offset], ENTRY.writable[at % MSIX_ENTRY_BYTES], 0);
    }
  }

  /** The bytes of the table. */
  saveTable(): Uint8Array {
    return this.table.slice();
  }

  /** Whether these bytes can be those of this table: its size, and nothing in bits that software cannot set. */
  accepts(table: Uint8Array): boolean {
    return table.length === this.table.length && table.every((byte, at) => (byte & ~ENTRY.writable[at % MSIX_ENTRY_BYTES]) === 0);
  }

  /** Takes over bytes that {@link accepts} has let pass. @param keepsMask vectors whose mask bits stay as they are */
  restore(table: Uint8Array, pending: readonly number[], keepsMask: (vector: number) => boolean): void {
    const kept = Array.from({ length: this.vectors }, (_, vector) => (keepsMask(vector) ? this.masked(vector) : undefined));
    this.table.set(table);
    kept.forEach((masked, vector) => {
      if (masked !== undefined) this.setMasked(vector, masked);
    });
    this.pba.fill(0);
    for (const vector of pending) this.setPending(vector, true);
  }
}
