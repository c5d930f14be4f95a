/**
 * Context tables and the structures of one context: level 2 → level 1 → CXT_CTL → ring, CXT_STS, Write_Index. SDXI 1.0 §3.2, ref §4.1-4.6.
 */
import { ContextState } from './codes.js';
import { address, bits, layout, u32, u64 } from './layout.js';

/** Level-2 table entry: 8 bytes, 512 of them, index = context bits 15:7. SDXI 1.0 table 3-2, ref §4.2. */
export const CXT_L2_ENT = layout('CXT_L2_ENT', 8, 'SDXI 1.0 table 3-2, ref §4.2', {
  vl: bits(0, 0, 0, 'valid'),
  lv01_ptr: address(0, 12, 'level-1 table'),
});

/** Level-1 table entry: 32 bytes, 128 of them, index = context bits 6:0. Publish the qword at byte 0 last. SDXI 1.0 table 3-3, ref §4.3. */
export const CXT_L1_ENT = layout('CXT_L1_ENT', 32, 'SDXI 1.0 table 3-3, ref §4.3', {
  vl: bits(0, 0, 0, 'valid'),
  ka: bits(0, 1, 1, 'keep-active hint'),
  pv: bits(0, 2, 2, 'cxt_pasid is valid'),
  cxt_ctl_ptr: address(0, 6, 'context control structure'),
  akey_sz: bits(8, 3, 0, 'the AKey table has 2^(n+8) entries'),
  akey_ptr: address(8, 12, 'AKey table'),
  cxt_pasid: bits(16, 19, 0, 'PASID of ring, CXT_STS, Write_Index and completion blocks'),
  max_buffer: bits(16, 23, 20, 'largest buffer of this context is 2^(n+21) bytes'),
  opb_000_enb: u32(20, 'operation groups enabled, bit n for type n'),
});

/** Context control: 64 bytes. Publish the qword at byte 0 last. SDXI 1.0 table 3-4, ref §4.4. */
export const CXT_CTL = layout('CXT_CTL', 64, 'SDXI 1.0 table 3-4, ref §4.4', {
  vl: bits(0, 0, 0, 'valid'),
  qos: bits(0, 3, 2, 'quality of service'),
  se: bits(0, 4, 4, 'treat every descriptor as if its se were 1'),
  csa: bits(0, 5, 5, 'completion status mode availability'),
  ds_ring_ptr: address(0, 6, 'descriptor ring'),
  ds_ring_sz: u32(8, 'descriptors in the ring'),
  cxt_sts_ptr: address(16, 4, 'context status'),
  write_index_ptr: address(24, 3, 'Write_Index'),
});

/** Context status: 16 bytes, written by the function while the context runs. SDXI 1.0 table 3-5, ref §4.5. */
export const CXT_STS = layout('CXT_STS', 16, 'SDXI 1.0 table 3-5, ref §4.5', {
  state: bits(0, 3, 0, 'context state', ContextState),
  rsh: bits(1, 0, 0, 'known by name only; kept, never interpreted'),
  read_index: u64(8, 'next descriptor the function will take'),
});

/** Write_Index: 8 bytes, a counter that producers advance. SDXI 1.0 ch. 5, ref §4.6. */
export const WRITE_INDEX = layout('WRITE_INDEX', 8, 'SDXI 1.0 ch. 5, ref §4.6', {
  write_index: u64(0, 'descriptors enqueued so far'),
});
