import { AKEY_ENT, type AnyLayout, CXT_CTL, CXT_L1_ENT, CXT_L2_ENT, OPERATIONS, RKEY_ENT } from '../spec/index.js';

/** Bits that must be 0, as dwords of a structure. */
export type ReservedMask = Uint32Array;

function maskOf({ reservedBits }: AnyLayout): ReservedMask {
  return new Uint32Array(reservedBits.slice().buffer);
}

/** Type and subtype as they stand in bits 26:8 of dword 0 of a descriptor. */
const OPERATION_MASKS = new Map(OPERATIONS.map(({ type, subtype, layout }) => [(type << 8) | subtype, maskOf(layout)]));

/** The reserved bits of table entries, by the name of their layout. */
export const RESERVED = {
  CXT_L2_ENT: maskOf(CXT_L2_ENT),
  CXT_L1_ENT: maskOf(CXT_L1_ENT),
  CXT_CTL: maskOf(CXT_CTL),
  AKEY_ENT: maskOf(AKEY_ENT),
  RKEY_ENT: maskOf(RKEY_ENT),
} as const;

/** Whether any bit of the mask is set in the structure that begins at dword `word`. Option `strictReserved`, S-1. */
export function hasReserved(u32: Uint32Array, word: number, mask: ReservedMask): boolean {
  let bits = 0;
  for (let i = 0; i < mask.length; i++) bits |= u32[word + i] & mask[i];
  return bits !== 0;
}

/** The same for a descriptor; one whose operation nobody knows fails anyway. */
export function descriptorHasReserved(descriptor: Uint32Array): boolean {
  const mask = OPERATION_MASKS.get((descriptor[0] >>> 8) & 0x7ffff);
  return mask !== undefined && hasReserved(descriptor, 0, mask);
}
