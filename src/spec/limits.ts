/**
 * Sizes and limits of SDXI 1.0: constants, and what the encoded size fields of registers and tables stand for.
 */

/** Smallest descriptor ring, in descriptors. ref §4.0. */
export const RING_MIN = 1024;
/** Largest descriptor ring, in descriptors: ds_ring_sz has 32 bits. S-78. */
export const RING_MAX = 2 ** 32 - 1;
/** Bytes of a descriptor. ref §5.1. */
export const DESCRIPTOR_BYTES = 64;
/** Bytes of a completion status block, and its alignment. ref §4.9. */
export const CSB_BYTES = 32;
/** Alignment of the level-2, level-1, AKey and RKey tables and of the error log. ref §4.0. */
export const TABLE_ALIGNMENT = 4096;
/** Entries of the level-2 table, 8 bytes each. ref §4.0. */
export const L2_ENTRIES = 512;
/** Entries of a level-1 table, 32 bytes each. ref §4.0. */
export const L1_ENTRIES = 128;
/** Bytes of the level-2 table, of a level-1 table, and of the smallest key table and error log. ref §4.0. */
export const TABLE_BYTES = 4096;
/** Bytes of an AKEY_ENT or RKEY_ENT. ref §4.7, §4.8. */
export const KEY_BYTES = 16;
/** Bytes of an ERRLOG_HD_ENT. ref §4.10. */
export const ERRLOG_ENTRY_BYTES = 64;
/** Context numbers have 16 bits. ref §1. */
export const CONTEXT_MAX = 0xffff;
/** Largest size that a descriptor can express, 4 GiB: it is stored as bytes - 1 in 32 bits. ref §5.1. */
export const SIZE_MAX = 2 ** 32;
/** Bytes of the source block that REPCOPY repeats. S-22. */
export const REPCOPY_BLOCK = 4096;
/** Most bytes a WRT_IMM can carry. S-21. */
export const WRT_IMM_MAX = 32;
/** Largest interrupt vector number, 11 bits. ref §4.7. */
export const INTR_NUM_MAX = 2047;
/** Most interrupt vectors of a function: the table size field of MSI-X has 11 bits, too. PCIe 6.0 §7.7.2.2. */
export const VECTORS_MAX = INTR_NUM_MAX + 1;
/** Bytes of BAR 0, the control registers. ref §2.1. */
export const BAR0_BYTES = 0x80000;
/** Smallest BAR 2, the doorbells. ref §2.1. */
export const BAR2_MIN_BYTES = 0x10000;

/** Bytes between two doorbells. @param n CAP0.db_stride, 0…7. ref §2.7. */
export function doorbellStride(n: number): number {
  return 4096 * 2 ** n;
}

/** Bytes of BAR 2: the next power of two that holds all doorbells. @param maxCxt highest context number. @param n CAP0.db_stride. ref §2.1. */
export function bar2Bytes(maxCxt: number, n: number): number {
  let bytes = BAR2_MIN_BYTES;
  while (bytes < (maxCxt + 1) * doorbellStride(n)) bytes *= 2;
  return bytes;
}

/** Descriptors of the largest ring. @param n CAP0.max_ds_ring_sz, 0…31; from 22 on the 32 bits of ds_ring_sz are the limit (S-78). ref §2.7. */
export function maxRingEntries(n: number): number {
  return Math.min(2 ** (n + 10), RING_MAX);
}

/** Entries of an AKey table. @param n CXT_L1_ENT.akey_sz, or CAP1/CTL2.max_akey_sz for the largest one. ref §2.8, §4.3. */
export function akeyEntries(n: number): number {
  return 2 ** (n + 8);
}

/** Entries of an RKey table. @param n MMIO_RKEY.sz, or CAP0.max_rkey_sz for the largest one. S-8, ref §2.7. */
export function rkeyEntries(n: number): number {
  return 2 ** (n + 8);
}

/** Bytes of the largest data buffer. @param n max_buffer of CAP1, CTL2 or CXT_L1_ENT, 0…15. ref §2.8. */
export function maxBufferBytes(n: number): number {
  return 2 ** (n + 21);
}

/** How ERR_CFG.sz is read: model option `errlog`, ref §14.3. */
export type ErrorLogReading = 'pages' | 'pagesMinus1';

/** Bytes of the error log that ERR_CFG.sz asks for, before the limit of CAP1 clamps it. S-6, ref §8.7. @param sz 0…31. */
export function errorLogBytes(sz: number, reading: ErrorLogReading = 'pages'): number {
  return TABLE_BYTES * (reading === 'pages' ? Math.max(sz, 1) : sz + 1);
}

/** Bytes of the largest error log. @param n CAP1.max_errlog_sz. S-6, ref §2.8. */
export function maxErrorLogBytes(n: number): number {
  return TABLE_BYTES * 2 ** n;
}

/** Index into the level-2 table: bits 15:7 of the context number. ref §4.1. */
export function l2Index(cxt: number): number {
  return (cxt >>> 7) & (L2_ENTRIES - 1);
}

/** Index into the level-1 table: bits 6:0 of the context number. ref §4.1. */
export function l1Index(cxt: number): number {
  return cxt & (L1_ENTRIES - 1);
}
