import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ArgumentError, EncodeError } from '../../src/errors.js';
import {
  assemble,
  bytesOfKind,
  canonicalKind,
  describeFields,
  dissect,
  ERRLOG_HD_ENT,
  fromHex,
  isRegisterKind,
  KINDS,
  OPERATIONS,
  registerBytes,
  toHex,
} from '../../src/spec/index.js';

describe('dissect and assemble', () => {
  it.each(KINDS)('%s: any bytes come back, through JSON too', (kind) => {
    const length = bytesOfKind(kind);
    fc.assert(
      fc.property(fc.uint8Array({ minLength: length, maxLength: length }), (bytes) => {
        const dissection = dissect(kind, bytes);
        expect(dissection.kind).toBe(kind);
        expect(dissection.hex).toBe(toHex(bytes));
        const { fields } = JSON.parse(JSON.stringify(dissection)) as typeof dissection;
        expect(toHex(assemble(kind, fields))).toBe(toHex(bytes));
      }),
    );
  });

  it.each(OPERATIONS.map((op) => [op.name, op] as const))(
    'a descriptor of %s is read by its own table, reserved bits included',
    (name, op) => {
      fc.assert(
        fc.property(fc.uint8Array({ minLength: 64, maxLength: 64 }), (bytes) => {
          bytes[1] = op.subtype;
          bytes[2] = op.type;
          bytes[3] &= 0xf8;
          const { operation, fields, hex } = dissect('descriptor', bytes);
          expect(operation).toBe(name);
          expect(Object.keys(fields).filter((f) => f !== 'reserved')).toEqual(Object.keys(op.layout.fields));
          expect(toHex(assemble('descriptor', fields))).toBe(hex);
          expect(hex).toBe(toHex(bytes));
        }),
      );
    },
  );

  it('an unknown operation falls back to DSC_GENERIC', () => {
    const { operation, fields } = dissect('descriptor', fromHex(`01040300${'11'.repeat(52)}0100000000000000`));
    expect(operation).toBeNull();
    expect(fields).toEqual({
      vl: 1,
      se: 0,
      fe: 0,
      ch: 0,
      csr: 0,
      rb: 0,
      subtype: 4,
      type: 3,
      body: '11'.repeat(52),
      np: 1,
      csb_ptr: '0x0',
    });
  });

  it('fields are plain data: numbers, 0x strings above 32 bits, bytes in hexadecimal', () => {
    const { fields } = dissect('ctl0', registerBytes(0x0000000700000013n));
    expect(fields).toEqual({ fn_gsr: 3, fn_pasid_vl: 0, fn_err_intr_en: 1, fn_pasid: 0, fn_grp_id: 7 });
    expect(dissect('cxt_sts', fromHex('0100000000000000ffffffffffffffff')).fields.read_index).toBe('0xffffffffffffffff');
    expect(dissect('errlog', ERRLOG_HD_ENT.encode({ vendor: fromHex('0102') })).fields.vendor).toBe(`0102${'00'.repeat(14)}`);
  });

  it('kinds have aliases, in any case', () => {
    expect(canonicalKind('Descriptor')).toBe('descriptor');
    expect(canonicalKind('CXT_CTL')).toBe('cxt_ctl');
    expect(canonicalKind('cxt-l1-ent')).toBe('cxt_l1_ent');
    expect(canonicalKind('akey_ent')).toBe('akey_ent');
    expect(canonicalKind('errlog')).toBe('errlog_hd_ent');
    expect(canonicalKind('MMIO_CAP1')).toBe('cap1');
    expect(canonicalKind('DSC_DMAB_COPY')).toBe('dsc_dmab_copy');
    expect(canonicalKind('csb')).toBe('cst_blk');
  });

  it('cxt_l2 and rkey are the registers, cxt_l2_ent and rkey_ent the entries', () => {
    expect(['ctl0', 'cxt_l2', 'rkey', 'err_wrt'].map(isRegisterKind)).toEqual([true, true, true, true]);
    expect(['cxt_l2_ent', 'rkey_ent', 'descriptor', 'cxt_ctl'].map(isRegisterKind)).toEqual([false, false, false, false]);
  });

  it('assemble takes names of operations and codes, decimal and 0x strings', () => {
    const fields = { operation: 'SYNC', vl: '1', flt: 'STOP', cxt_start: '0x1', cxt_end: '65535', np: 1 };
    expect(toHex(assemble('descriptor', fields)).slice(0, 24)).toBe('01060200010000000100ffff');
  });

  it.each([
    ['an unknown kind', () => dissect('nonsense', new Uint8Array(64)), ArgumentError],
    ['a kind named like an object method', () => dissect('constructor', new Uint8Array(64)), ArgumentError],
    ['a short descriptor', () => dissect('descriptor', new Uint8Array(63)), ArgumentError],
    ['a long register', () => dissect('cap0', new Uint8Array(9)), ArgumentError],
    ['an unknown operation', () => assemble('descriptor', { operation: 'MOVE' }), EncodeError],
    ['an unknown field', () => assemble('cxt_sts', { stat: 1 }), EncodeError],
    ['an unknown code', () => assemble('cxt_sts', { state: 'WALK' }), EncodeError],
    ['text for a number', () => assemble('cxt_sts', { read_index: 'many' }), EncodeError],
    ['text for bytes', () => assemble('errlog', { vendor: 'xyz' }), ArgumentError],
    ['a type that is too wide', () => assemble('descriptor', { type: 0x800 }), EncodeError],
  ])('refuses %s', (_what, run, errorClass) => {
    expect(run).toThrow(errorClass);
  });

  it('describeFields says place, value, name and meaning, and what is reserved', () => {
    const rows = describeFields('cxt_sts', fromHex('f1000000000000000500000000000000'));
    expect(rows).toEqual([
      { name: 'state', place: '0[3:0]', value: 1, valueName: 'RUN', meaning: 'context state' },
      { name: 'rsh', place: '1[0]', value: 0, valueName: undefined, meaning: 'known by name only; kept, never interpreted' },
      { name: 'read_index', place: '8[63:0]', value: '0x5', valueName: undefined, meaning: 'next descriptor the function will take' },
      { name: 'reserved', place: '0[127:0]', value: `f0${'00'.repeat(15)}`, valueName: undefined, meaning: 'reserved bits that are set' },
    ]);
  });
});
