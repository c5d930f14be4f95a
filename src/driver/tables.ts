import { CXT_L1_ENT, CXT_L2_ENT } from '../spec/context.js';
import type { Input } from '../spec/layout.js';
import { l1Index, l2Index, TABLE_BYTES } from '../spec/limits.js';
import type { DmaBuffer, DmaSpace } from './dma.js';

const L1_WORDS = CXT_L1_ENT.byteLength / 4;
const L2_WORDS = CXT_L2_ENT.byteLength / 4;

/** Publishes a structure (ref §4.3, §4.4): everything behind the first qword, then its upper half, then the dword with vl. */
export function publishStructure(to: DmaBuffer, word: number, encoded: Uint8Array): void {
  const words = new Uint32Array(encoded.buffer, encoded.byteOffset, encoded.byteLength / 4);
  for (let i = 2; i < words.length; i++) to.u32[word + i] = words[i];
  to.u32[word + 1] = words[1];
  Atomics.store(to.i32, word, words[0] | 0);
}

/** Rescinds a structure: vl first, then the rest. */
export function withdrawStructure(from: DmaBuffer, word: number, words: number): void {
  Atomics.and(from.i32, word, ~1);
  from.u32.fill(0, word, word + words);
}

/** DMA addresses of tables; those of level 1 with their place in the level-2 table. */
export interface SavedTables {
  readonly level2: number;
  readonly level1: readonly (readonly [index: number, iova: number])[];
}

/** The level-2 table of a function and the level-1 tables below it, which are added as contexts need them. ref §4.1-4.3. */
export class ContextTables {
  readonly level2: DmaBuffer;
  private readonly dma: DmaSpace;
  private readonly level1 = new Map<number, DmaBuffer>();

  /** @param saved tables that are there already */
  constructor(dma: DmaSpace, saved?: SavedTables) {
    this.dma = dma;
    this.level2 = saved ? dma.at(saved.level2) : dma.allocate(TABLE_BYTES, TABLE_BYTES);
    for (const [index, iova] of saved?.level1 ?? []) this.level1.set(index, dma.at(iova));
  }

  /** Where they are, for a snapshot. */
  save(): SavedTables {
    return { level2: this.level2.iova, level1: [...this.level1].map(([index, { iova }]) => [index, iova] as const) };
  }

  /** Whether memory says what it should: the level-1 tables are linked, and a context's entry leads to these structures. */
  leadTo(context: number, control: number, akeys: number): boolean {
    const index = l2Index(context);
    const table = this.level1.get(index);
    if (!table) return false;
    const entry = (from: DmaBuffer, at: number, byteLength: number) => from.bytes.subarray(at * byteLength, (at + 1) * byteLength);
    const l2 = CXT_L2_ENT.decode(entry(this.level2, index, CXT_L2_ENT.byteLength));
    const l1 = CXT_L1_ENT.decode(entry(table, l1Index(context), CXT_L1_ENT.byteLength));
    const linked = l2.vl === 1 && Number(l2.lv01_ptr) === table.iova;
    return linked && l1.vl === 1 && Number(l1.cxt_ctl_ptr) === control && Number(l1.akey_ptr) === akeys;
  }

  /** The level-1 table that holds a context, made and linked when it is missing. @returns whether the level-2 table changed */
  ensureLevel1(context: number): boolean {
    const index = l2Index(context);
    if (this.level1.has(index)) return false;
    const table = this.dma.allocate(TABLE_BYTES, TABLE_BYTES);
    this.level1.set(index, table);
    publishStructure(this.level2, index * L2_WORDS, CXT_L2_ENT.encode({ vl: 1, lv01_ptr: table.iova }));
    return true;
  }

  /** Makes a context known to the function. Its level-1 table must be there. */
  publish(context: number, entry: Omit<Input<typeof CXT_L1_ENT.fields>, 'vl'>): void {
    publishStructure(this.tableOf(context), l1Index(context) * L1_WORDS, CXT_L1_ENT.encode({ ...entry, vl: 1 }));
  }

  withdraw(context: number): void {
    withdrawStructure(this.tableOf(context), l1Index(context) * L1_WORDS, L1_WORDS);
  }

  private tableOf(context: number): DmaBuffer {
    return this.level1.get(l2Index(context)) as DmaBuffer;
  }
}
