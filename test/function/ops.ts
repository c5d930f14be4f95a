/**
 * Descriptors for tests, written down from ref §5 without the encoders of spec/: these build whatever they are told, also
 * what no encoder lets through (overlaps, malformed bodies, addresses up to 2^64).
 */
import type { Encode } from './rig.js';

export const FLAG = { SE: 2, FE: 4, CH: 8, CSR: 0x10, RB: 0x20 } as const;

export interface Footer {
  /** Flags of byte 0, without vl. */
  flags?: number;
  /** Address of the completion block; none: np = 1. */
  csb?: number | bigint;
  /** Dwords that say something else in the end, by their number: reserved bits, malformed fields. */
  words?: Record<number, number>;
}

function put64(u32: Uint32Array, word: number, value: number | bigint): void {
  const wide = BigInt(value);
  u32[word] = Number(wide & 0xffff_ffffn);
  u32[word + 1] = Number(wide >> 32n);
}

/** Any descriptor: type, subtype and the dwords of its body. */
export function descriptor(
  type: number,
  subtype: number,
  { flags = 0, csb, words = {} }: Footer,
  body: (u32: Uint32Array, word: number) => void = () => {},
): Encode {
  return (u32, word) => {
    u32.fill(0, word, word + 16);
    u32[word] = (type << 16) | (subtype << 8) | flags;
    body(u32, word);
    if (csb === undefined) u32[word + 14] = 1;
    else put64(u32, word + 14, csb);
    for (const [n, value] of Object.entries(words)) u32[word + Number(n)] = value;
    return u32[word] | 1;
  };
}

export function nop(footer: Footer = {}): Encode {
  return descriptor(0x001, 0x01, footer);
}

export interface Operands extends Footer {
  akey0?: number;
  akey1?: number;
  attr?: number;
}

function twoOperands(subtype: number, from: number | bigint, to: number | bigint, size: number, options: Operands): Encode {
  const { akey0 = 0, akey1 = 0, attr = 0 } = options;
  return descriptor(0x001, subtype, options, (u32, word) => {
    u32[word + 1] = size - 1;
    u32[word + 2] = attr;
    u32[word + 3] = akey0 | (akey1 << 16);
    put64(u32, word + 4, from);
    put64(u32, word + 6, to);
  });
}

export function copy(from: number | bigint, to: number | bigint, size: number, options: Operands = {}): Encode {
  return twoOperands(0x03, from, to, size, options);
}

export function repcopy(from: number | bigint, to: number | bigint, size: number, options: Operands = {}): Encode {
  return twoOperands(0x04, from, to, size, options);
}

export function writeImmediate(to: number | bigint, data: ArrayLike<number>, options: Operands & { size?: number } = {}): Encode {
  const { akey0 = 0, attr = 0, size = data.length } = options;
  return descriptor(0x001, 0x02, options, (u32, word) => {
    u32[word + 1] = size - 1;
    u32[word + 2] = attr;
    u32[word + 3] = akey0;
    put64(u32, word + 4, to);
    new Uint8Array(u32.buffer, u32.byteOffset + (word + 6) * 4, 32).set(data);
  });
}

export interface AtomicOptions extends Operands {
  a?: bigint;
  b?: bigint;
  /** Where the old value goes; none: rd = 0. */
  returned?: number | bigint;
}

export function atomic(op: number, bytes: number, target: number | bigint, options: AtomicOptions = {}): Encode {
  const { akey0 = 0, akey1 = 0, attr = 0, a = 0n, b = 0n, returned } = options;
  return descriptor(0x003, op, options, (u32, word) => {
    u32[word + 1] = bytes - 1;
    u32[word + 2] = attr | (returned === undefined ? 0 : 0x100);
    u32[word + 3] = akey0 | (akey1 << 16);
    put64(u32, word + 4, target);
    if (returned !== undefined) put64(u32, word + 6, returned);
    put64(u32, word + 8, a);
    put64(u32, word + 10, b);
  });
}

export function interrupt(akey: number, footer: Footer = {}): Encode {
  return descriptor(0x004, 0x00, footer, (u32, word) => {
    u32[word + 3] = akey;
  });
}

export interface Admin extends Footer {
  cflags?: number;
  /** Byte 5 without bit 7. */
  vflags?: number;
  /** Sets vf (byte 5 bit 7) and vf_num. */
  vf?: number;
  contexts?: readonly [number, number];
  keys?: readonly [number, number];
}

function administer(subtype: number, options: Admin): Encode {
  const { cflags = 0, vflags = 0, vf, contexts = [0, 0], keys = [0, 0] } = options;
  return descriptor(0x002, subtype, options, (u32, word) => {
    u32[word + 1] = cflags | (vflags << 8) | (vf === undefined ? 0 : 0x8000 | (vf << 16));
    u32[word + 2] = contexts[0] | (contexts[1] << 16);
    u32[word + 3] = keys[0] | (keys[1] << 16);
  });
}

/** CXT_START.NM, or .RS with `resume`; `doorbell` sets dv and db_value. */
export function start(first: number, last: number, options: Admin & { resume?: boolean; doorbell?: bigint } = {}): Encode {
  const { resume, doorbell, words } = options;
  const value: Record<number, number> = doorbell === undefined ? {} : { 4: Number(doorbell & 0xffff_ffffn), 5: Number(doorbell >> 32n) };
  return administer(resume ? 0x08 : 0x03, {
    flags: FLAG.FE,
    contexts: [first, last],
    vflags: doorbell === undefined ? 0 : 0x40,
    ...options,
    words: { ...value, ...words },
  });
}

/** CXT_STOP; `hard` sets hs. */
export function stop(first: number, last: number, options: Admin & { hard?: boolean } = {}): Encode {
  return administer(0x04, { flags: FLAG.FE, contexts: [first, last], vflags: options.hard ? 0x20 : 0, ...options });
}

export const FILTER = { CXT: 0, STOP: 1, AKEY: 2, RKEY: 3, FN: 4 } as const;

export function sync(filter: number, first = 0, last = first, options: Admin = {}): Encode {
  return administer(0x06, { cflags: filter, contexts: [first, last], ...options });
}

export function functionUpdate(options: Admin = {}): Encode {
  return administer(0x00, options);
}

/** CXT_UPD for changed L1 entries. */
export function contextUpdate(first: number, last = first, options: Admin = {}): Encode {
  return administer(0x01, { cflags: 2, contexts: [first, last], ...options });
}

export function akeyUpdate(first: number, last: number, keys: readonly [number, number], options: Admin = {}): Encode {
  return administer(0x02, { contexts: [first, last], keys, ...options });
}

export function rkeyUpdate(keys: readonly [number, number], options: Admin = {}): Encode {
  return administer(0x07, { keys, ...options });
}

export function adminInterrupt(vector: number, options: Admin = {}): Encode {
  return administer(0x05, { keys: [vector, 0], ...options });
}
