/**
 * Encoders of the administrative group, for the ring of context 0. Parameters and results as in encode.ts. SDXI 1.0 §3.5, ref §5.6.
 */
import { SyncFilter } from './codes.js';
import { check16, checkCsb, checkRange, DescriptorFlag, header, refuse, writeFooter, writeZeros } from './encode-common.js';
import { INTR_NUM_MAX } from './limits.js';
import { AdminOp, DescriptorType } from './operations.js';

/** Act on a virtual function of this function instead of on itself. */
export interface VfTarget {
  /** Number of the virtual function, from 1 (S-96). */
  vf?: number;
}

/** Contexts first…last, inclusive. */
export interface ContextRange extends VfTarget {
  first: number;
  /** Default: `first`. */
  last?: number;
}

/** Keys keyFirst…keyLast, inclusive. */
export interface KeyRange {
  keyFirst: number;
  /** Default: `keyFirst`. */
  keyLast?: number;
}

export interface ContextStart extends ContextRange {
  /** CXT_START.RS instead of .NM: also leaves ERR_FN (S-25). */
  resume?: boolean;
  /** Rung at each context once it runs. */
  doorbell?: bigint;
}

export interface ContextStop extends ContextRange {
  /** Abandon what is outstanding. */
  hard?: boolean;
}

export interface Sync extends VfTarget {
  filter: SyncFilter;
  /** Contexts, default 0…`first`. */
  first?: number;
  last?: number;
  /** Keys, default 0…`keyFirst`. */
  keyFirst?: number;
  keyLast?: number;
}

export interface ContextUpdate extends ContextRange {
  /** Level-2 entries changed. */
  l2?: boolean;
  /** Level-1 entries changed, or anything below them. */
  l1?: boolean;
  /** Only CXT_CTL changed. */
  ctl?: boolean;
}

const VFLAG_HARD = 1 << 5;
const VFLAG_DOORBELL = 1 << 6;
const VFLAG_VF = 1 << 7;

/** Header, dword 1 (cflags, vflags, vf_num), ranges; zeros elsewhere. Everything has been checked. */
function writeAdmin(
  u32: Uint32Array,
  word: number,
  op: number,
  flags: number,
  csb: number,
  cflags: number,
  vflags: number,
  vf: number | undefined,
  contexts: number,
  keys: number,
): number {
  const first = header(DescriptorType.ADMIN, op, flags);
  u32[word] = first;
  u32[word + 1] = vf === undefined ? cflags | (vflags << 8) : cflags | ((vflags | VFLAG_VF) << 8) | (vf << 16);
  u32[word + 2] = contexts;
  u32[word + 3] = keys;
  writeZeros(u32, word, 4, 14);
  writeFooter(u32, word, csb);
  return first | 1;
}

function checkVf(vf: number | undefined): void {
  if (vf !== undefined) check16('vf', vf);
}

function contextRange(first: number, last: number): number {
  checkRange('first', first, 'last', last);
  return first | (last << 16);
}

function keyRange(first: number, last: number): number {
  checkRange('keyFirst', first, 'keyLast', last);
  return first | (last << 16);
}

/**
 * CXT_START: starts (.NM) or resumes (.RS) contexts. FE is always set: the operation demands it. SDXI 1.0 table 6-14.
 * @returns dword 0 with vl set
 * @throws EncodeError for a context, range, doorbell or block that does not fit
 */
export function encodeContextStart(u32: Uint32Array, word: number, flags: number, csb: number, start: ContextStart): number {
  const { first, last = first, doorbell, vf } = start;
  checkCsb(csb);
  checkVf(vf);
  const contexts = contextRange(first, last);
  if (doorbell !== undefined && doorbell !== BigInt.asUintN(64, doorbell)) {
    refuse('doorbell', doorbell, 'out of range', 'a doorbell value has 64 bits');
  }
  const op = start.resume ? AdminOp.CXT_START_RS : AdminOp.CXT_START_NM;
  const vflags = doorbell === undefined ? 0 : VFLAG_DOORBELL;
  const result = writeAdmin(u32, word, op, flags | DescriptorFlag.FE, csb, 0, vflags, vf, contexts, 0);
  if (doorbell !== undefined) {
    u32[word + 4] = Number(doorbell & 0xffffffffn);
    u32[word + 5] = Number(doorbell >> 32n);
  }
  return result;
}

/**
 * CXT_STOP: stops contexts. Its completion says that the stop has begun; a SYNC with filter STOP says that it has ended. FE is always set.
 * SDXI 1.0 table 6-15.
 * @returns dword 0 with vl set
 * @throws EncodeError for a context, range or block that does not fit
 */
export function encodeContextStop(u32: Uint32Array, word: number, flags: number, csb: number, stop: ContextStop): number {
  const { first, last = first, vf } = stop;
  checkCsb(csb);
  checkVf(vf);
  const contexts = contextRange(first, last);
  const vflags = stop.hard ? VFLAG_HARD : 0;
  return writeAdmin(u32, word, AdminOp.CXT_STOP, flags | DescriptorFlag.FE, csb, 0, vflags, vf, contexts, 0);
}

/**
 * SYNC: completes when earlier stops or updates are in force. SDXI 1.0 table 6-22.
 * @returns dword 0 with vl set
 * @throws EncodeError for a filter, range or block that does not fit
 */
export function encodeSync(u32: Uint32Array, word: number, flags: number, csb: number, sync: Sync): number {
  const { filter, first = 0, last = first, keyFirst = 0, keyLast = keyFirst, vf } = sync;
  checkCsb(csb);
  checkVf(vf);
  if (!Number.isInteger(filter) || filter < SyncFilter.CXT || filter > SyncFilter.FN) {
    refuse('filter', filter, 'no such filter', 'use a value of SyncFilter');
  }
  const contexts = contextRange(first, last);
  const keys = keyRange(keyFirst, keyLast);
  return writeAdmin(u32, word, AdminOp.SYNC, flags, csb, filter, 0, vf, contexts, keys);
}

/**
 * CXT_UPD: context tables have changed. ref §5.6.
 * @returns dword 0 with vl set
 * @throws EncodeError for a context, range or block that does not fit
 */
export function encodeContextUpdate(u32: Uint32Array, word: number, flags: number, csb: number, update: ContextUpdate): number {
  const { first, last = first, vf } = update;
  checkCsb(csb);
  checkVf(vf);
  const contexts = contextRange(first, last);
  const cflags = (update.l2 ? 1 : 0) | (update.l1 ? 2 : 0) | (update.ctl ? 4 : 0);
  return writeAdmin(u32, word, AdminOp.CXT_UPD, flags, csb, cflags, 0, vf, contexts, 0);
}

/**
 * AKEY_UPD: AKey entries of a range of contexts have changed. ref §5.6.
 * @returns dword 0 with vl set
 * @throws EncodeError for a range or block that does not fit
 */
export function encodeAkeyUpdate(u32: Uint32Array, word: number, flags: number, csb: number, update: ContextRange & KeyRange): number {
  const { first, last = first, keyFirst, keyLast = keyFirst, vf } = update;
  checkCsb(csb);
  checkVf(vf);
  const contexts = contextRange(first, last);
  const keys = keyRange(keyFirst, keyLast);
  return writeAdmin(u32, word, AdminOp.AKEY_UPD, flags, csb, 0, 0, vf, contexts, keys);
}

/**
 * RKEY_UPD: RKey entries have changed. S-19.
 * @returns dword 0 with vl set
 * @throws EncodeError for a range or block that does not fit
 */
export function encodeRkeyUpdate(u32: Uint32Array, word: number, flags: number, csb: number, update: KeyRange & VfTarget): number {
  const { keyFirst, keyLast = keyFirst, vf } = update;
  checkCsb(csb);
  checkVf(vf);
  const keys = keyRange(keyFirst, keyLast);
  return writeAdmin(u32, word, AdminOp.RKEY_UPD, flags, csb, 0, 0, vf, 0, keys);
}

/**
 * FN_UPD: function-level structures have changed. ref §5.6.
 * @returns dword 0 with vl set
 * @throws EncodeError for a block that does not fit
 */
export function encodeFunctionUpdate(u32: Uint32Array, word: number, flags: number, csb: number, update: VfTarget = {}): number {
  checkCsb(csb);
  checkVf(update.vf);
  return writeAdmin(u32, word, AdminOp.FN_UPD, flags, csb, 0, 0, update.vf, 0, 0);
}

/**
 * ADM_INTR: raises an interrupt by number, without a key. S-26.
 * @returns dword 0 with vl set
 * @throws EncodeError for a vector above 2047 or a block that does not fit
 */
export function encodeAdminInterrupt(
  u32: Uint32Array,
  word: number,
  flags: number,
  csb: number,
  interrupt: VfTarget & { vector: number },
): number {
  const { vector, vf } = interrupt;
  checkCsb(csb);
  checkVf(vf);
  if ((vector & INTR_NUM_MAX) !== vector) refuse('vector', vector, 'out of range', 'interrupt vectors are 0 to 2047');
  return writeAdmin(u32, word, AdminOp.ADM_INTR, flags, csb, 0, 0, vf, 0, vector);
}
