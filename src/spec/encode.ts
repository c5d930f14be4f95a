/**
 * Hot descriptor encoders: literal offsets, no allocation. Each writes all 16 dwords of a slot with vl = 0 and returns dword 0 with vl set,
 * for the producer to store last (ref §6.1 steps 4-6). The readable tables of descriptor.ts say the same; a test proves that they agree.
 *
 * Common parameters: `u32` and `word`, the memory and the word index of the slot; `flags`, a set of {@link DescriptorFlag} (VL is ignored);
 * `csb`, the address of the completion status block or {@link NO_CSB}.
 */
import {
  check16,
  checkAddress,
  checkCsb,
  checkSize,
  DescriptorFlag,
  header,
  NO_ADDRESS,
  NO_CSB,
  refuse,
  writeFooter,
  writeZeros,
} from './encode-common.js';
import { CONTEXT_MAX, REPCOPY_BLOCK, SIZE_MAX, WRT_IMM_MAX } from './limits.js';
import { AtomicOp, DescriptorType, DmaOp, IntrOp } from './operations.js';
import { hi32, lo32 } from './u64.js';

export * from './encode-admin.js';
export { DescriptorFlag, NO_ADDRESS, NO_CSB } from './encode-common.js';

const { DMAB, ATOMIC, INTR } = DescriptorType;
/** Bit n set: n is an operation of the atomic group. */
const ATOMIC_OPS = Object.values(AtomicOp).reduce((set, op) => set | (1 << op), 0);

/**
 * NOP: no data effect, completes like any other. SDXI 1.0 table 6-6, ref §5.3.
 * @returns dword 0 with vl set
 * @throws EncodeError for an unaligned or impossible `csb`
 */
export function encodeNop(u32: Uint32Array, word: number, flags: number, csb: number): number {
  checkCsb(csb);
  const first = header(DMAB, DmaOp.NOP, flags);
  u32[word] = first;
  writeZeros(u32, word, 1, 14);
  writeFooter(u32, word, csb);
  return first | 1;
}

/** COPY and REPCOPY have one format; both have been checked before. */
function writeCopy(
  u32: Uint32Array,
  word: number,
  first: number,
  csb: number,
  size: number,
  akey0: number,
  akey1: number,
  addr0: number,
  addr1: number,
  attr: number,
): number {
  u32[word] = first;
  u32[word + 1] = size - 1;
  u32[word + 2] = attr;
  u32[word + 3] = akey0 | (akey1 << 16);
  u32[word + 4] = lo32(addr0);
  u32[word + 5] = hi32(addr0);
  u32[word + 6] = lo32(addr1);
  u32[word + 7] = hi32(addr1);
  u32[word + 8] = 0;
  u32[word + 9] = 0;
  u32[word + 10] = 0;
  u32[word + 11] = 0;
  u32[word + 12] = 0;
  u32[word + 13] = 0;
  writeFooter(u32, word, csb);
  return first | 1;
}

function checkAttr(attr: number): void {
  if ((attr & 0xff) !== attr) refuse('attr', attr, 'out of range', 'four bits for each operand: 0 to 0xff');
}

/**
 * COPY: `size` bytes from `addr0` under `akey0` to `addr1` under `akey1`. SDXI 1.0 table 6-8, ref §5.3.
 *
 * Overlap is refused under one key (ref §13.4). Under different keys equal numbers may lie in different address spaces, which only the
 * owner of the keys can tell.
 *
 * @param size 1 to 2^32 bytes
 * @param attr hints, 3:0 source, 7:4 destination
 * @returns dword 0 with vl set
 * @throws EncodeError for a size, key, address or block that does not fit, and for overlapping ranges
 */
export function encodeCopy(
  u32: Uint32Array,
  word: number,
  flags: number,
  csb: number,
  size: number,
  akey0: number,
  akey1: number,
  addr0: number,
  addr1: number,
  attr = 0,
): number {
  // The hottest encoder: one test for what is usual, the stores in place (calls with large addresses would box them), and the
  // checks that can say what is wrong out of line.
  const distance = addr0 - addr1;
  const usual =
    (csb === NO_CSB || ((csb & 31) === 0 && csb >= 0 && Number.isSafeInteger(csb))) &&
    Number.isSafeInteger(size) &&
    size >= 1 &&
    size <= SIZE_MAX &&
    (akey0 & CONTEXT_MAX) === akey0 &&
    (akey1 & CONTEXT_MAX) === akey1 &&
    (attr & 0xff) === attr &&
    addr0 >= 0 &&
    addr1 >= 0 &&
    Number.isSafeInteger(addr0) &&
    Number.isSafeInteger(addr1) &&
    (distance >= size || -distance >= size || akey0 !== akey1);
  if (!usual) refuseCopy(csb, size, akey0, akey1, addr0, addr1, attr);
  const first = header(DMAB, DmaOp.COPY, flags);
  u32[word] = first;
  u32[word + 1] = size - 1;
  u32[word + 2] = attr;
  u32[word + 3] = akey0 | (akey1 << 16);
  u32[word + 4] = lo32(addr0);
  u32[word + 5] = hi32(addr0);
  u32[word + 6] = lo32(addr1);
  u32[word + 7] = hi32(addr1);
  u32[word + 8] = 0;
  u32[word + 9] = 0;
  u32[word + 10] = 0;
  u32[word + 11] = 0;
  u32[word + 12] = 0;
  u32[word + 13] = 0;
  writeFooter(u32, word, csb);
  return first | DescriptorFlag.VL;
}

/** Names what {@link encodeCopy} has found wrong. */
function refuseCopy(csb: number, size: number, akey0: number, akey1: number, addr0: number, addr1: number, attr: number): never {
  checkCsb(csb);
  checkSize(size);
  check16('akey0', akey0);
  check16('akey1', akey1);
  checkAddress('addr0', addr0);
  checkAddress('addr1', addr1);
  checkAttr(attr);
  refuse('addr1', addr1, 'the ranges overlap', 'copy in pieces that do not overlap, or through another buffer (SDXI 1.0 §5.6)');
}

/**
 * REPCOPY: repeats the 4 KiB at `addr0` over `size` bytes at `addr1`. ref §5.3, S-22.
 *
 * @param size bytes of the destination, 1 to 2^32
 * @param addr0 source block, 4 KiB aligned
 * @returns dword 0 with vl set
 * @throws EncodeError as for {@link encodeCopy}, and for a source block that is not aligned
 */
export function encodeRepcopy(
  u32: Uint32Array,
  word: number,
  flags: number,
  csb: number,
  size: number,
  akey0: number,
  akey1: number,
  addr0: number,
  addr1: number,
  attr = 0,
): number {
  checkCsb(csb);
  checkSize(size);
  check16('akey0', akey0);
  check16('akey1', akey1);
  checkAddress('addr0', addr0);
  checkAddress('addr1', addr1);
  checkAttr(attr);
  if ((addr0 & (REPCOPY_BLOCK - 1)) !== 0) refuse('addr0', addr0, 'not aligned', 'the source block lies on a 4 KiB boundary (S-22)');
  if (akey0 === akey1 && addr0 - addr1 < size && addr1 - addr0 < REPCOPY_BLOCK) {
    refuse('addr1', addr1, 'the ranges overlap', 'keep the source block outside the range to be filled (SDXI 1.0 §5.6)');
  }
  return writeCopy(u32, word, header(DMAB, DmaOp.REPCOPY, flags), csb, size, akey0, akey1, addr0, addr1, attr);
}

/**
 * WRT_IMM: writes bytes that the descriptor carries. ref §5.3, S-21.
 *
 * @param size 1 to 32 bytes, taken from `data` at `dataOffset`
 * @returns dword 0 with vl set
 * @throws EncodeError for a size, key, address or block that does not fit, or `data` that is too short
 */
export function encodeWriteImmediate(
  u32: Uint32Array,
  word: number,
  flags: number,
  csb: number,
  size: number,
  akey0: number,
  addr0: number,
  data: Uint8Array,
  dataOffset: number,
): number {
  checkCsb(csb);
  checkSize(size);
  if (size > WRT_IMM_MAX) refuse('size', size, 'out of range', 'a descriptor carries up to 32 bytes; use COPY for more');
  check16('akey0', akey0);
  checkAddress('addr0', addr0);
  if (!Number.isInteger(dataOffset) || dataOffset < 0 || dataOffset + size > data.length) {
    refuse('dataOffset', dataOffset, 'outside the data', `the data has ${data.length} bytes, ${size} are wanted from the offset on`);
  }
  const first = header(DMAB, DmaOp.WRT_IMM, flags);
  u32[word] = first;
  u32[word + 1] = size - 1;
  u32[word + 2] = 0;
  u32[word + 3] = akey0;
  u32[word + 4] = lo32(addr0);
  u32[word + 5] = hi32(addr0);
  writeZeros(u32, word, 6, 14);
  for (let i = 0; i < size; i++) u32[word + 6 + (i >> 2)] |= data[dataOffset + i] << ((i & 3) * 8);
  writeFooter(u32, word, csb);
  return first | 1;
}

/**
 * One indivisible read-modify-write. ref §5.4, S-23.
 *
 * @param op an {@link AtomicOp}
 * @param width 4 or 8 bytes
 * @param addr0 target, aligned to `width`
 * @param addr1 where the old value goes, aligned to `width`; or {@link NO_ADDRESS}
 * @param aLo operand A, low and high half; for 4 bytes the high halves are written 0
 * @param bLo operand B, the compare value of CMPSWAP
 * @returns dword 0 with vl set
 * @throws EncodeError for an unknown operation or width, and for keys, addresses and blocks that do not fit or are not aligned
 */
export function encodeAtomic(
  u32: Uint32Array,
  word: number,
  flags: number,
  csb: number,
  op: number,
  width: number,
  akey0: number,
  addr0: number,
  akey1: number,
  addr1: number,
  aLo: number,
  aHi: number,
  bLo: number,
  bHi: number,
): number {
  checkCsb(csb);
  if ((op & 31) !== op || (ATOMIC_OPS & (1 << op)) === 0) refuse('op', op, 'no such atomic operation', 'use a value of AtomicOp');
  if (width !== 4 && width !== 8) refuse('width', width, 'out of range', 'atomics work on 4 or 8 bytes');
  check16('akey0', akey0);
  checkAddress('addr0', addr0);
  if ((addr0 & (width - 1)) !== 0) refuse('addr0', addr0, 'not aligned', `align the target to ${width} bytes`);
  const returns = addr1 !== NO_ADDRESS;
  if (returns) {
    check16('akey1', akey1);
    checkAddress('addr1', addr1);
    if ((addr1 & (width - 1)) !== 0) refuse('addr1', addr1, 'not aligned', `align the return data to ${width} bytes`);
  }
  const wide = width === 8;
  const first = header(ATOMIC, op, flags);
  u32[word] = first;
  u32[word + 1] = width - 1;
  u32[word + 2] = returns ? 0x100 : 0;
  u32[word + 3] = returns ? akey0 | (akey1 << 16) : akey0;
  u32[word + 4] = lo32(addr0);
  u32[word + 5] = hi32(addr0);
  u32[word + 6] = returns ? lo32(addr1) : 0;
  u32[word + 7] = returns ? hi32(addr1) : 0;
  u32[word + 8] = aLo;
  u32[word + 9] = wide ? aHi : 0;
  u32[word + 10] = bLo;
  u32[word + 11] = wide ? bHi : 0;
  u32[word + 12] = 0;
  u32[word + 13] = 0;
  writeFooter(u32, word, csb);
  return first | 1;
}

/**
 * INTR: raises the interrupt that the key names. Set FE so that it follows the completion of all earlier descriptors.
 * SDXI 1.0 table 6-12, ref §5.5.
 * @returns dword 0 with vl set
 * @throws EncodeError for a key or block that does not fit
 */
export function encodeInterrupt(u32: Uint32Array, word: number, flags: number, csb: number, akey: number): number {
  checkCsb(csb);
  check16('akey', akey);
  const first = header(INTR, IntrOp.INTR, flags);
  u32[word] = first;
  u32[word + 1] = 0;
  u32[word + 2] = 0;
  u32[word + 3] = akey;
  writeZeros(u32, word, 4, 14);
  writeFooter(u32, word, csb);
  return first | 1;
}
