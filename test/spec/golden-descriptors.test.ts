/**
 * The golden descriptors of ref §13.1, with their literal bytes: decoded and encoded again, built from field values through the tables, and
 * built by the hot encoders. G22 and G24 have no encoder form: a driver's mistake, and addresses beyond 2^53 (S-103).
 */
import { describe, expect, it } from 'vitest';
import { DSC_GENERIC } from '../../src/spec/descriptor.js';
import { Descriptor } from '../../src/spec/descriptor-view.js';
import {
  type AnyLayout,
  type AnyValue,
  AtomicOp,
  assemble,
  DescriptorFlag,
  dissect,
  encodeAdminInterrupt,
  encodeAkeyUpdate,
  encodeAtomic,
  encodeContextStart,
  encodeContextStop,
  encodeContextUpdate,
  encodeCopy,
  encodeFunctionUpdate,
  encodeInterrupt,
  encodeNop,
  encodeRepcopy,
  encodeRkeyUpdate,
  encodeSync,
  encodeWriteImmediate,
  fromHex,
  NO_ADDRESS,
  NO_CSB,
  OPERATIONS,
  SyncFilter,
  toHex,
} from '../../src/spec/index.js';

const { FE, SE, CSR } = DescriptorFlag;
const ONE_TO_32 = Uint8Array.from({ length: 32 }, (_, i) => i + 1);

interface Vector {
  title: string;
  operation: string | null;
  hex: string;
  /** Values of the fields that are not zero bits, beside type and subtype. */
  fields: Record<string, AnyValue>;
  /** The hot encoder, if one can build it: writes slot 0 and returns dword 0 with vl set. */
  encode?: (u32: Uint32Array) => number;
}

const VECTORS: Vector[] = [
  {
    title: 'G1 COPY 4096 bytes without completion block',
    operation: 'COPY',
    hex: '00030100ff0f00000000000000000000001000000000000000200000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { size: 4096, addr0: 0x1000n, addr1: 0x2000n, np: 1 },
    encode: (u32) => encodeCopy(u32, 0, 0, NO_CSB, 4096, 0, 0, 0x1000, 0x2000),
  },
  {
    title: 'G2 COPY 1 byte',
    operation: 'COPY',
    hex: '00030100000000000000000000000000001000000000000000200000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { size: 1, addr0: 0x1000n, addr1: 0x2000n, np: 1 },
    encode: (u32) => encodeCopy(u32, 0, 0, NO_CSB, 1, 0, 0, 0x1000, 0x2000),
  },
  {
    title: 'G3 COPY under two keys',
    operation: 'COPY',
    hex: '00030100ff0000000000000001000200001000000000000000200000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { size: 0x100, akey0: 1, akey1: 2, addr0: 0x1000n, addr1: 0x2000n, np: 1 },
    encode: (u32) => encodeCopy(u32, 0, 0, NO_CSB, 0x100, 1, 2, 0x1000, 0x2000),
  },
  {
    title: 'G4 INTR by key 1234',
    operation: 'INTR',
    hex: '000004000000000000000000d2040000000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { akey: 1234, np: 1 },
    encode: (u32) => encodeInterrupt(u32, 0, 0, NO_CSB, 1234),
  },
  {
    title: 'G5 CXT_START.NM of context 2 is fenced',
    operation: 'CXT_START.NM',
    hex: '04030200000000000200020000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { fe: 1, cxt_start: 2, cxt_end: 2, np: 1 },
    encode: (u32) => encodeContextStart(u32, 0, 0, NO_CSB, { first: 2 }),
  },
  {
    title: 'G6 CXT_STOP of context 2 is fenced',
    operation: 'CXT_STOP',
    hex: '04040200000000000200020000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { fe: 1, cxt_start: 2, cxt_end: 2, np: 1 },
    encode: (u32) => encodeContextStop(u32, 0, 0, NO_CSB, { first: 2 }),
  },
  {
    title: 'G7 SYNC on stops of contexts 1…0xffff',
    operation: 'SYNC',
    hex: '00060200010000000100ffff00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { flt: SyncFilter.STOP, cxt_start: 1, cxt_end: 0xffff, np: 1 },
    encode: (u32) => encodeSync(u32, 0, 0, NO_CSB, { filter: SyncFilter.STOP, first: 1, last: 0xffff }),
  },
  {
    title: 'G8 NOP without completion block',
    operation: 'NOP',
    hex: '00010100000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { np: 1 },
    encode: (u32) => encodeNop(u32, 0, 0, NO_CSB),
  },
  {
    title: 'G9 NOP with fe and csr',
    operation: 'NOP',
    hex: '15010100000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { vl: 1, fe: 1, csr: 1, np: 1 },
    encode: (u32) => encodeNop(u32, 0, FE | CSR, NO_CSB),
  },
  {
    title: 'G10 COPY of 8 bytes as the user self test builds it',
    operation: 'COPY',
    hex: '1503010007000000000000000100010000100000007f000000200000007f00000000000000000000000000000000000000000000000000000100000000000000',
    fields: { vl: 1, fe: 1, csr: 1, size: 8, akey0: 1, akey1: 1, addr0: 0x7f0000001000n, addr1: 0x7f0000002000n, np: 1 },
    encode: (u32) => encodeCopy(u32, 0, FE | CSR, NO_CSB, 8, 1, 1, 0x7f0000001000, 0x7f0000002000),
  },
  {
    title: 'G11 COPY of 4 GiB',
    operation: 'COPY',
    hex: '05030100ffffffff0000000000000000000000000100000000000000030000000000000000000000000000000000000000000000000000002000001000000000',
    fields: { vl: 1, fe: 1, size: 2 ** 32, addr0: 0x100000000n, addr1: 0x300000000n, csb_ptr: 0x10000020n },
    encode: (u32) => encodeCopy(u32, 0, FE, 0x10000020, 2 ** 32, 0, 0, 0x100000000, 0x300000000),
  },
  {
    title: 'G12 INTR that ends a batch',
    operation: 'INTR',
    hex: '05000400000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { vl: 1, fe: 1, np: 1 },
    encode: (u32) => encodeInterrupt(u32, 0, FE, NO_CSB, 0),
  },
  {
    title: 'G13 CXT_START.NM with completion block',
    operation: 'CXT_START.NM',
    hex: '05030200000000000100010000000000000000000000000000000000000000000000000000000000000000000000000000000000000000004000001000000000',
    fields: { vl: 1, fe: 1, cxt_start: 1, cxt_end: 1, csb_ptr: 0x10000040n },
    encode: (u32) => encodeContextStart(u32, 0, FE, 0x10000040, { first: 1, last: 1 }),
  },
  {
    title: 'G14 CXT_STOP as the driver stops',
    operation: 'CXT_STOP',
    hex: '05040200000000000100010000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { vl: 1, fe: 1, cxt_start: 1, cxt_end: 1, np: 1 },
    encode: (u32) => encodeContextStop(u32, 0, FE, NO_CSB, { first: 1, last: 1 }),
  },
  {
    title: 'G15 SYNC as the driver waits for a stop',
    operation: 'SYNC',
    hex: '01060200010000000100010000000000000000000000000000000000000000000000000000000000000000000000000000000000000000006000001000000000',
    fields: { vl: 1, flt: SyncFilter.STOP, cxt_start: 1, cxt_end: 1, csb_ptr: 0x10000060n },
    encode: (u32) => encodeSync(u32, 0, 0, 0x10000060, { filter: SyncFilter.STOP, first: 1 }),
  },
  {
    title: 'G16 CXT_START.NM with a 64-bit doorbell value',
    operation: 'CXT_START.NM',
    hex: '04030200004000000500070000000000887766554433221100000000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { fe: 1, dv: 1, cxt_start: 5, cxt_end: 7, db_value: 0x1122334455667788n, np: 1 },
    encode: (u32) => encodeContextStart(u32, 0, 0, NO_CSB, { first: 5, last: 7, doorbell: 0x1122334455667788n }),
  },
  {
    title: 'G17 CXT_STOP hard, of a virtual function',
    operation: 'CXT_STOP',
    hex: '0404020000a009000300040000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { fe: 1, hs: 1, vf: 1, vf_num: 9, cxt_start: 3, cxt_end: 4, np: 1 },
    encode: (u32) => encodeContextStop(u32, 0, 0, NO_CSB, { hard: true, first: 3, last: 4, vf: 9 }),
  },
  {
    title: 'G18 SYNC on keys',
    operation: 'SYNC',
    hex: '00060200020000000100020010001f00000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { flt: SyncFilter.AKEY, cxt_start: 1, cxt_end: 2, key_start: 0x10, key_end: 0x1f, np: 1 },
    encode: (u32) => encodeSync(u32, 0, 0, NO_CSB, { filter: SyncFilter.AKEY, first: 1, last: 2, keyFirst: 0x10, keyLast: 0x1f }),
  },
  {
    title: 'G19 CXT_UPD of level 1, unfenced',
    operation: 'CXT_UPD',
    hex: '00010200020000000100010000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { l1: 1, cxt_start: 1, cxt_end: 1, np: 1 },
    encode: (u32) => encodeContextUpdate(u32, 0, 0, NO_CSB, { l1: true, first: 1 }),
  },
  {
    title: 'G20 WRT_IMM with np=0 and csb_ptr 0',
    operation: 'WRT_IMM',
    hex: '000201000300000000000000000000000020000000000000efbeadde000000000000000000000000000000000000000000000000000000000000000000000000',
    fields: { size: 4, addr0: 0x2000n, data: fromHex('efbeadde') },
    encode: (u32) => encodeWriteImmediate(u32, 0, 0, 0, 4, 0, 0x2000, fromHex('efbeadde'), 0),
  },
  {
    title: 'G21 CXT_START.NM as the prototype builds it',
    operation: 'CXT_START.NM',
    hex: '05030200000000000100010000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { vl: 1, fe: 1, cxt_start: 1, cxt_end: 1, np: 1 },
    encode: (u32) => encodeContextStart(u32, 0, FE, NO_CSB, { first: 1 }),
  },
  {
    title: 'G22 COPY whose size was stored un-decremented is 4097 bytes',
    operation: 'COPY',
    hex: '05030100001000000000000000000000001000000000000000200000000000000000000000000000000000000000000000000000000000008000001000000000',
    fields: { vl: 1, fe: 1, size: 4097, addr0: 0x1000n, addr1: 0x2000n, csb_ptr: 0x10000080n },
  },
  {
    title: 'G23 NOP with fe and se',
    operation: 'NOP',
    hex: '07010100000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { vl: 1, se: 1, fe: 1, np: 1 },
    encode: (u32) => encodeNop(u32, 0, SE | FE, NO_CSB),
  },
  {
    title: 'G24 COPY with every field in use',
    operation: 'COPY',
    hex: '0303010044230100a5000000feff018000000000fffffffff0debc9a78563412000000000000000000000000000000000000000000000000e0ffffffffffff0f',
    fields: {
      vl: 1,
      se: 1,
      size: 0x12345,
      attr: 0xa5,
      akey0: 0xfffe,
      akey1: 0x8001,
      addr0: 0xffffffff00000000n,
      addr1: 0x123456789abcdef0n,
      csb_ptr: 0xfffffffffffffe0n,
    },
  },
  {
    title: 'G25 CXT_START.RS of contexts 1…63',
    operation: 'CXT_START.RS',
    hex: '050802000000000001003f0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000002000002000000000',
    fields: { vl: 1, fe: 1, cxt_start: 1, cxt_end: 63, csb_ptr: 0x20000020n },
    encode: (u32) => encodeContextStart(u32, 0, 0, 0x20000020, { resume: true, first: 1, last: 63 }),
  },
  {
    title: 'G26 CXT_UPD of all levels',
    operation: 'CXT_UPD',
    hex: '010102000700000000007f0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000004000002000000000',
    fields: { vl: 1, l2: 1, l1: 1, ctl: 1, cxt_start: 0, cxt_end: 127, csb_ptr: 0x20000040n },
    encode: (u32) => encodeContextUpdate(u32, 0, 0, 0x20000040, { l2: true, l1: true, ctl: true, first: 0, last: 127 }),
  },
  {
    title: 'G27 SYNC on context tables',
    operation: 'SYNC',
    hex: '01060200000000000100010000000000000000000000000000000000000000000000000000000000000000000000000000000000000000006000002000000000',
    fields: { vl: 1, flt: SyncFilter.CXT, cxt_start: 1, cxt_end: 1, csb_ptr: 0x20000060n },
    encode: (u32) => encodeSync(u32, 0, 0, 0x20000060, { filter: SyncFilter.CXT, first: 1 }),
  },
  {
    title: 'G28 SYNC on remote keys',
    operation: 'SYNC',
    hex: '01060200030000000000000004000500000000000000000000000000000000000000000000000000000000000000000000000000000000008000002000000000',
    fields: { vl: 1, flt: SyncFilter.RKEY, key_start: 4, key_end: 5, csb_ptr: 0x20000080n },
    encode: (u32) => encodeSync(u32, 0, 0, 0x20000080, { filter: SyncFilter.RKEY, keyFirst: 4, keyLast: 5 }),
  },
  {
    title: 'G29 SYNC on the function',
    operation: 'SYNC',
    hex: '0106020004000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000a000002000000000',
    fields: { vl: 1, flt: SyncFilter.FN, csb_ptr: 0x200000a0n },
    encode: (u32) => encodeSync(u32, 0, 0, 0x200000a0, { filter: SyncFilter.FN }),
  },
  {
    title: 'G30 AKEY_UPD of keys 0…255',
    operation: 'AKEY_UPD',
    hex: '0502020000000000010001000000ff00000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { vl: 1, fe: 1, cxt_start: 1, cxt_end: 1, key_start: 0, key_end: 255, np: 1 },
    encode: (u32) => encodeAkeyUpdate(u32, 0, FE, NO_CSB, { first: 1, keyFirst: 0, keyLast: 255 }),
  },
  {
    title: 'G31 RKEY_UPD of keys 4…5 (S-19)',
    operation: 'RKEY_UPD',
    hex: '05070200000000000000000004000500000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { vl: 1, fe: 1, key_start: 4, key_end: 5, np: 1 },
    encode: (u32) => encodeRkeyUpdate(u32, 0, FE, NO_CSB, { keyFirst: 4, keyLast: 5 }),
  },
  {
    title: 'G32 FN_UPD',
    operation: 'FN_UPD',
    hex: '05000200000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { vl: 1, fe: 1, np: 1 },
    encode: (u32) => encodeFunctionUpdate(u32, 0, FE, NO_CSB),
  },
  {
    title: 'G33 ADM_INTR of vector 7 (S-26)',
    operation: 'ADM_INTR',
    hex: '05050200000000000000000007000000000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000',
    fields: { vl: 1, fe: 1, intr_num: 7, np: 1 },
    encode: (u32) => encodeAdminInterrupt(u32, 0, FE, NO_CSB, { vector: 7 }),
  },
  {
    title: 'G34 WRT_IMM of 32 bytes (S-21)',
    operation: 'WRT_IMM',
    hex: '010201001f000000000000000300000003100000000000000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20c000002000000000',
    fields: { vl: 1, size: 32, akey0: 3, addr0: 0x1003n, data: ONE_TO_32, csb_ptr: 0x200000c0n },
    encode: (u32) => encodeWriteImmediate(u32, 0, 0, 0x200000c0, 32, 3, 0x1003, ONE_TO_32, 0),
  },
  {
    title: 'G35 REPCOPY over 1 GiB (S-22)',
    operation: 'REPCOPY',
    hex: '01040100ffffff3f000000000100020000000100000000000000004000000000000000000000000000000000000000000000000000000000e000002000000000',
    fields: { vl: 1, size: 2 ** 30, akey0: 1, akey1: 2, addr0: 0x10000n, addr1: 0x40000000n, csb_ptr: 0x200000e0n },
    encode: (u32) => encodeRepcopy(u32, 0, 0, 0x200000e0, 2 ** 30, 1, 2, 0x10000, 0x40000000),
  },
  {
    title: 'G36 ATOMIC UADD of 64 bits with return data (S-23)',
    operation: 'UADD',
    hex: '01020300070000000001000001000200085000000000000000600000000000000500000000000000000000000000000000000000000000000001002000000000',
    fields: { vl: 1, size: 8, rd: 1, akey0: 1, akey1: 2, addr0: 0x5008n, addr1: 0x6000n, operand_a: 5n, csb_ptr: 0x20000100n },
    encode: (u32) => encodeAtomic(u32, 0, 0, 0x20000100, AtomicOp.UADD, 8, 1, 0x5008, 2, 0x6000, 5, 0, 0, 0),
  },
  {
    title: 'G37 ATOMIC CMPSWAP of 32 bits without return data (S-23)',
    operation: 'CMPSWAP',
    hex: '010e030003000000000000000100000004500000000000000000000000000000efbeadde00000000785634120000000000000000000000002001002000000000',
    fields: { vl: 1, size: 4, akey0: 1, addr0: 0x5004n, operand_a: 0xdeadbeefn, operand_b: 0x12345678n, csb_ptr: 0x20000120n },
    encode: (u32) => encodeAtomic(u32, 0, 0, 0x20000120, AtomicOp.CMPSWAP, 4, 1, 0x5004, 0, NO_ADDRESS, 0xdeadbeef, 0, 0x12345678, 0),
  },
  {
    title: 'G38 an all-zero slot is not ready and no operation',
    operation: null,
    hex: '00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000',
    fields: {},
  },
];

function layoutOf(operation: string | null): AnyLayout {
  return OPERATIONS.find((op) => op.name === operation)?.layout ?? DSC_GENERIC;
}

describe('ref §13.1 golden descriptors', () => {
  it('G1 to G38 are all here', () => {
    expect(VECTORS.map((v) => v.title.split(' ')[0])).toEqual(Array.from({ length: 38 }, (_, i) => `G${i + 1}`));
  });

  for (const vector of VECTORS) {
    const { title, operation, hex, fields } = vector;
    const bytes = fromHex(hex);

    it(`${title}: decode and encode are the identity`, () => {
      const dissection = dissect('descriptor', bytes);
      expect(dissection.operation).toBe(operation);
      expect(dissection.hex).toBe(hex);
      expect(toHex(assemble('descriptor', JSON.parse(JSON.stringify(dissection.fields))))).toBe(hex);
      expect(toHex(DSC_GENERIC.encode(DSC_GENERIC.decode(bytes)))).toBe(hex);
    });

    it(`${title}: the table builds it from its field values`, () => {
      const values = operation === null ? fields : { ...fields, operation };
      expect(toHex(assemble('descriptor', values))).toBe(hex);
      const decoded = layoutOf(operation).decode(bytes);
      expect(decoded.reserved).toBeUndefined();
      const { data, ...numbers } = fields;
      expect(decoded).toMatchObject(numbers);
      if (data instanceof Uint8Array) expect((decoded.data as Uint8Array).subarray(0, data.length)).toEqual(data);
    });

    const encode = vector.encode;
    if (encode) {
      it(`${title}: the hot encoder builds it`, () => {
        const u32 = new Uint32Array(48).fill(0xa5a5a5a5);
        const first = encode(u32.subarray(16));
        expect(u32[16] & 1, 'vl stays clear until the producer publishes').toBe(0);
        expect(first).toBe(u32[16] | 1);
        if (bytes[0] & 1) u32[16] = first;
        expect(toHex(new Uint8Array(u32.buffer, 64, 64))).toBe(hex);
        expect(new Set([...u32.subarray(0, 16), ...u32.subarray(32)]), 'neighbours untouched').toEqual(new Set([0xa5a5a5a5]));
      });
    }
  }

  it('G22 the function reads 4097 bytes', () => {
    const bytes = fromHex(VECTORS[21].hex);
    expect(new Descriptor().at(new Uint32Array(bytes.buffer), 0).size).toBe(4097);
  });

  it('G13 and G21 differ only in their completion block', () => {
    const [g13, g21] = [VECTORS[12].hex, VECTORS[20].hex];
    expect(g13.slice(0, 112)).toBe(g21.slice(0, 112));
    expect(g13.slice(112)).not.toBe(g21.slice(112));
  });
});
