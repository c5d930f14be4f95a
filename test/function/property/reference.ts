/**
 * What descriptors mean, said a second time: a slow, plain interpreter of ref §4–§8 that shares no code with the function.
 * Numbers of the specification stand here as numbers.
 */
import { type Piece, VECTORS } from './estate.js';

const M64 = (1n << 64n) - 1n;

/** Step and sub-step of an error (ref §8.2), and the operand that it concerns. */
export interface Failure {
  step: number;
  sub: number;
  operand?: number;
  /** The entry has vl = 0, or the number is above the limit: what a range of contexts skips (S-83). */
  absent?: boolean;
}

/** A place in the banks. */
export interface Spot {
  bank: number;
  at: number;
}

/** Bytes at addresses. */
export class ReferenceMemory {
  readonly banks: Buffer[];
  private readonly pieces = new Map<number, Piece[]>();

  constructor(banks: Buffer[], pieces: readonly Piece[]) {
    this.banks = banks;
    for (const piece of pieces) this.pieces.set(piece.pasid, [...(this.pieces.get(piece.pasid) ?? []), piece]);
  }

  private mapped(pasid: number, address: bigint, whenever = false): Piece | undefined {
    if (address >= 1n << 53n) return undefined;
    const at = Number(address);
    return this.pieces.get(pasid)?.find((p) => (p.present || whenever) && at >= p.start && at < p.start + p.length);
  }

  /** A structure: all of it in one mapping that allows it (ref §7.1 item 4), or the sub-step of the failure. */
  find(pasid: number, address: bigint, length: number, access: number): Spot | number {
    const piece = this.mapped(pasid, address);
    const left = piece ? piece.start + piece.length - Number(address) : 0;
    if (piece && length <= left && (piece.access & access) === access)
      return { bank: piece.bank, at: piece.offset + Number(address) - piece.start };
    for (let i = 0; i < length; i++) if (!this.mapped(pasid, address + BigInt(i))) return 1;
    return 2;
  }

  /**
   * Data: every byte on its own, up to the first that cannot be accessed and its sub-step. Access 0 takes what might be
   * mapped at another time, too.
   */
  runs(
    pasid: number,
    address: bigint,
    length: number,
    access: number,
  ): { spots: (Spot & { length: number })[]; length: number; sub: number } {
    const spots: (Spot & { length: number })[] = [];
    let done = 0;
    while (done < length) {
      const piece = this.mapped(pasid, address + BigInt(done), access === 0);
      if (!piece) return { spots, length: done, sub: 1 };
      if ((piece.access & access) !== access) return { spots, length: done, sub: 2 };
      const inside = Number(address) + done - piece.start;
      const bytes = Math.min(length - done, piece.length - inside);
      spots.push({ bank: piece.bank, at: piece.offset + inside, length: bytes });
      done += bytes;
    }
    return { spots, length, sub: 0 };
  }

  gather(spots: (Spot & { length: number })[]): Buffer {
    return Buffer.concat(spots.map(({ bank, at, length }) => this.banks[bank].subarray(at, at + length)));
  }

  scatter(spots: (Spot & { length: number })[], bytes: Buffer): void {
    let done = 0;
    for (const { bank, at, length } of spots) {
      const piece = bytes.subarray(done, done + length);
      this.banks[bank].set(piece, at);
      done += piece.length;
      if (piece.length < length) return;
    }
  }
}

/** What a load took over (ref §6.2). */
export interface Tables {
  structurePasid: number;
  dataPasid: number;
  ring: bigint;
  ringSize: number;
  status: bigint;
  writeIndex: bigint;
  akeys: bigint;
  akeyCount: number;
  maxBuffer: number;
  opGroups: number;
  csa: boolean;
}

/** What of the registers concerns the execution of a descriptor. */
export interface Limits {
  functionPasid: number;
  maxBuffer: number;
  opGroups: number;
}

export interface Machine {
  memory: ReferenceMemory;
  limits: Limits;
  interrupts: number[];
}

/** One operand's AKey (ref §7.1 items 1 to 3): its first dword and the PASID, or why not. */
function lookup(m: Machine, t: Tables, key: number, operand: number): { entry: number; pasid: number } | Failure {
  if (key >= t.akeyCount) return { step: 11, sub: 3, operand };
  const spot = m.memory.find(m.limits.functionPasid, t.akeys + BigInt(key * 16), 16, 1);
  if (typeof spot === 'number') return { step: 11, sub: spot, operand };
  const bank = m.memory.banks[spot.bank];
  const entry = bank.readUInt32LE(spot.at);
  if ((entry & 1) === 0) return { step: 11, sub: 3, operand };
  if (entry >>> 16 !== 0) return { step: 12, sub: 3, operand };
  return { entry, pasid: entry & 4 ? bank.readUInt32LE(spot.at + 4) & 0xfffff : t.dataPasid };
}

const invalid: Failure = { step: 7, sub: 3 };

/** Executes everything but the admin group; admin descriptors come back as `undefined` operation. */
export function execute(m: Machine, t: Tables, number: number, d: Buffer, held?: Spaces): Failure | 'admin' | undefined {
  const type = d.readUInt16LE(2) & 0x7ff;
  const subtype = d[1];
  const enabled = (t.opGroups & m.limits.opGroups) >>> 0;
  if (d[0] & 8) return invalid;
  if (type === 1 && subtype === 1) return undefined;
  if (type === 1 && subtype === 2) return writeImmediate(m, t, d);
  if (type === 1 && subtype === 3) return copy(m, t, d, held);
  if (type === 1 && subtype === 4) return repcopy(m, t, d, held);
  if (type === 2 && number === 0 && subtype <= 8) return 'admin';
  if (type === 3 && enabled & 8) return atomic(m, t, d, subtype);
  if (type === 4 && subtype === 0 && enabled & 16) return interrupt(m, t, d);
  return invalid;
}

/** PASIDs of both operands and the block of a REPCOPY: looked up and read once, when a descriptor begins. */
export interface Spaces {
  from: number;
  to: number;
  block?: Buffer;
}

/** Spaces of both operands, or what is wrong with size or keys (S-42, S-44). */
export function spacesOf(m: Machine, t: Tables, d: Buffer): Spaces | Failure {
  const limit = 2 ** (Math.min(t.maxBuffer, m.limits.maxBuffer) + 21);
  if (d.readUInt32LE(4) + 1 > limit) return invalid;
  const from = lookup(m, t, d.readUInt16LE(12), 0);
  if ('step' in from) return from;
  const to = lookup(m, t, d.readUInt16LE(14), 1);
  if ('step' in to) return to;
  return { from: from.pasid, to: to.pasid };
}

function copy(m: Machine, t: Tables, d: Buffer, held?: Spaces): Failure | undefined {
  const o = held ?? spacesOf(m, t, d);
  if ('step' in o) return o;
  const size = d.readUInt32LE(4) + 1;
  const source = m.memory.runs(o.from, d.readBigUInt64LE(16), size, 1);
  const destination = m.memory.runs(o.to, d.readBigUInt64LE(24), size, 2);
  // As if the source were read completely first (S-39), up to the first byte that cannot be moved (S-41).
  const bytes = m.memory.gather(source.spots);
  m.memory.scatter(destination.spots, bytes);
  if (source.length < size && source.length <= destination.length) return { step: 10, sub: source.sub, operand: 0 };
  if (destination.length < size) return { step: 10, sub: destination.sub, operand: 1 };
  return undefined;
}

function repcopy(m: Machine, t: Tables, d: Buffer, held?: Spaces): Failure | undefined {
  const o = held ?? spacesOf(m, t, d);
  if ('step' in o) return o;
  const size = d.readUInt32LE(4) + 1;
  const source = m.memory.runs(o.from, d.readBigUInt64LE(16), 4096, 1);
  if (source.length < 4096) return { step: 10, sub: source.sub, operand: 0 };
  const destination = m.memory.runs(o.to, d.readBigUInt64LE(24), size, 2);
  const block = held?.block ?? m.memory.gather(source.spots);
  m.memory.scatter(destination.spots, Buffer.alloc(destination.length, block));
  return destination.length < size ? { step: 10, sub: destination.sub, operand: 1 } : undefined;
}

function writeImmediate(m: Machine, t: Tables, d: Buffer): Failure | undefined {
  const size = d.readUInt32LE(4) + 1;
  if (size > 32) return invalid;
  const to = lookup(m, t, d.readUInt16LE(12), 0);
  if ('step' in to) return to;
  const destination = m.memory.runs(to.pasid, d.readBigUInt64LE(16), size, 2);
  m.memory.scatter(destination.spots, d.subarray(24, 24 + size));
  return destination.length < size ? { step: 10, sub: destination.sub, operand: 0 } : undefined;
}

function atomic(m: Machine, t: Tables, d: Buffer, subtype: number): Failure | undefined {
  const size = d.readUInt32LE(4) + 1;
  if ((size !== 4 && size !== 8) || ![1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14].includes(subtype)) return invalid;
  const returns = (d[9] & 1) === 1;
  const target = d.readBigUInt64LE(16);
  const returned = d.readBigUInt64LE(24);
  if (target % BigInt(size) !== 0n || (returns && returned % BigInt(size) !== 0n)) return invalid;
  const from = lookup(m, t, d.readUInt16LE(12), 0);
  if ('step' in from) return from;
  const to = returns ? lookup(m, t, d.readUInt16LE(14), 1) : from;
  if ('step' in to) return to;
  const spot = m.memory.find(from.pasid, target, size, 3);
  if (typeof spot === 'number') return { step: 10, sub: spot, operand: 0 };
  const mask = size === 8 ? M64 : 0xffff_ffffn;
  const load = (s: Spot): bigint => {
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(m.memory.banks[s.bank][s.at + i]);
    return value;
  };
  const store = (s: Spot, value: bigint): void => {
    for (let i = 0; i < size; i++) m.memory.banks[s.bank][s.at + i] = Number((value >> BigInt(8 * i)) & 0xffn);
  };
  const old = load(spot);
  store(spot, combine(subtype, old, d.readBigUInt64LE(32) & mask, d.readBigUInt64LE(40) & mask, size * 8));
  if (!returns) return undefined;
  const back = m.memory.find(to.pasid, returned, size, 2);
  if (typeof back === 'number') return { step: 9, sub: back, operand: 1 };
  store(back, old);
  return undefined;
}

/** Ref §5.4; the caller cuts the result to its width. */
function combine(op: number, m: bigint, a: bigint, b: bigint, bits: number): bigint {
  const signed = (value: bigint): bigint => (value >> BigInt(bits - 1) ? value - (1n << BigInt(bits)) : value);
  switch (op) {
    case 1:
      return a;
    case 2:
      return m + a;
    case 3:
      return m - a + (1n << 64n);
    case 5:
      return m & a;
    case 6:
      return m | a;
    case 7:
      return m ^ a;
    case 8:
      return signed(m) < signed(a) ? m : a;
    case 9:
      return signed(m) > signed(a) ? m : a;
    case 10:
      return m < a ? m : a;
    case 11:
      return m > a ? m : a;
    case 12:
      return m < a ? m + 1n : a;
    case 13:
      return m > a ? m - 1n : a;
    default:
      return m === b ? a : m;
  }
}

function interrupt(m: Machine, t: Tables, d: Buffer): Failure | undefined {
  const key = lookup(m, t, d.readUInt16LE(12), 0);
  if ('step' in key) return key;
  const vector = (key.entry >>> 4) & 0x7ff;
  if ((key.entry & 2) === 0 || vector >= VECTORS) return { step: 11, sub: 3, operand: 0 };
  m.interrupts[vector]++;
  return undefined;
}

/**
 * Completion (ref §4.9): er when it failed, then the signal.
 * @returns the sub-step when the block cannot be accessed
 */
export function complete(m: Machine, t: Tables, d: Buffer, failed: boolean, csCap: number): number {
  if (d[56] & 1) return 0;
  const spot = m.memory.find(t.structurePasid, d.readBigUInt64LE(56) & ~0x1fn, 32, 3);
  if (typeof spot === 'number') return spot;
  const bank = m.memory.banks[spot.bank];
  if (failed) bank.writeUInt32LE(0x8000_0000, spot.at + 8);
  const signal = bank.readBigUInt64LE(spot.at);
  const overwrite = csCap !== 0 && t.csa && (d[0] & 0x10) !== 0;
  bank.writeBigUInt64LE(overwrite ? 0n : (signal - 1n) & M64, spot.at);
  return 0;
}

/** The 64 bytes of a record (ref §4.10). */
export function record(failure: Failure, re: number, context: number, index?: bigint): Buffer {
  const r = Buffer.alloc(64);
  r[0] = 1;
  r[1] = failure.step;
  r.writeUInt16LE(0x7f7, 2);
  r[4] = 1 | (index === undefined ? 0 : 2) | (failure.operand === undefined ? 0 : 4 | (failure.operand << 4));
  r[5] = failure.sub | (re << 4);
  r.writeUInt16LE(context, 6);
  r.writeBigUInt64LE(index ?? 0n, 8);
  return r;
}
