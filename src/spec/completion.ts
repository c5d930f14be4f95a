/**
 * Completion status block. SDXI 1.0 table 6-4, ref §4.9.
 */
import { bits, layout, u64 } from './layout.js';

/** Completion status block: 32 bytes. Software arms `signal`, the function decrements it once per descriptor. SDXI 1.0 table 6-4, ref §4.9. */
export const CST_BLK = layout('CST_BLK', 32, 'SDXI 1.0 table 6-4, ref §4.9', {
  signal: u64(0, 'descriptors still to complete; 0 is done'),
  er: bits(8, 31, 31, 'a descriptor failed; sticky, visible no later than its signal'),
});
