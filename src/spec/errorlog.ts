/**
 * Error log. SDXI 1.0 §3.4, ref §4.10, §8.
 */
import { ErrorStep, Reaction, SubStep } from './codes.js';
import { bits, bytes, layout, u16, u64 } from './layout.js';

/** Error-log entry: 64 bytes. Fields that are not valid are 0 (S-110). SDXI 1.0 §3.4, ref §4.10. */
export const ERRLOG_HD_ENT = layout('ERRLOG_HD_ENT', 64, 'SDXI 1.0 §3.4, ref §4.10', {
  vl: bits(0, 0, 0, 'valid'),
  step: bits(0, 13, 8, 'processing step that failed', ErrorStep),
  type: bits(0, 26, 16, '0x7f7 in every record, where a descriptor has its type'),
  cv: bits(0, 32, 32, 'cxt_num is valid'),
  div: bits(0, 33, 33, 'dsc_index is valid'),
  bv: bits(0, 34, 34, 'buf is valid'),
  buf: bits(0, 38, 36, 'operand of the descriptor'),
  sub_step: bits(0, 43, 40, 'how it failed', SubStep),
  re: bits(0, 46, 44, 'reaction of the function', Reaction),
  cxt_num: u16(6, 'context'),
  dsc_index: u64(8, 'index (not slot) of the descriptor'),
  err_class: u16(44, 'error class'),
  vendor: bytes(48, 16, 'vendor diagnostics'),
});
