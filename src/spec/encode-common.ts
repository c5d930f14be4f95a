/**
 * What all descriptor encoders share: flags, footer, and the checks that refuse what a descriptor cannot or must not say (ref §13.4).
 * A check either returns or throws; encoders run all of theirs before they write the first word, so a refused slot is untouched.
 */
import { EncodeError } from '../errors.js';
import { CONTEXT_MAX, SIZE_MAX } from './limits.js';
import { hi32, lo32 } from './u64.js';

/** Header flags of a descriptor, byte 0. ref §5.1. */
export const DescriptorFlag = {
  VL: 1,
  SE: 2,
  FE: 4,
  CH: 8,
  CSR: 16,
  RB: 32,
} as const;
export type DescriptorFlag = (typeof DescriptorFlag)[keyof typeof DescriptorFlag];

/** In place of a completion block address: the descriptor has none (np = 1). */
export const NO_CSB = -1;

/** In place of the return-data address of an atomic: the old value is not wanted (rd = 0). */
export const NO_ADDRESS = -1;

const SETTABLE_FLAGS = DescriptorFlag.SE | DescriptorFlag.FE | DescriptorFlag.CH | DescriptorFlag.CSR | DescriptorFlag.RB;

/** Throws the error of all encoders; out of line so that the checks stay small enough to inline. */
export function refuse(field: string, value: unknown, why: string, hint: string): never {
  throw new EncodeError(`${field}: ${why}`, { fields: { field, value }, hint });
}

/** Dword 0 of a descriptor with vl = 0. */
export function header(type: number, subtype: number, flags: number): number {
  return (type << 16) | (subtype << 8) | (flags & SETTABLE_FLAGS);
}

/** Writes dwords 14 and 15: np or csb_ptr. */
export function writeFooter(u32: Uint32Array, word: number, csb: number): void {
  if (csb === NO_CSB) {
    u32[word + 14] = 1;
    u32[word + 15] = 0;
  } else {
    u32[word + 14] = lo32(csb);
    u32[word + 15] = hi32(csb);
  }
}

/** Writes zeros to the dwords `from` to `to - 1` of a slot. */
export function writeZeros(u32: Uint32Array, word: number, from: number, to: number): void {
  for (let i = from; i < to; i++) u32[word + i] = 0;
}

export function checkAddress(field: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) {
    refuse(field, value, 'not an address', 'addresses are integers from 0 to 2^53 - 1 (S-103)');
  }
}

export function checkCsb(csb: number): void {
  if (csb === NO_CSB) return;
  checkAddress('csb', csb);
  if ((csb & 31) !== 0) refuse('csb', csb, 'not aligned', 'completion status blocks lie on 32-byte boundaries; NO_CSB means none');
}

export function checkSize(size: number): void {
  if (!Number.isInteger(size) || size < 1 || size > SIZE_MAX) {
    refuse('size', size, 'out of range', 'a descriptor moves 1 byte to 4 GiB; leave out empty pieces and split larger ones');
  }
}

/** Refuses what does not fit into 16 bits: keys, contexts and VF numbers. */
export function check16(field: string, value: number): void {
  if ((value & CONTEXT_MAX) !== value) refuse(field, value, 'out of range', 'allowed are 0 to 65535');
}

export function checkRange(firstField: string, first: number, lastField: string, last: number): void {
  check16(firstField, first);
  check16(lastField, last);
  if (first > last) refuse(lastField, last, `before ${firstField} ${first}`, 'ranges are inclusive and ascending');
}
