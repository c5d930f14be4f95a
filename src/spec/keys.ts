/**
 * Access keys and remote keys: what an operand of a descriptor may reach. SDXI 1.0 table 3-7, ref §4.7, §4.8, §7.
 */
import { bits, layout, u16 } from './layout.js';

/** AKey table entry: 16 bytes. tgt_sfunc 0 means the local function. SDXI 1.0 table 3-7, ref §4.7. */
export const AKEY_ENT = layout('AKEY_ENT', 16, 'SDXI 1.0 table 3-7, ref §4.7', {
  vl: bits(0, 0, 0, 'valid'),
  iv: bits(0, 1, 1, 'intr_num is valid'),
  pv: bits(0, 2, 2, 'pasid is valid'),
  ste: bits(0, 3, 3, 'steering tag enabled'),
  intr_num: bits(0, 14, 4, 'interrupt vector at the local function'),
  tgt_sfunc: u16(2, 'target function, 0 for the local one'),
  pasid: bits(0, 51, 32, 'address space'),
  ph: bits(0, 63, 62, 'processing hint'),
  stag: u16(8, 'steering tag'),
  rkey: u16(12, 'index into the RKey table of the target function'),
});

/** RKey table entry: 16 bytes. The consent of the target function to one requester. ref §4.8. */
export const RKEY_ENT = layout('RKEY_ENT', 16, 'ref §4.8', {
  vl: bits(0, 0, 0, 'valid'),
  iv: bits(0, 1, 1, 'the requester may raise intr_num'),
  pv: bits(0, 2, 2, 'pasid is valid'),
  ste: bits(0, 3, 3, 'steering tag enabled'),
  intr_num: bits(0, 14, 4, 'interrupt vector at the target function'),
  req_sfunc: u16(2, 'the only function that may use this entry'),
  pasid: bits(0, 51, 32, 'address space in the target function'),
  ph: bits(0, 63, 62, 'processing hint'),
  stag: u16(8, 'steering tag'),
});
