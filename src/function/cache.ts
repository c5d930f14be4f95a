import type { LiveCopies } from '../spec/index.js';
import type { RegisterFile } from './registers.js';

/** The tables of whose entries a function may keep copies. Ref §4.11. */
export const Table = { L2: 0, L1: 1, CTL: 2, AKEY: 3, RKEY: 4 } as const;
export type Table = (typeof Table)[keyof typeof Table];

/** Inclusive. */
export interface Range {
  first: number;
  last: number;
}

/** Bits of CXT_UPD's cflags: which level has changed. Ref §5.6. */
const CHANGED = { L2: 1, L1: 2, CTL: 4 } as const;

const EVERYTHING: Range = { first: 0, last: 0xffff };
/** A guest decides how many entries are used, so an old copy makes room beyond this number. */
export const COPIES_MAX = 65_536;

const one = (number: number): Range => ({ first: number, last: number });
const holds = ({ first, last }: Range, number: number): boolean => number >= first && number <= last;

/**
 * Copies of table entries, and of the registers that lead to them: options `cache=start` and `cache=sticky`, ref §4.11.
 *
 * Copies are named by table, owner (a context; 0 where the function owns the table) and index (a key, an L2 index; 0 where an
 * owner has one entry). An entry with vl = 0 is never handed to {@link keep} (O-15).
 */
export class EntryCache {
  /** MMIO_CXT_L2 and fn_pasid as of activation or the last FN_UPD (S-49). */
  level2 = 0;
  functionPasid = -1;
  private readonly sticky: boolean;
  /** By table, owner and index: what one owner has is dropped without a look at the others', of which a guest can make many. */
  private readonly copies: readonly Map<number, Map<number, Uint32Array>>[] = Object.values(Table).map(() => new Map());
  /** Copies of each table. */
  private readonly counts: number[] = this.copies.map(() => 0);

  constructor(mode: 'start' | 'sticky') {
    this.sticky = mode === 'sticky';
  }

  /**
   * The copy of an entry.
   * @param fresh the entry is read for a start or a load: with `cache=start` the copy is refreshed then
   */
  find(table: Table, owner: number, index: number, fresh = false): Uint32Array | undefined {
    return fresh && !this.sticky ? undefined : this.copies[table].get(owner)?.get(index);
  }

  /** Copies an entry whose vl is 1: `length` dwords from `word` on. @returns the copy */
  keep(table: Table, owner: number, index: number, u32: Uint32Array, word: number, length: number): Uint32Array {
    const owners = this.copies[table];
    const copy = u32.slice(word, word + length);
    let own = owners.get(owner);
    if (own === undefined) {
      own = new Map();
      owners.set(owner, own);
    }
    if (!own.has(index)) {
      if (this.counts[table] >= COPIES_MAX) this.evict(table);
      this.counts[table]++;
    }
    own.set(index, copy);
    owners.set(owner, own); // it may just have been evicted with its last copy
    return copy;
  }

  /** A context is loaded or started: with `cache=start` its keys are read again. */
  contextLoaded(number: number): void {
    if (!this.sticky) this.drop(Table.AKEY, one(number), EVERYTHING);
  }

  /** CXT_UPD: what it names, and the levels below that; keys have an update of their own (F-12). */
  contextsChanged(contexts: Range, levels: number): void {
    if ((levels & CHANGED.L2) !== 0) this.drop(Table.L2, one(0), { first: contexts.first >>> 7, last: contexts.last >>> 7 });
    if ((levels & (CHANGED.L2 | CHANGED.L1)) !== 0) this.drop(Table.L1, contexts, EVERYTHING);
    if ((levels & (CHANGED.L2 | CHANGED.L1 | CHANGED.CTL)) !== 0) this.drop(Table.CTL, contexts, EVERYTHING);
  }

  /** AKEY_UPD. */
  akeysChanged(contexts: Range, keys: Range): void {
    this.drop(Table.AKEY, contexts, keys);
  }

  /** RKEY_UPD. */
  rkeysChanged(keys: Range): void {
    this.drop(Table.RKEY, one(0), keys);
  }

  /** FN_UPD: the registers are looked at again, and so is everything below them. */
  functionChanged(registers: RegisterFile): void {
    this.clear();
    this.activated(registers);
  }

  activated({ level2, functionPasid }: RegisterFile): void {
    this.level2 = level2;
    this.functionPasid = functionPasid;
  }

  /** A context has stopped. */
  contextStopped(number: number): void {
    if (!this.sticky) this.dropContext(number);
  }

  /** The function has stopped. Nobody can tell it of changes below context 0 before that runs again, so those are not kept. */
  functionStopped(): void {
    if (!this.sticky) {
      this.clear();
      return;
    }
    this.dropContext(0);
    this.drop(Table.L2, one(0), one(0));
  }

  /** All of it, as plain data. */
  save(): LiveCopies {
    const { level2, functionPasid, copies } = this;
    const entries: number[][] = [];
    copies.forEach((owners, table) => {
      for (const [owner, own] of owners) for (const [index, copy] of own) entries.push([table, owner, index, ...copy]);
    });
    return { level2, functionPasid, entries };
  }

  /** What {@link save} has saved, which was checked. */
  load({ level2, functionPasid, entries }: LiveCopies): void {
    this.clear();
    this.level2 = level2;
    this.functionPasid = functionPasid;
    for (const [table, owner, index, ...words] of entries) {
      this.keep(table as Table, owner, index, Uint32Array.from(words), 0, words.length);
    }
  }

  clear(): void {
    for (const owners of this.copies) owners.clear();
    this.counts.fill(0);
  }

  /** The longest-known owner loses one copy. */
  private evict(table: Table): void {
    for (const [owner, own] of this.copies[table]) {
      for (const index of own.keys()) {
        own.delete(index);
        if (own.size === 0) this.copies[table].delete(owner);
        this.counts[table]--;
        return;
      }
    }
  }

  private dropContext(number: number): void {
    for (const table of [Table.L1, Table.CTL, Table.AKEY]) this.drop(table, one(number), EVERYTHING);
  }

  private drop(table: Table, owners: Range, indexes: Range): void {
    if (owners.first === owners.last) {
      this.dropOwner(table, owners.first, indexes);
      return;
    }
    for (const owner of this.copies[table].keys()) if (holds(owners, owner)) this.dropOwner(table, owner, indexes);
  }

  private dropOwner(table: Table, owner: number, indexes: Range): void {
    const own = this.copies[table].get(owner);
    if (own === undefined) return;
    const before = own.size;
    if (indexes === EVERYTHING) own.clear();
    else for (const index of own.keys()) if (holds(indexes, index)) own.delete(index);
    this.counts[table] -= before - own.size;
    if (own.size === 0) this.copies[table].delete(owner);
  }
}
