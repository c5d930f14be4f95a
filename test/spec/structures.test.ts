/** The golden structures of ref §13.2, with their literal bytes. */
import { describe, expect, it } from 'vitest';
import {
  AKEY_ENT,
  type AnyLayout,
  type AnyValue,
  ContextState,
  CST_BLK,
  CXT_CTL,
  CXT_L1_ENT,
  CXT_L2_ENT,
  CXT_STS,
  ERRLOG_HD_ENT,
  ErrorStep,
  fromHex,
  Reaction,
  RKEY_ENT,
  SubStep,
  toHex,
  WRITE_INDEX,
} from '../../src/spec/index.js';

const zeros = (n: number) => '00'.repeat(n);
const TYPE = { vl: 1, type: 0x7f7 };

const VECTORS: [title: string, layout: AnyLayout, hex: string, fields: Record<string, AnyValue>][] = [
  ['CXT_L2_ENT valid', CXT_L2_ENT, '0150341200000000', { vl: 1, lv01_ptr: 0x12345000n }],
  [
    'CXT_L1_ENT without PASID',
    CXT_L1_ENT,
    '4322222200000000 0030333300000000 0000b00018000000 0000000000000000',
    { vl: 1, ka: 1, pv: 0, cxt_ctl_ptr: 0x22222240n, akey_sz: 0, akey_ptr: 0x33333000n, cxt_pasid: 0, max_buffer: 11, opb_000_enb: 0x18 },
  ],
  [
    'CXT_L1_ENT with PASID',
    CXT_L1_ENT,
    '4722222200000000 0140333300000000 debc5a00ffffffff 0000000000000000',
    {
      vl: 1,
      ka: 1,
      pv: 1,
      cxt_ctl_ptr: 0x22222240n,
      akey_sz: 1,
      akey_ptr: 0x33334000n,
      cxt_pasid: 0xabcde,
      max_buffer: 5,
      opb_000_enb: 0xffffffff,
    },
  ],
  [
    'CXT_CTL with se and csa',
    CXT_CTL,
    `3100444400000000 0004000000000000 4055555500000000 0066666600000000${zeros(32)}`,
    {
      vl: 1,
      qos: 0,
      se: 1,
      csa: 1,
      ds_ring_ptr: 0x44440000n,
      ds_ring_sz: 1024,
      cxt_sts_ptr: 0x55555540n,
      write_index_ptr: 0x66666600n,
    },
  ],
  ['CXT_STS running, Read_Index 5', CXT_STS, '0100000000000000 0500000000000000', { state: ContextState.RUN, rsh: 0, read_index: 5n }],
  ['Write_Index 2^32 + 1', WRITE_INDEX, '0100000001000000', { write_index: 0x100000001n }],
  ['AKEY_ENT of the context default', AKEY_ENT, '0100000000000000 0000000000000000', { vl: 1 }],
  ['AKEY_ENT of interrupt 3', AKEY_ENT, '3300000000000000 0000000000000000', { vl: 1, iv: 1, intr_num: 3 }],
  ['AKEY_ENT of PASID 0x12345', AKEY_ENT, '0500000045230100 0000000000000000', { vl: 1, pv: 1, pasid: 0x12345 }],
  [
    'AKEY_ENT of a remote function',
    AKEY_ENT,
    '0d00020845230100 bc0a000077000000',
    { vl: 1, pv: 1, ste: 1, tgt_sfunc: 0x0802, pasid: 0x12345, stag: 0xabc, rkey: 0x77 },
  ],
  [
    'AKEY_ENT with every local field in use',
    AKEY_ENT,
    'ff7f0000ffff0fc0 ffff0000ffff0000',
    { vl: 1, iv: 1, pv: 1, ste: 1, intr_num: 2047, tgt_sfunc: 0, pasid: 0xfffff, ph: 3, stag: 0xffff, rkey: 0xffff },
  ],
  ['RKEY_ENT for data', RKEY_ENT, '0500010845230100 0000000000000000', { vl: 1, pv: 1, req_sfunc: 0x0801, pasid: 0x12345 }],
  ['RKEY_ENT for an interrupt', RKEY_ENT, '5300010800000000 0000000000000000', { vl: 1, iv: 1, intr_num: 5, req_sfunc: 0x0801 }],
  ['CST_BLK armed for one descriptor', CST_BLK, `0100000000000000${zeros(24)}`, { signal: 1n, er: 0 }],
  ['CST_BLK done with success', CST_BLK, zeros(32), { signal: 0n, er: 0 }],
  ['CST_BLK done with an error', CST_BLK, `0000000000000000 0000008000000000${zeros(16)}`, { signal: 0n, er: 1 }],
  ['CST_BLK armed with 0xff and done', CST_BLK, `fe00000000000000${zeros(24)}`, { signal: 0xfen, er: 0 }],
  [
    'error record of a buffer translation failure',
    ERRLOG_HD_ENT,
    `010af70717110300 2a00000000000000${zeros(48)}`,
    {
      ...TYPE,
      step: ErrorStep.DSC_BUF,
      cv: 1,
      div: 1,
      bv: 1,
      buf: 1,
      sub_step: SubStep.ATF,
      re: Reaction.CONTEXT_STOPPED,
      cxt_num: 3,
      dsc_index: 0x2an,
    },
  ],
  [
    'error record of an unknown operation',
    ERRLOG_HD_ENT,
    `0107f70703130500 0100000001000000${zeros(48)}`,
    { ...TYPE, step: ErrorStep.DSC_GEN, cv: 1, div: 1, sub_step: SubStep.DVF, re: 1, cxt_num: 5, dsc_index: 0x100000001n },
  ],
  [
    'error record of an invalid L1 entry',
    ERRLOG_HD_ENT,
    `0103f7070113c800${zeros(56)}`,
    { ...TYPE, step: ErrorStep.CXT_L1, cv: 1, sub_step: SubStep.DVF, re: 1, cxt_num: 200 },
  ],
  [
    'error record of an RKey validation failure',
    ERRLOG_HD_ENT,
    `010cf70707130100 0700000000000000${zeros(48)}`,
    { ...TYPE, step: ErrorStep.FN_RKEY, cv: 1, div: 1, bv: 1, buf: 0, sub_step: SubStep.DVF, re: 1, cxt_num: 1, dsc_index: 7n },
  ],
  [
    'error record of an internal function error',
    ERRLOG_HD_ENT,
    `0101f70700200000${zeros(56)}`,
    { ...TYPE, step: ErrorStep.INT, sub_step: SubStep.OTHER, re: Reaction.FUNCTION_STOPPED },
  ],
];

describe('ref §13.2 structures', () => {
  for (const [title, layout, text, fields] of VECTORS) {
    const hex = text.replaceAll(' ', '');

    it(`ref §13.2 ${title}: field values give the bytes`, () => {
      expect(toHex(layout.encode(fields))).toBe(hex);
    });

    it(`ref §13.2 ${title}: bytes give the field values, and nothing reserved`, () => {
      const decoded = layout.decode(fromHex(text));
      expect(decoded).toMatchObject(fields);
      expect(decoded.reserved).toBeUndefined();
      expect(toHex(layout.encode(decoded))).toBe(hex);
    });
  }
});
