/**
 * Descriptors: 64 bytes, a common header and footer and 52 bytes of body for each operation. SDXI 1.0 ch. 6, ref §5.
 */
import { SyncFilter } from './codes.js';
import { address, bits, bytes, layout, size, u8, u16, u64 } from './layout.js';

/** Bits 31:0 of every descriptor. SDXI 1.0 table 6-3, ref §5.1. */
const HEADER = {
  vl: bits(0, 0, 0, 'valid: owned by the function'),
  se: bits(0, 1, 1, 'sequential: writes of earlier descriptors become visible first'),
  fe: bits(0, 2, 2, 'fence: earlier descriptors of the ring retire first'),
  ch: bits(0, 3, 3, 'chained; 0 for every operation of 1.0 (S-16)'),
  csr: bits(0, 4, 4, 'completion status mode request'),
  rb: bits(0, 5, 5, 'read barrier of later drafts; taken as fe (S-17)'),
  subtype: u8(1, 'operation within the group'),
  type: bits(0, 26, 16, 'operation group'),
} as const;

/** Bits 511:448 of every descriptor. SDXI 1.0 table 6-3, ref §5.1. */
const FOOTER = {
  np: bits(56, 0, 0, 'no completion status block'),
  csb_ptr: address(56, 5, 'completion status block'),
} as const;

/** Bytes 5…7 of every administrative descriptor. ref §5.6. */
const VF = {
  vf: bits(5, 7, 7, 'vf_num is valid: act on that virtual function'),
  vf_num: u16(6, 'virtual function, counted from 1 (S-96)'),
} as const;

const CONTEXTS = {
  cxt_start: u16(8, 'first context'),
  cxt_end: u16(10, 'last context, inclusive'),
} as const;

const KEYS = {
  key_start: u16(12, 'first key'),
  key_end: u16(14, 'last key, inclusive'),
} as const;

/** What all descriptors have in common. SDXI 1.0 table 6-3, ref §5.1. */
export const DSC_GENERIC = layout('DSC_GENERIC', 64, 'SDXI 1.0 table 6-3, ref §5.1', {
  ...HEADER,
  body: bytes(4, 52, 'operation-specific'),
  ...FOOTER,
});

/** No data effect; completes like any other. SDXI 1.0 table 6-6, ref §5.3. */
export const DSC_DMAB_NOP = layout('DSC_DMAB_NOP', 64, 'SDXI 1.0 table 6-6, ref §5.3', { ...HEADER, ...FOOTER });

/** Writes up to 32 bytes that the descriptor carries. ref §5.3, S-21. */
export const DSC_DMAB_WRT_IMM = layout('DSC_DMAB_WRT_IMM', 64, 'SDXI 1.0 table 6-7, ref §5.3', {
  ...HEADER,
  size: size(4, 'bytes to write, 1…32'),
  attr: bits(8, 3, 0, 'hints for the destination'),
  akey0: u16(12, 'destination key'),
  addr0: u64(16, 'destination address'),
  data: bytes(24, 32, 'immediate data'),
  ...FOOTER,
});

/** Copies 1 byte to 4 GiB. SDXI 1.0 table 6-8, ref §5.3. */
export const DSC_DMAB_COPY = layout('DSC_DMAB_COPY', 64, 'SDXI 1.0 table 6-8, ref §5.3', {
  ...HEADER,
  size: size(4, 'bytes to copy'),
  attr: u8(8, 'hints: 3:0 source, 7:4 destination'),
  akey0: u16(12, 'source key'),
  akey1: u16(14, 'destination key'),
  addr0: u64(16, 'source address'),
  addr1: u64(24, 'destination address'),
  ...FOOTER,
});

/** Repeats a block of 4 KiB over a destination. ref §5.3, S-22. */
export const DSC_DMAB_REPCOPY = layout('DSC_DMAB_REPCOPY', 64, 'SDXI 1.0 table 6-9, ref §5.3', {
  ...HEADER,
  size: size(4, 'bytes of the destination'),
  attr: u8(8, 'hints: 3:0 source, 7:4 destination'),
  akey0: u16(12, 'source key'),
  akey1: u16(14, 'destination key'),
  addr0: u64(16, 'source block'),
  addr1: u64(24, 'destination address'),
  ...FOOTER,
});

/** One indivisible read-modify-write. ref §5.4, S-23. */
export const DSC_ATOMIC = layout('DSC_ATOMIC', 64, 'SDXI 1.0 tables 6-10 and 6-11, ref §5.4', {
  ...HEADER,
  size: size(4, 'operand size, 4 or 8 bytes'),
  attr: u8(8, 'hints: 3:0 target, 7:4 return data'),
  rd: bits(9, 0, 0, 'write the old value to addr1'),
  akey0: u16(12, 'target key'),
  akey1: u16(14, 'return-data key'),
  addr0: u64(16, 'target address'),
  addr1: u64(24, 'return-data address'),
  operand_a: u64(32, 'operand A'),
  operand_b: u64(40, 'operand B: the compare value of CMPSWAP'),
  ...FOOTER,
});

/** Raises the interrupt that an AKey names. SDXI 1.0 table 6-12, ref §5.5. */
export const DSC_INTR = layout('DSC_INTR', 64, 'SDXI 1.0 table 6-12, ref §5.5', {
  ...HEADER,
  akey: u16(12, 'key that names the interrupt'),
  ...FOOTER,
});

/** Starts (.NM) or resumes (.RS) contexts. SDXI 1.0 table 6-14, ref §5.6. */
export const DSC_CXT_START = layout('DSC_CXT_START', 64, 'SDXI 1.0 table 6-14, ref §5.6', {
  ...HEADER,
  dv: bits(5, 6, 6, 'db_value is valid'),
  ...VF,
  ...CONTEXTS,
  db_value: u64(16, 'as if written to each doorbell'),
  ...FOOTER,
});

/** Stops contexts. SDXI 1.0 table 6-15, ref §5.6. */
export const DSC_CXT_STOP = layout('DSC_CXT_STOP', 64, 'SDXI 1.0 table 6-15, ref §5.6', {
  ...HEADER,
  hs: bits(5, 5, 5, 'hard stop'),
  ...VF,
  ...CONTEXTS,
  ...FOOTER,
});

/** Waits until earlier stops and updates are in force. SDXI 1.0 table 6-22, ref §5.6. */
export const DSC_SYNC = layout('DSC_SYNC', 64, 'SDXI 1.0 table 6-22, ref §5.6', {
  ...HEADER,
  flt: bits(4, 2, 0, 'what to wait for', SyncFilter),
  ...VF,
  ...CONTEXTS,
  ...KEYS,
  ...FOOTER,
});

/** Tells that context tables have changed. ref §5.6. */
export const DSC_CXT_UPD = layout('DSC_CXT_UPD', 64, 'SDXI 1.0 §4.3.1.1, ref §5.6', {
  ...HEADER,
  l2: bits(4, 0, 0, 'level-2 entries changed'),
  l1: bits(4, 1, 1, 'level-1 entries changed, and what lies below them'),
  ctl: bits(4, 2, 2, 'only CXT_CTL changed'),
  ...VF,
  ...CONTEXTS,
  ...FOOTER,
});

/** Tells that AKey entries have changed. ref §5.6. */
export const DSC_AKEY_UPD = layout('DSC_AKEY_UPD', 64, 'SDXI 1.0 §4.3.1.1, ref §5.6', {
  ...HEADER,
  ...VF,
  ...CONTEXTS,
  ...KEYS,
  ...FOOTER,
});

/** Tells that RKey entries have changed. ref §5.6, S-19. */
export const DSC_RKEY_UPD = layout('DSC_RKEY_UPD', 64, 'SDXI 1.0 §4.3.1.1, ref §5.6', {
  ...HEADER,
  ...VF,
  ...KEYS,
  ...FOOTER,
});

/** Tells that function-level structures have changed. ref §5.6. */
export const DSC_FN_UPD = layout('DSC_FN_UPD', 64, 'SDXI 1.0 §4.3.1.1, ref §5.6', {
  ...HEADER,
  ...VF,
  ...FOOTER,
});

/** Raises an interrupt by number, without a key. ref §5.6, S-26. */
export const DSC_ADM_INTR = layout('DSC_ADM_INTR', 64, 'SDXI 1.0 table 6-1, ref §5.6', {
  ...HEADER,
  ...VF,
  intr_num: bits(12, 10, 0, 'interrupt vector'),
  ...FOOTER,
});
